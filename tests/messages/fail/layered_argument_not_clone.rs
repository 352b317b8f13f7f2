struct Photo(Vec<u8>);

#[changeover::layered(MovingListings)]
trait Listings {
    #[call(write([id]))]
    async fn change(&self, id: i64, to: Photo) -> Result<bool, changeover::proxy::Refused>;
}

fn main() {}
