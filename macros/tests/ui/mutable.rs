#[changeover_macros::layered(MovingListings)]
trait Listings {
    #[call(read(id))]
    async fn title(&mut self, id: i64) -> Result<String, Error>;
}

fn main() {}
