#[changeover_macros::layered(MovingListings)]
trait Listings {
    #[call(write([id]), |done| id)]
    async fn rename(&self, id: i64, title: String) -> Result<bool, Error>;
}

fn main() {}
