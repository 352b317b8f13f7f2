#[changeover_macros::layered(MovingListings)]
trait Listings {}

fn main() {}
