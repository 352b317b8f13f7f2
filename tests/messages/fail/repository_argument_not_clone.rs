use changeover::repository::BoxFuture;

struct Photo(Vec<u8>);

trait Listings: Send + Sync {
    fn change(&self, id: i64, to: Photo) -> BoxFuture<'_, Result<bool, changeover::proxy::Refused>>;
}

changeover::repository! {
    struct MovingListings: Listings, changeover::proxy::Refused;
    change(id: i64, to: Photo) -> bool = write([id]);
}

fn main() {}
