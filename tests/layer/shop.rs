//! An application's data layer over the marketplace: plain SQL behind `Service<Call>`, once for the
//! legacy tables and once for the new ones, and the layer around them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use changeover::flags::{Flags, Percent};
use changeover::proxy::{
    Changeover, ChangeoverLayer, Handle, Limits, Operation, Refused, Token, Touched, with_written,
};
use changeover::shadow::{Json, Redaction};
use changeover::wiring::Wiring;
use serde::Serialize;
use sqlx::AssertSqlSafe;
use thiserror::Error;
use tower::{Layer, Service, ServiceExt};

use crate::protocol::market::{Market, Plain};
use crate::protocol::plain::on_pool;

#[derive(Debug, Clone)]
pub enum Call {
    Get(i64, Option<Token>),
    /// The listings of a tenant: all of them, or the page after so many.
    OfTenant(i64, Option<u32>),
    Retitle(i64, String),
    Append(i64, String),
    Create(String),
    CloseAll,
    Delete(i64),
    /// The same call, its key under another spelling.
    As(&'static str, Box<Call>),
}

/// A listing of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    id: i64,
    title: String,
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    Lines(Vec<Line>),
    Title(Option<String>),
    #[serde(skip)]
    Id(i64),
    #[serde(skip)]
    Done,
}

#[derive(Debug, Error)]
pub enum ShopError {
    #[error("the database")]
    Database(#[from] sqlx::Error),
    #[error("the layer")]
    Refused(#[from] Refused),
    #[error("injected")]
    Injected,
}

/// What the new side's service does instead of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Trouble {
    None,
    Fails,
    Hangs,
    Panics,
    NotReady,
    Absent,
}

/// The application's queries on one side.
#[derive(Clone)]
pub struct Shop {
    tables: Plain,
    new: bool,
    trouble: Arc<AtomicU8>,
    asked: Arc<AtomicU64>,
}

impl Shop {
    pub fn new(tables: Plain, new: bool) -> Shop {
        Shop {
            tables,
            new,
            trouble: Arc::default(),
            asked: Arc::default(),
        }
    }

    /// How many calls have come to it, whatever became of them.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    pub fn trouble(&self, trouble: Trouble) {
        self.trouble.store(trouble as u8, Ordering::SeqCst);
    }

    fn is(&self, trouble: Trouble) -> bool {
        self.trouble.load(Ordering::SeqCst) == trouble as u8
    }

    async fn answer(self, call: Call) -> Result<Reply, ShopError> {
        if self.is(Trouble::Fails) {
            return Err(ShopError::Injected);
        }
        if self.is(Trouble::Panics) {
            panic!("injected");
        }
        if self.is(Trouble::Hangs) {
            std::future::pending::<()>().await;
        }
        if self.is(Trouble::Absent) {
            return Ok(Reply::Title(None));
        }
        let tables = &self.tables;
        let write = |sql: String| async move { tables.try_run(&sql).await };
        match call {
            Call::Get(id, _) => {
                let sql = if self.new {
                    format!("SELECT title FROM service_listings WHERE legacy_id = {id}")
                } else {
                    format!("SELECT title FROM listings WHERE id = {id}")
                };
                Ok(Reply::Title(self.tables.title(&sql).await?))
            }
            _ if self.new && !matches!(call, Call::As(..) | Call::OfTenant(..)) => {
                unreachable!("the new repository's writes are not called while legacy leads")
            }
            Call::OfTenant(tenant, after) => Ok(Reply::Lines(self.lines(tenant, after).await)),
            Call::As(_, call) => Box::pin(self.clone().answer(*call)).await,
            Call::Retitle(id, title) => {
                write(format!(
                    "UPDATE listings SET title = '{title}' WHERE id = {id}"
                ))
                .await?;
                Ok(Reply::Done)
            }
            Call::Append(id, token) => {
                write(format!(
                    "UPDATE listings SET title = coalesce(title, '') || '{token};' WHERE id = {id}"
                ))
                .await?;
                Ok(Reply::Done)
            }
            Call::CloseAll => {
                write("UPDATE listings SET status = 'SOLD' WHERE status <> 'SOLD'".into()).await?;
                Ok(Reply::Done)
            }
            Call::Delete(id) => {
                write(format!("DELETE FROM photos WHERE listing_id = {id}; DELETE FROM listings WHERE id = {id}")).await?;
                Ok(Reply::Done)
            }
            Call::Create(title) => {
                let sql = format!(
                    "INSERT INTO listings (tenant_id, title, status) VALUES (1, '{title}', 'ACTIVE') RETURNING '' || id"
                );
                let id = self
                    .tables
                    .title(&sql)
                    .await?
                    .and_then(|id| id.parse().ok());
                Ok(Reply::Id(id.unwrap_or_default()))
            }
        }
    }
}

impl Shop {
    async fn lines(&self, tenant: i64, after: Option<u32>) -> Vec<Line> {
        let page = after.map_or(String::new(), |after| format!(" LIMIT 3 OFFSET {after}"));
        let sql = if self.new {
            format!(
                "SELECT s.legacy_id || '|' || s.status || '|' || coalesce(s.title, '-') FROM service_listings s \
                 JOIN providers p ON p.id = s.provider_id WHERE p.tenant_id = {tenant} ORDER BY s.legacy_id DESC{page}"
            )
        } else {
            format!(
                "SELECT id || '|' || lower(trim(status)) || '|' || coalesce(title, '-') FROM listings \
                 WHERE tenant_id = {tenant} ORDER BY id DESC{page}"
            )
        };
        let line = |text: String| {
            let mut parts = text.splitn(3, '|');
            let mut part = || parts.next().unwrap().to_owned();
            let (id, status) = (part().parse().unwrap(), part());
            Line {
                id,
                title: part(),
                status,
            }
        };
        let lines = self.tables.texts(&sql).await.into_iter();
        lines.map(line).collect()
    }
}

