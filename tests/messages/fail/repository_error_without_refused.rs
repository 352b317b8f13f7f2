use changeover::repository::BoxFuture;

#[derive(Debug)]
struct Error;

trait Listings: Send + Sync {
    fn change(&self, id: i64, to: String) -> BoxFuture<'_, Result<bool, Error>>;
}

changeover::repository! {
    struct MovingListings: Listings, Error;
    change(id: i64, to: String) -> bool = write([id]);
}

fn main() {}
