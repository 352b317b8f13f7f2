use changeover::repository::BoxFuture;

struct Photo(Vec<u8>);

trait Listings: Send + Sync {
    fn change(&self, id: i64, to: String) -> BoxFuture<'_, Result<Photo, changeover::proxy::Refused>>;
}

changeover::repository! {
    struct MovingListings: Listings, changeover::proxy::Refused;
    change(id: i64, to: String) -> Photo = write([id]);
}

fn main() {}
