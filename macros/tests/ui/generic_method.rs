#[changeover_macros::layered(MovingListings)]
trait Listings {
    #[call(read(id))]
    async fn title<T>(&self, id: i64) -> Result<T, Error>;
}

fn main() {}
