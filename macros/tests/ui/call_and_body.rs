#[changeover_macros::layered(MovingListings)]
trait Listings {
    #[call(read(id))]
    async fn title(&self, id: i64) -> Result<String, Error> {
        Ok(String::new())
    }
}

fn main() {}
