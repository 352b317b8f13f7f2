//! A typed repository behind the layer without any macro: two structs of different types, with
//! inherent `async` methods and an error type of their own, and one more that is both of them. In
//! memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use changeover::flags::{Entity, Epoch, Flags, Percent};
use changeover::proxy::{Changeover, Handle, Incomplete, Operation, Refused};
use changeover::repository::{Answer, Call, Either, Layered};
use serde::Serialize;

/// What the application means, whichever tables it comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Listing {
    id: i64,
    title: String,
    cents: i64,
}

#[derive(Debug, thiserror::Error)]
enum ShopError {
    #[error("a price is not negative")]
    NegativePrice,
    /// The layer's own refusals.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// One table; prices in euros.
#[derive(Debug, Clone, Default)]
struct LegacyListings(Arc<Mutex<BTreeMap<i64, (String, f64)>>>);

/// Two tables; prices in cents.
#[derive(Debug, Clone, Default)]
struct NewListings {
    titles: Arc<Mutex<BTreeMap<i64, String>>>,
    cents: Arc<Mutex<BTreeMap<i64, i64>>>,
}

impl LegacyListings {
    async fn find(&self, id: i64) -> Result<Option<Listing>, ShopError> {
        let rows = self.0.lock().expect("nobody panics");
        Ok(rows.get(&id).map(|(title, euros)| Listing {
            id,
            title: title.clone(),
            cents: (euros * 100.0).round() as i64,
        }))
    }

    async fn save(&self, listing: Listing) -> Result<(), ShopError> {
        if listing.cents < 0 {
            return Err(ShopError::NegativePrice);
        }
        let row = (listing.title, listing.cents as f64 / 100.0);
        let mut rows = self.0.lock().expect("nobody panics");
        rows.insert(listing.id, row);
        Ok(())
    }
}

impl NewListings {
    async fn find(&self, id: i64) -> Result<Option<Listing>, ShopError> {
        let title = self.titles.lock().expect("nobody panics").get(&id).cloned();
        let cents = self.cents.lock().expect("nobody panics").get(&id).copied();
        Ok(title
            .zip(cents)
            .map(|(title, cents)| Listing { id, title, cents }))
    }

    async fn save(&self, listing: Listing) -> Result<(), ShopError> {
        let mut titles = self.titles.lock().expect("nobody panics");
        titles.insert(listing.id, listing.title);
        let mut cents = self.cents.lock().expect("nobody panics");
        cents.insert(listing.id, listing.cents);
        Ok(())
    }
}

type Both = Either<LegacyListings, NewListings>;

/// What the application holds while the listings move: the same methods, the same types.
#[derive(Clone)]
struct Listings(Layered<Both, ShopError>);

impl Listings {
    fn around(
        builder: changeover::proxy::Builder<(), Call<Both, ShopError>, Answer, ShopError>,
        legacy: LegacyListings,
        new: NewListings,
    ) -> Result<Listings, Incomplete> {
        Layered::either(builder, legacy, new).map(Listings)
    }

    async fn find(&self, id: i64) -> Result<Option<Listing>, ShopError> {
        let touched = Operation::read("find", id);
        let find = self.0.call(touched, move |both| match both {
            Either::Legacy(on) => Box::pin(on.find(id)),
            Either::New(on) => Box::pin(on.find(id)),
        });
        find.await
    }

    async fn save(&self, listing: Listing) -> Result<(), ShopError> {
        let touched = Operation::write("save", [listing.id]);
        let save = self.0.call(touched, move |both| match both {
            Either::Legacy(on) => Box::pin(on.save(listing.clone())),
            Either::New(on) => Box::pin(on.save(listing.clone())),
        });
        save.await
    }

    fn handle(&self) -> Handle {
        self.0.handle()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flags = Flags::memory(Entity::new("listings")?);
    // What the worker reads from the legacy database.
    flags.learn(&Epoch::READY)?;
    let (legacy, new) = (LegacyListings::default(), NewListings::default());
    // With a worker: `wiring.builder()`, and copies follow.
    let builder = Changeover::builder(flags.clone());
    let listings = Listings::around(builder, legacy.clone(), new.clone())?;
    let listing = |id, cents| Listing {
        id,
        title: "lamp".into(),
        cents,
    };

    listings.save(listing(1, 1_999)).await?;
    assert_eq!(legacy.find(1).await?, Some(listing(1, 1_999)));
    // Somebody copies another one; then the new side answers for it.
    new.save(listing(2, 500)).await?;
    flags.set_read_new(Percent::HUNDRED)?;
    assert_eq!(listings.find(2).await?, Some(listing(2, 500)));
    assert_eq!(
        listings.find(1).await?,
        Some(listing(1, 1_999)),
        "its own write, from the authority until it is copied"
    );
    // The application's errors stay the application's.
    let refused = listings.save(listing(3, -1)).await;
    assert!(matches!(refused, Err(ShopError::NegativePrice)));

    let left = listings
        .handle()
        .close_and_wait(std::time::Duration::from_secs(5))
        .await;
    assert!(left.is_complete());
    println!("typed calls went where they should");
    Ok(())
}
