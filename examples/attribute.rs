//! A trait of `async fn` behind the layer by one attribute. The two repositories are maps in
//! memory, so that the attribute is what is seen; `closures` and `axum_after` move real tables.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use changeover::flags::{Entity, Epoch, Flags, Percent};
use changeover::proxy::{Changeover, Refused};
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Listing {
    id: i64,
    seller: String,
    title: String,
}

#[changeover::layered(MovingListings)]
trait Listings {
    #[call(read(id))]
    async fn get(&self, id: i64) -> Result<Option<Listing>, Refused>;
    #[call(list().routed_by(seller).keyed_by(["id"]))]
    async fn of_seller(&self, seller: String) -> Result<Vec<Listing>, Refused>;
    #[call(insert(), |listing| listing.id)]
    async fn create(&self, seller: String, title: String) -> Result<Listing, Refused>;
    #[call(write([id]))]
    async fn retitle(&self, id: i64, title: String) -> Result<bool, Refused>;
    #[call(bulk(seller))]
    async fn close_all(&self, seller: String) -> Result<u64, Refused>;

    /// A method with a body is nobody's call: the calls in it are.
    async fn title(&self, id: i64) -> Result<Option<String>, Refused>
    where
        Self: Sync,
    {
        Ok(self.get(id).await?.map(|listing| listing.title))
    }
}

/// One of the two stores.
#[derive(Debug, Clone, Default)]
struct Store(Arc<Mutex<BTreeMap<i64, Listing>>>);

impl Store {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<i64, Listing>) -> T) -> Result<T, Refused> {
        Ok(work(&mut self.0.lock().expect("nobody panics")))
    }
}

impl Listings for Store {
    async fn get(&self, id: i64) -> Result<Option<Listing>, Refused> {
        self.with(|rows| rows.get(&id).cloned())
    }

    async fn of_seller(&self, seller: String) -> Result<Vec<Listing>, Refused> {
        let of = |row: &&Listing| row.seller == seller;
        self.with(|rows| rows.values().filter(of).cloned().collect())
    }

    async fn create(&self, seller: String, title: String) -> Result<Listing, Refused> {
        self.with(|rows| {
            let id = rows.len() as i64 + 1;
            let listing = Listing { id, seller, title };
            rows.insert(id, listing.clone());
            listing
        })
    }

    async fn retitle(&self, id: i64, title: String) -> Result<bool, Refused> {
        self.with(|rows| rows.get_mut(&id).map(|row| row.title = title).is_some())
    }

    async fn close_all(&self, seller: String) -> Result<u64, Refused> {
        self.with(|rows| {
            let before = rows.len();
            rows.retain(|_, row| row.seller != seller);
            (before - rows.len()) as u64
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flags = Flags::memory(Entity::new("listings")?);
    // What the worker reads from the legacy database.
    flags.learn(&Epoch::READY)?;
    let (legacy, new) = (Store::default(), Store::default());
    // With a worker: `wiring.builder()`, and copies follow.
    let builder = Changeover::builder(flags.clone());
    let listings = MovingListings::around(builder, legacy.clone(), new.clone())?;

    let lamp = listings.create("ada".into(), "lamp".into()).await?;
    assert_eq!(legacy.title(lamp.id).await?.as_deref(), Some("lamp"));
    // Somebody copies; then the new side answers, unless this process has just written.
    new.with(|rows| {
        rows.insert(
            9,
            Listing {
                id: 9,
                ..lamp.clone()
            },
        )
    })?;
    flags.set_read_new(Percent::HUNDRED)?;
    assert_eq!(listings.title(9).await?.as_deref(), Some("lamp"));
    assert_eq!(
        listings.title(lamp.id).await?.as_deref(),
        Some("lamp"),
        "its own write"
    );
    assert!(listings.retitle(lamp.id, "desk lamp".into()).await?);
    assert_eq!(
        listings.get(lamp.id).await?.map(|one| one.title),
        Some("desk lamp".into())
    );
    assert_eq!(listings.close_all("ada".into()).await?, 1);
    assert_eq!(
        listings.of_seller("ada".into()).await?,
        [],
        "the authority, until it is drained"
    );
    println!("the attribute's calls went where they should");
    Ok(())
}
