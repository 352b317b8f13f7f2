#[changeover_macros::layered(MovingListings)]
trait Listings<T> {
    #[call(read(id))]
    async fn title(&self, id: i64) -> Result<T, Error>;
}

fn main() {}
