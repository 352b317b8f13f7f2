struct Photo(Vec<u8>);

#[changeover::layered(MovingListings)]
trait Listings {
    #[call(write([id]))]
    async fn change(&self, id: i64, to: String) -> Result<Photo, changeover::proxy::Refused>;
}

fn main() {}
