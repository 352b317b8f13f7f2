//! The repository over the old tables, as it always was.

use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tower::Service;

use super::{Answer, Call, Draft, MarketError, ids, listings, one};
use crate::demo::store::{Cell, Cells, Store};

/// The marketplace over `marketplace_listings`.
#[derive(Debug, Clone)]
pub(in crate::demo) struct Legacy {
    pub(in crate::demo) store: Store,
}

/// Appends an entry to the journal of a listing and changes its stock: `$1` id, `$2` entry.
pub(in crate::demo) const TOUCH: &str = "UPDATE marketplace_listings \
     SET stock = stock + 1, journal = journal || $2 WHERE id = $1";

/// Adds a photo: `$1` listing, `$2` position, `$3` address.
pub(in crate::demo) const ADD_PHOTO: &str =
    "INSERT INTO listing_photos (listing_id, position, url) VALUES ($1, $2, $3)";

const SELECT: &str = "SELECT l.id, l.tenant_id, l.title, l.description, \
     nullif(lower(trim(l.category)), ''), lower(trim(l.status)), nullif(trim(l.house_number), ''), \
     nullif(trim(l.street), ''), nullif(trim(l.city), ''), l.price_cents, l.stock, \
     CAST(l.created_at AS TEXT), l.journal, p.position, p.url FROM ";

const GET: &str = "marketplace_listings l LEFT JOIN listing_photos p ON p.listing_id = l.id \
     WHERE l.id = $1 AND l.tenant_id = $2 ORDER BY p.position, p.url";

const NEWEST: &str = "(SELECT * FROM marketplace_listings WHERE tenant_id = $1 \
     ORDER BY id DESC LIMIT 20) l LEFT JOIN listing_photos p ON p.listing_id = l.id \
     ORDER BY l.id DESC, p.position, p.url";

const REPRICE: &str = "UPDATE marketplace_listings \
     SET price_cents = $2, stock = $3, journal = journal || $4 WHERE id = $1 RETURNING id";

const SWITCH: &str = "UPDATE marketplace_listings SET status = $2, journal = journal || $4 \
     WHERE tenant_id = $1 AND lower(trim(status)) = $3 RETURNING id";

const COLUMNS: &str = "tenant_id, title, description, category, status, house_number, street, city, \
     price_cents, stock, created_at, journal";

const VALUES: &str = "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, CAST($11 AS {instant}), $12";

impl Legacy {
    async fn call(self, call: Call) -> Result<Answer, MarketError> {
        match call {
            Call::Get { tenant, id } => {
                Ok(one(self.read(GET, &[id.into(), tenant.into()]).await?))
            }
            Call::Newest { tenant } => Ok(Answer::Listings(listings(
                self.read(NEWEST, &[tenant.into()]).await?,
            ))),
            Call::Reprice {
                id,
                price_cents,
                stock,
                entry,
            } => {
                let cells = [
                    id.into(),
                    price_cents.into(),
                    stock.into(),
                    entry.as_str().into(),
                ];
                self.write(REPRICE, &cells).await
            }
            Call::Switch {
                tenant,
                active,
                entry,
            } => {
                let (to, from) = if active {
                    ("Active ", "paused")
                } else {
                    ("PAUSED", "active")
                };
                self.write(
                    SWITCH,
                    &[tenant.into(), to.into(), from.into(), entry.as_str().into()],
                )
                .await
            }
            Call::Create { draft } => self.insert(None, &draft).await,
            Call::Restore { id, draft } => self.insert(Some(id), &draft).await,
            Call::Delete { id } => self.delete(id).await,
        }
    }

    async fn read(&self, from: &str, cells: &[Cell]) -> Result<Vec<Cells>, MarketError> {
        let rows = self.store.fetch(&format!("{SELECT}{from}"), cells).await;
        rows.map_err(MarketError::Database)
    }

    /// A statement that commits by itself and answers the ids of the rows that it changed.
    async fn write(&self, sql: &str, cells: &[Cell]) -> Result<Answer, MarketError> {
        let rows = self
            .store
            .fetch(sql, cells)
            .await
            .map_err(MarketError::at_commit)?;
        Ok(Answer::Changed(ids(rows)))
    }

    async fn insert(&self, id: Option<i64>, draft: &Draft) -> Result<Answer, MarketError> {
        let mut cells = draft.cells().to_vec();
        let (column, value) = match id {
            Some(id) => {
                cells.push(id.into());
                (", id", ", $13")
            }
            None => ("", ""),
        };
        let sql = format!(
            "INSERT INTO marketplace_listings ({COLUMNS}{column}) VALUES ({VALUES}{value}) RETURNING id"
        );
        let rows = self
            .store
            .fetch(&sql, &cells)
            .await
            .map_err(MarketError::at_commit)?;
        Ok(Answer::Created(ids(rows).pop().unwrap_or_default()))
    }

    /// Two tables in one transaction.
    async fn delete(&self, id: i64) -> Result<Answer, MarketError> {
        let mut work = self.store.begin().await.map_err(MarketError::Database)?;
        let photos = "DELETE FROM listing_photos WHERE listing_id = $1";
        let listing = "DELETE FROM marketplace_listings WHERE id = $1 RETURNING id";
        // The listing's lock first: a photo that is being added must be seen, not raced.
        let lock = "UPDATE marketplace_listings SET stock = stock WHERE id = $1";
        work.execute(lock, &[id.into()])
            .await
            .map_err(MarketError::Database)?;
        work.execute(photos, &[id.into()])
            .await
            .map_err(MarketError::Database)?;
        let rows = work
            .fetch(listing, &[id.into()])
            .await
            .map_err(MarketError::Database)?;
        work.commit().await.map_err(MarketError::at_commit)?;
        Ok(Answer::Changed(ids(rows)))
    }
}

impl Service<Call> for Legacy {
    type Response = Answer;
    type Error = MarketError;
    type Future = BoxFuture<'static, Result<Answer, MarketError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), MarketError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        self.clone().call(call).boxed()
    }
}
