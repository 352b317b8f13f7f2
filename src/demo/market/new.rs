//! The repository over the new tables: its reads join back to the answer that callers know.
//!
//! It has no writes: while legacy leads, rows come here as copies, never as calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tower::Service;

use super::{Answer, Call, MarketError, listings, one};
use crate::demo::store::{Cell, Cells, Store};

/// The marketplace over `service_listings`.
#[derive(Debug, Clone)]
pub(in crate::demo) struct New {
    pub(in crate::demo) store: Store,
    pub(in crate::demo) health: Health,
}

/// How the new side is made to behave.
#[derive(Debug, Clone, Default)]
pub(in crate::demo) struct Health(Arc<AtomicU8>);

impl Health {
    const GOOD: u8 = 0;
    const FAILS: u8 = 1;
    const HANGS: u8 = 2;

    /// Answers again.
    pub(in crate::demo) fn mend(&self) {
        self.0.store(Self::GOOD, Ordering::SeqCst);
    }

    /// Every call is an error.
    pub(in crate::demo) fn fail(&self) {
        self.0.store(Self::FAILS, Ordering::SeqCst);
    }

    /// No call answers.
    pub(in crate::demo) fn hang(&self) {
        self.0.store(Self::HANGS, Ordering::SeqCst);
    }
}

const SELECT: &str = "SELECT s.legacy_listing_id, p.tenant_id, s.title, s.description, c.name, \
     s.status, nullif(a.house_number, ''), nullif(a.street, ''), nullif(a.city, ''), \
     v.price_cents, v.stock, CAST(s.created_at AS TEXT), s.journal, m.position, m.url FROM ";

const JOINED: &str = " s JOIN providers p ON p.id = s.provider_id \
     JOIN listing_variants v ON v.service_listing_id = s.id AND v.name = 'default' \
     LEFT JOIN categories c ON c.id = s.category_id \
     LEFT JOIN addresses a ON a.id = s.address_id \
     LEFT JOIN listing_media m ON m.service_listing_id = s.id ";

const GET: (&str, &str) = (
    "service_listings",
    "WHERE s.legacy_listing_id = $1 AND p.tenant_id = $2 ORDER BY m.position, m.url",
);

const NEWEST: (&str, &str) = (
    "(SELECT l.* FROM service_listings l JOIN providers o ON o.id = l.provider_id \
      WHERE o.tenant_id = $1 ORDER BY l.legacy_listing_id DESC LIMIT 20)",
    "ORDER BY s.legacy_listing_id DESC, m.position, m.url",
);

impl New {
    async fn call(self, call: Call) -> Result<Answer, MarketError> {
        match self.health.0.load(Ordering::SeqCst) {
            Health::FAILS => return Err(MarketError::OutOfOrder),
            Health::HANGS => std::future::pending::<()>().await,
            _ => {}
        }
        match call {
            Call::Get { tenant, id } => {
                Ok(one(self.read(GET, &[id.into(), tenant.into()]).await?))
            }
            Call::Newest { tenant } => Ok(Answer::Listings(listings(
                self.read(NEWEST, &[tenant.into()]).await?,
            ))),
            _ => Err(MarketError::ReadOnly),
        }
    }

    async fn read(
        &self,
        (from, how): (&str, &str),
        cells: &[Cell],
    ) -> Result<Vec<Cells>, MarketError> {
        let sql = format!("{SELECT}{from}{JOINED}{how}");
        self.store
            .fetch(&sql, cells)
            .await
            .map_err(MarketError::Database)
    }
}

impl Service<Call> for New {
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
