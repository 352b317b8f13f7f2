#[changeover_macros::layered(MovingListings)]
trait Listings {
    #[call(read(id))]
    async fn title(&self, id: i64) -> Result<String, ReadError>;
    #[call(write([id]))]
    async fn delete(&self, id: i64) -> Result<(), WriteError>;
}

fn main() {}
