#[changeover_macros::layered(MovingListings)]
trait Listings {
    #[call(read(id))]
    fn title(&self, id: i64) -> Result<String, Error>;
}

fn main() {}
