//! What the service knows about listings, wherever they are stored.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::api::Error;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Listing {
    pub(crate) id: i64,
    pub(crate) seller: i64,
    pub(crate) title: String,
    pub(crate) state: String,
    pub(crate) price_cents: i64,
    pub(crate) photos: Vec<String>,
}

/// What a seller types.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Draft {
    pub(crate) seller: i64,
    pub(crate) title: String,
    pub(crate) price_cents: i64,
}

pub(crate) type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// The repository.
pub(crate) trait Listings: Send + Sync {
    fn get(&self, id: i64) -> Answer<'_, Option<Listing>>;

    fn of_seller(&self, seller: i64) -> Answer<'_, Vec<Listing>>;

    /// The database chooses the id.
    fn create(&self, draft: Draft) -> Answer<'_, Listing>;

    /// Whether there is such a listing.
    fn update(&self, id: i64, draft: Draft) -> Answer<'_, bool>;

    /// Two tables, one transaction. Whether there is such a listing.
    fn replace_photos(&self, id: i64, urls: Vec<String>) -> Answer<'_, bool>;

    /// Closes whatever the seller still offers, and says how many.
    fn close_all(&self, seller: i64) -> Answer<'_, u64>;

    /// Whether there was such a listing.
    fn delete(&self, id: i64) -> Answer<'_, bool>;
}

/// What either store selects for a listing; the photos are a JSON array.
pub(crate) type Row = (i64, i64, String, String, i64, String);

impl Listing {
    pub(crate) fn from_row(
        (id, seller, title, state, price_cents, photos): Row,
    ) -> Result<Self, Error> {
        let photos = serde_json::from_str(&photos)?;
        Ok(Listing {
            id,
            seller,
            title,
            state,
            price_cents,
            photos,
        })
    }

    /// As it is right after it was created.
    pub(crate) fn created(id: i64, draft: Draft) -> Listing {
        Listing {
            id,
            seller: draft.seller,
            title: draft.title,
            state: "active".to_owned(),
            price_cents: draft.price_cents,
            photos: Vec::new(),
        }
    }
}
