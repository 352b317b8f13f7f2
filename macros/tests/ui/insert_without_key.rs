#[changeover_macros::layered(MovingListings)]
trait Listings {
    #[call(insert())]
    async fn create(&self, title: String) -> Result<i64, Error>;
}

fn main() {}
