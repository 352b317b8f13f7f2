#[changeover_macros::layered]
trait Listings {}

fn main() {}
