#[derive(Debug)]
struct Error;

#[changeover::layered(MovingListings)]
trait Listings {
    #[call(write([id]))]
    async fn change(&self, id: i64, to: String) -> Result<bool, Error>;
}

fn main() {}
