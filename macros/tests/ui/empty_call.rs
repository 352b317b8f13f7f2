#[changeover_macros::layered(MovingListings)]
trait Listings {
    #[call()]
    async fn title(&self, id: i64) -> Result<String, Error>;
}

fn main() {}
