//! The listings while they move from the legacy tables to the new ones. Then this file goes.

use crate::api::Error;
use crate::listings::{Draft, Listing, Listings};

changeover::repository! {
    /// Both repositories behind the layer: what each method reads or writes.
    pub(crate) struct MovingListings: Listings, Error;
    get(id: i64) -> Option<Listing> = read(id);
    of_seller(seller: i64) -> Vec<Listing> = list().routed_by(seller.to_string()).keyed_by(["id"]);
    create(draft: Draft) -> Listing = insert(), |listing| listing.id;
    update(id: i64, draft: Draft) -> bool = write([id]);
    replace_photos(id: i64, urls: Vec<String>) -> bool = write([id]);
    close_all(seller: i64) -> u64 = bulk(seller.to_string());
    delete(id: i64) -> bool = write([id]);
}
