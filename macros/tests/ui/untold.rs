#[changeover_macros::layered(MovingListings)]
trait Listings {
    #[call(read(id))]
    async fn title(&self, id: i64) -> Result<String, Error>;
    async fn delete(&self, id: i64) -> Result<(), Error>;
}

fn main() {}
