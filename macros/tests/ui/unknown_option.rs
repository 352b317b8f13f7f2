#[changeover_macros::layered(MovingListings, errors = Error)]
trait Listings {}

fn main() {}
