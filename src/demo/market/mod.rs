//! The application: a marketplace whose repository is a `tower::Service`, once over the old
//! tables ([`Legacy`]) and once over the new ones ([`New`]).
//!
//! This is the code that a team has before it knows of `changeover`: its own SQL, its own pools,
//! one type for all calls. What it adds for the layer stands in [`classify`] and [`observe`].

mod legacy;
mod new;

use changeover_proxy::{Classify, Failure, Kind, Operation, Refused, Touched, with_written};
use changeover_shadow::{Json, Observe as _, Value};
use serde::Serialize;

pub(super) use legacy::{ADD_PHOTO, Legacy, TOUCH};
pub(super) use new::{Health, New};

use super::store::{Cell, Cells};

/// What the marketplace can do.
#[derive(Debug, Clone)]
pub(super) enum Call {
    /// One listing of a tenant with its photos.
    Get { tenant: i64, id: i64 },
    /// The newest listings of a tenant.
    Newest { tenant: i64 },
    /// A new price and stock for one listing.
    Reprice {
        id: i64,
        price_cents: i64,
        stock: i64,
        entry: String,
    },
    /// Every active listing of a tenant pauses, or every paused one becomes active.
    Switch {
        tenant: i64,
        active: bool,
        entry: String,
    },
    /// A new listing; the database gives it its id.
    Create { draft: Draft },
    /// A listing that was deleted comes back under its id.
    Restore { id: i64, draft: Draft },
    /// A listing goes, its photos first.
    Delete { id: i64 },
}

/// A listing that is to be written.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) tenant: i64,
    pub(super) title: String,
    pub(super) description: Option<String>,
    pub(super) category: Option<String>,
    pub(super) status: String,
    pub(super) house_number: Option<String>,
    pub(super) street: Option<String>,
    pub(super) city: Option<String>,
    pub(super) price_cents: i64,
    pub(super) stock: i64,
    pub(super) created_at: String,
    pub(super) journal: String,
}

/// What the marketplace answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// One listing, if there is one.
    Listing(Option<Box<Listing>>),
    /// Several.
    Listings(Vec<Listing>),
    /// The ids of the rows that were changed; `None` says that the keys were known before.
    Changed(Vec<i64>),
    /// The id of a new listing.
    Created(i64),
}

/// A listing as the application shows it, whichever schema it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Listing {
    pub(super) id: i64,
    tenant: i64,
    title: String,
    description: Option<String>,
    category: Option<String>,
    status: String,
    house_number: Option<String>,
    street: Option<String>,
    city: Option<String>,
    price_cents: i64,
    stock: i64,
    created_at: String,
    pub(super) journal: String,
    photos: Vec<(i64, String)>,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum MarketError {
    /// The database refused, or did not answer; nothing was committed.
    #[error("the database did not do it")]
    Database(#[source] sqlx::Error),
    /// The answer to a commit did not arrive.
    #[error("the answer to a commit was lost")]
    Commit(#[source] sqlx::Error),
    /// The new side is made to fail.
    #[error("the new side is out of order")]
    OutOfOrder,
    /// The new repository does not write while legacy leads.
    #[error("the new repository takes no writes yet")]
    ReadOnly,
    /// The layer refused.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl MarketError {
    /// An error of a statement that commits by itself, or of a `COMMIT`.
    fn at_commit(error: sqlx::Error) -> MarketError {
        // A server that goes down (57) or a connection that breaks (08) may have committed first.
        let lost = |code: &str| code.starts_with("57") || code.starts_with("08");
        match &error {
            sqlx::Error::Database(refused) if !refused.code().is_some_and(|code| lost(&code)) => {
                MarketError::Database(error)
            }
            _ => MarketError::Commit(error),
        }
    }

    /// What an error of a write means.
    pub(super) fn failure(&self) -> Failure {
        match self {
            MarketError::Commit(_) => Failure::Unknown,
            _ => Failure::Definite,
        }
    }
}

/// The names of the operations, for the metrics.
pub(super) const OPERATIONS: [&str; 7] = [
    "get", "newest", "reprice", "switch", "create", "restore", "delete",
];

/// What the layer must know of a call: its name, its shape, and what it touches.
pub(super) fn classify() -> impl Classify<Call, Answer> {
    with_written(
        |call: &Call| match call {
            // With the tenant, so that a bulk write of another tenant does not hold it up.
            Call::Get { tenant, id } => Operation::read("get", *id).routed_by(tenant.to_string()),
            Call::Newest { tenant } => Operation::list("newest")
                .routed_by(tenant.to_string())
                .keyed_by(["id"])
                .in_order()
                .tolerates_lag(),
            Call::Reprice { id, .. } => Operation::write("reprice", [*id]),
            Call::Switch { tenant, .. } => Operation::bulk("switch", tenant.to_string()),
            Call::Create { .. } => Operation::insert("create"),
            Call::Restore { id, .. } => Operation::write("restore", [*id]),
            Call::Delete { id } => Operation::write("delete", [*id]),
        },
        |operation: &Operation, answer: &Answer| match (operation.kind, answer) {
            (Kind::Insert, Answer::Created(id)) => Some(Touched::keys([*id])),
            _ => None,
        },
    )
}

/// How two answers are compared.
pub(super) fn observe(answer: &Answer) -> Option<Value> {
    match answer {
        Answer::Listing(listing) => listing.as_deref().and_then(|listing| Json.observe(listing)),
        Answer::Listings(listings) => Json.observe(listings),
        Answer::Changed(_) | Answer::Created(_) => Some(Value::Null),
    }
}

/// Rows of a listing joined with its photos, folded into listings.
fn listings(rows: Vec<Cells>) -> Vec<Listing> {
    let mut listings: Vec<Listing> = Vec::new();
    for mut row in rows {
        let id = row.int();
        if listings.last().is_none_or(|listing| listing.id != id) {
            listings.push(Listing {
                id,
                tenant: row.int(),
                title: row.text().unwrap_or_default(),
                description: row.text(),
                category: row.text(),
                status: row.text().unwrap_or_default(),
                house_number: row.text(),
                street: row.text(),
                city: row.text(),
                price_cents: row.int(),
                stock: row.int(),
                created_at: row.text().unwrap_or_default(),
                journal: row.text().unwrap_or_default(),
                photos: Vec::new(),
            });
        } else {
            row.skip(12);
        }
        let position = row.int();
        if let (Some(listing), Some(url)) = (listings.last_mut(), row.text()) {
            listing.photos.push((position, url));
        }
    }
    listings
}

fn one(rows: Vec<Cells>) -> Answer {
    Answer::Listing(listings(rows).pop().map(Box::new))
}

fn ids(rows: Vec<Cells>) -> Vec<i64> {
    rows.into_iter().map(|mut row| row.int()).collect()
}

impl Draft {
    /// The arguments of an insert, in the order of the columns.
    pub(super) fn cells(&self) -> [Cell; 12] {
        let optional = |text: &Option<String>| Cell::from(text.as_deref());
        [
            self.tenant.into(),
            self.title.as_str().into(),
            optional(&self.description),
            optional(&self.category),
            self.status.as_str().into(),
            optional(&self.house_number),
            optional(&self.street),
            optional(&self.city),
            self.price_cents.into(),
            self.stock.into(),
            self.created_at.as_str().into(),
            self.journal.as_str().into(),
        ]
    }
}
