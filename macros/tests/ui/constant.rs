#[changeover_macros::layered(MovingListings)]
trait Listings {
    const LIMIT: u32;
}

fn main() {}
