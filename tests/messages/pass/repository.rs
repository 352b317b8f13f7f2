use changeover::proxy::Refused;
use changeover::repository::BoxFuture;

#[derive(serde::Serialize)]
struct Photo(Vec<u8>);

trait Listings: Send + Sync {
    fn photo(&self, id: i64) -> BoxFuture<'_, Result<Photo, Refused>>;
    fn rename(&self, id: i64, title: String) -> BoxFuture<'_, Result<(), Refused>>;
}

changeover::repository! {
    struct MovingListings: Listings, Refused;
    photo(id: i64) -> Photo = read(id);
    rename(id: i64, title: String) -> () = write([id]);
}
