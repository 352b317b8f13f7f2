#[changeover_macros::layered(MovingListings)]
trait Listings {
    #[call(read(name))]
    async fn named(&self, name: &str) -> Result<String, Error>;
}

fn main() {}
