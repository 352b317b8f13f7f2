use changeover::proxy::Refused;

#[derive(serde::Serialize)]
struct Photo(Vec<u8>);

#[derive(Debug)]
struct Error;

impl From<Refused> for Error {
    fn from(_: Refused) -> Error {
        Error
    }
}

#[changeover::layered(MovingListings)]
trait Listings {
    #[call(read(id))]
    async fn photo(&self, id: i64) -> Result<Photo, Error>;
    #[call(write([id]))]
    async fn rename(&self, id: i64, title: String) -> Result<(), Error>;
}
