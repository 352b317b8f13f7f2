#[changeover_macros::layered(MovingListings)]
trait Listings {
    #[call(read(id))]
    async fn title(&self, id: i64) -> anyhow::Result<String>;
}

fn main() {}