impl Plain {
    /// One optional text, through the pool as an application would.
    async fn title(&self, sql: &str) -> Result<Option<String>, sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        on_pool!(self, |pool| {
            let title = sqlx::query_scalar::<_, Option<String>>(sql);
            Ok(title.fetch_optional(pool).await?.flatten())
        })
    }
}

impl Service<Call> for Shop {
    type Response = Reply;
    type Error = ShopError;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, ShopError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ShopError>> {
        if self.is(Trouble::NotReady) {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }

    fn call(&mut self, call: Call) -> Self::Future {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(self.clone().answer(call))
    }
}

/// How long an instance waits for the new side, unless a test makes that hang.
const PATIENT: Duration = Duration::from_secs(10);

pub type Layered = Changeover<Shop, Shop, Call, Reply, ShopError>;

/// One instance of the application: its flags, its layer, its handle.
pub struct Instance {
    pub wiring: Wiring,
    pub service: Layered,
    pub handle: Handle,
    pub new: Shop,
}

fn operation(call: &Call) -> Operation {
    match call {
        Call::Get(id, None) => Operation::read("get", *id),
        Call::Get(id, Some(token)) => Operation::read("get", *id).not_older_than(token.clone()),
        Call::OfTenant(tenant, _) => Operation::list("of_tenant")
            .routed_by(tenant.to_string())
            .keyed_by(["id"])
            .in_order()
            .tolerates_lag(),
        Call::Retitle(id, _) => Operation::write("retitle", [*id]),
        Call::Append(id, _) => Operation::write("append", [*id]),
        Call::Delete(id) => Operation::write("delete", [*id]),
        Call::Create(_) => Operation::insert("create"),
        Call::CloseAll => Operation::bulk_all("close_all"),
        Call::As(key, call) => {
            let mut operation = operation(call);
            operation.touched = Touched::keys([*key]);
            operation
        }
    }
}

impl Instance {
    /// An instance over a market whose migration is `wiring`'s.
    pub async fn start(market: &Market, wiring: Wiring, follow: bool) -> Instance {
        Instance::showing(market, wiring, follow, Redaction::new().show_keys()).await
    }

    /// One that asks the authority whether a key is dirty, by these flags. It copies nothing.
    pub async fn strict(market: &Market, flags: Flags) -> Instance {
        let wiring = Wiring::new(market.open().await, flags).await.unwrap();
        Instance::built(market, wiring, (false, true), Redaction::new(), PATIENT).await
    }

    /// The same, showing of differences what `redaction` lets it.
    pub async fn showing(
        market: &Market,
        wiring: Wiring,
        follow: bool,
        redaction: Redaction,
    ) -> Instance {
        Instance::built(market, wiring, (follow, false), redaction, PATIENT).await
    }

    /// One with flags of its own, which copies, and waits for the new side only so long.
    pub async fn hasty(market: &Market, follower_time: Duration) -> Instance {
        let flags = Flags::memory(Market::entity());
        let wiring = Wiring::new(market.open().await, flags).await.unwrap();
        let redaction = Redaction::new().show_keys();
        Instance::built(market, wiring, (true, false), redaction, follower_time).await
    }

    async fn built(
        market: &Market,
        wiring: Wiring,
        (follow, strict): (bool, bool),
        redaction: Redaction,
        follower_time: Duration,
    ) -> Instance {
        let new = Shop::new(market.new.clone(), true);
        let limits = Limits {
            // Each read counts as one: a timed one that stands for sixteen would be drawn by chance.
            time_one_in: 1,
            follower_time,
            shadow_time: follower_time,
            second_look_after: Duration::from_millis(20),
            sweep_every: Duration::from_millis(20),
            ask_time: Duration::from_secs(5),
            ..Limits::default()
        };
        let builder = Changeover::builder(wiring.flags().clone())
            .classify(with_written(
                operation,
                |_: &Operation, reply: &Reply| match reply {
                    Reply::Id(id) => Some(Touched::keys([*id])),
                    _ => None,
                },
            ))
            .observe(Json)
            .redaction(redaction)
            .strict(strict)
            .operations(["get", "retitle", "append", "delete", "create", "close_all"])
            .new_service(new.clone())
            .versions(wiring.versions())
            .limits(limits);
        let layer: ChangeoverLayer<Shop, Call, Reply, ShopError> = if follow {
            builder.follow(wiring.follow()).build().unwrap()
        } else {
            builder.build().unwrap()
        };
        Instance {
            handle: layer.handle(),
            service: layer.layer(Shop::new(market.legacy.clone(), false)),
            new,
            wiring,
        }
    }

    /// An instance with flags of its own.
    pub async fn of(market: &Market, follow: bool) -> Instance {
        let flags = Flags::memory(Market::entity());
        let wiring = Wiring::new(market.open().await, flags).await.unwrap();
        Instance::start(market, wiring, follow).await
    }

    pub async fn call(&self, call: Call) -> Result<Reply, ShopError> {
        self.service.clone().oneshot(call).await
    }

    pub async fn title(&self, id: i64) -> Option<String> {
        match self.call(Call::Get(id, None)).await.unwrap() {
            Reply::Title(title) => title,
            other => panic!("{other:?}"),
        }
    }

    pub fn read_new(&self, percent: Percent) {
        self.wiring.flags().set_read_new(percent).unwrap();
    }
}
