//! Where the layers meet the worker: the proxy's ports answered by a [`Migration`].
//!
//! `proxy` knows no SQL and `sync-worker` knows no Tower; this module is the only place that knows
//! both. [`Wiring`] is what an application asks for:
//!
//! 1. [`Wiring::install`] opens a migration from the texts that name it, and begins to copy.
//! 2. [`Wiring::builder`] begins a layer with the flags, the fenced copy and the versions in place.
//! 3. [`Wiring::run`] runs the worker in the background of this process: [`Running`].
//!
//! [`Wiring::new`] takes the parts instead, for a worker that runs elsewhere.
//!
//! ```
//! use changeover::flags::Stage;
//! use changeover::wiring::{RunOptions, Wiring};
//! # use sqlx::Connection as _;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! # let url = |file| format!("sqlite:{}?mode=rwc", folder.join(file).display());
//! # let (legacy_url, new_url) = (url("legacy.db"), url("new.db"));
//! # let mut legacy = sqlx::SqliteConnection::connect(&legacy_url).await?;
//! # sqlx::raw_sql("CREATE TABLE items (id INTEGER PRIMARY KEY NOT NULL, name TEXT)").execute(&mut legacy).await?;
//! # let mut new = sqlx::SqliteConnection::connect(&new_url).await?;
//! # sqlx::raw_sql("CREATE TABLE goods (id INTEGER PRIMARY KEY NOT NULL, label TEXT)").execute(&mut new).await?;
//! let mapping = r#"
//!     revision = 1
//!     root = { table = "items", key = ["id"] }
//!     [[target]]
//!     table = "goods"
//!     owned_by.key = ["id"]
//!     identity = ["id"]
//!     columns = { id = "id", label = "trim(name)" }
//! "#;
//! let wiring = Wiring::install("items", mapping, &legacy_url, &new_url, folder).await?;
//! let worker = wiring.run(RunOptions::default());
//! assert_eq!(wiring.flags().load().serving()?, Stage::DualWrite);
//! // … `wiring.builder()` makes layers; see `repository` …
//! worker.stop().await;
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use changeover_flags::{BadEntity, BadVariable, Entity, Environment, FileStore, Flags, Stage};
use changeover_proxy::{Builder, Changeover, FencedCopy};
use changeover_sync_worker::backfill::BackfillControl;
use changeover_sync_worker::dialect::session::Database;
use changeover_sync_worker::mapping::toml::{BadMapping, TomlMapping};
use changeover_sync_worker::migration::{Migration, MigrationError};
use changeover_sync_worker::preflight::PreflightError;
use changeover_sync_worker::verify::{VerifyOptions, VerifyReport};
use thiserror::Error;
use tokio::sync::Notify;

use crate::causes::Causes;

mod checking;
mod latency;
mod ports;
mod running;

pub use checking::LastCheck;
pub use latency::read_latency_ms;
pub use ports::{Copies, KnownVersions};
pub use running::{RunOptions, Running};

/// One migration as the layers see it. A clone shares everything.
#[derive(Debug, Clone)]
pub struct Wiring {
    migration: Migration,
    flags: Flags,
    last_verify: Arc<Mutex<Option<LastVerify>>>,
    last_checks: Arc<Mutex<BTreeMap<String, LastCheck>>>,
    backfill: Arc<Mutex<Option<BackfillControl>>>,
    /// Told when something is learnt that waits to be stored.
    unstored: Arc<Notify>,
}

/// The last verify of this process.
#[derive(Debug, Clone)]
pub struct LastVerify {
    /// When it ended.
    pub at: SystemTime,
    /// What it found. Its samples name keys.
    pub report: VerifyReport,
}

/// Why a migration could not be installed. The message names the step, the source the reason.
#[derive(Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The entity's name.
    #[error("naming the entity")]
    Entity(#[from] BadEntity),
    /// The text of the mapping.
    #[error("reading the mapping")]
    Mapping(#[from] BadMapping),
    /// A URL.
    #[error("opening the databases")]
    Database(#[from] changeover_sync_worker::store::StoreError),
    /// The mapping does not fit the databases. Nothing was written.
    #[error("checking the mapping against the databases")]
    Preflight(#[from] PreflightError),
    /// A variable that sets a flag.
    #[error("reading the environment")]
    Environment(#[from] BadVariable),
    /// The flags file.
    #[error("restoring the flags")]
    Flags(#[from] changeover_flags::StoreError),
    /// A database refused, or holds another mapping revision.
    #[error("installing")]
    Migration(#[from] MigrationError),
}

/// Every cause, with what to do: this is what is printed of an error that leaves `main`.
impl fmt::Debug for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Causes(self), f)
    }
}

impl Wiring {
    /// How many connections to each side the copies of one layer use.
    pub const COPY_CONNECTIONS: usize = 4;

    /// How many connections to each side the questions of one layer use that its callers wait for; those of
    /// its shadow reads use as many again.
    pub const QUESTION_CONNECTIONS: usize = 2;

    /// How often [`watch`](Wiring::watch) asks for the epoch row unless told otherwise.
    pub const WATCH_EVERY: Duration = Duration::from_secs(1);

    /// Joins a migration and the flags of its entity, and learns the stage once.
    ///
    /// # Errors
    ///
    /// [`MigrationError`] when the stage cannot be learnt and the flags do not know one either.
    pub async fn new(migration: Migration, flags: Flags) -> Result<Wiring, MigrationError> {
        let wiring = Wiring {
            migration,
            flags,
            last_verify: Arc::default(),
            last_checks: Arc::default(),
            backfill: Arc::default(),
            unstored: Arc::default(),
        };
        match wiring.learn().await {
            Err(error) if !wiring.flags.load().known => Err(error),
            _ => Ok(wiring),
        }
    }

    /// Everything from the texts that name it: checks `mapping` (TOML) against both databases
    /// (`postgres://…` or `sqlite:path`, the same one twice if both sides are in it), installs,
    /// enters stage `dual-write` the first time, and restores the flags of
    /// `<flags>/<entity>.toml`, under what the [`environment`](changeover_flags::environment)
    /// fixes. What is done already is not done again, and a stage that somebody
    /// chose is left alone, so an application calls this at every start. Its database role must be
    /// allowed to create tables and triggers.
    ///
    /// The folder `flags` is created by the first start alone (its parent must be there). One that is
    /// missing later is a mistyped one, or not mounted, and a kill may stand in the right one.
    ///
    /// # Errors
    ///
    /// [`InstallError`] names the step. Calling again continues.
    pub async fn install(
        entity: &str,
        mapping: &str,
        legacy_url: &str,
        new_url: &str,
        flags: &Path,
    ) -> Result<Wiring, InstallError> {
        let entity = Entity::new(entity)?;
        let mapping: TomlMapping = mapping.parse()?;
        let (legacy, new) = (Database::open(legacy_url)?, Database::open(new_url)?);
        let environment = Environment::read(&entity)?;
        let migration = Migration::open(entity.clone(), Arc::new(mapping), legacy, new).await?;
        if let Err(MigrationError::NotInstalled { .. }) = migration.epoch().await {
            // What hinders it, the store says with the remedy.
            let _ = std::fs::create_dir(flags);
        }
        // Before the databases are changed: flags that cannot be understood must stop the start.
        let flags = Flags::open(entity.clone(), FileStore::new(flags, &entity))?;
        let flags = flags.fixed_by(environment);
        migration.install().await?;
        Self::first_step(&migration).await?;
        Ok(Wiring::new(migration, flags).await?)
    }

    /// Stage `dual-write`, where nobody has decided anything yet.
    pub(crate) async fn first_step(migration: &Migration) -> Result<(), MigrationError> {
        let epoch = migration.epoch().await?;
        if epoch.stage() != Stage::Legacy {
            return Ok(());
        }
        // Somebody who stopped the copying does not want a restart to begin it again; and where the
        // legacy side came back from a backup, copies would put what the backup holds over newer rows.
        if !epoch.is_untouched() {
            let entity = migration.entity();
            tracing::warn!(%entity, "nothing is copied: somebody stopped it, or the legacy side came back from a backup; changeover install --copy starts it");
            return Ok(());
        }
        match migration.start_copying().await {
            // Another instance that starts at the same time.
            Err(MigrationError::Moved { .. }) => Ok(()),
            moved => moved.map(drop),
        }
    }

    /// Begins a layer: its flags, its follower write and its versions are set, those for shadow reads on
    /// connections of their own.
    #[must_use]
    pub fn builder<Req, Res, E>(&self) -> Builder<(), Req, Res, E>
    where
        Req: Clone + Send + 'static,
        Res: Send + 'static,
        E: Send + 'static,
    {
        Changeover::builder(self.flags.clone())
            .follow(self.follow())
            .versions(self.versions())
            .probe_versions(self.versions())
    }

    /// The migration.
    #[must_use]
    pub fn migration(&self) -> &Migration {
        &self.migration
    }

    /// The flags.
    #[must_use]
    pub fn flags(&self) -> &Flags {
        &self.flags
    }

    /// The follower write for the layer's builder: the fenced copy. It has
    /// [`COPY_CONNECTIONS`](Wiring::COPY_CONNECTIONS) of its own to each side.
    #[must_use]
    pub fn follow(&self) -> FencedCopy<Copies> {
        FencedCopy::new(Copies::new(
            self.migration.copier_apart(Self::COPY_CONNECTIONS),
        ))
    }

    /// What the databases know about versions, for the layer's builder. Each has
    /// [`QUESTION_CONNECTIONS`](Wiring::QUESTION_CONNECTIONS) of its own to each side: a reader
    /// waits for these answers, unless a shadow read asks.
    #[must_use]
    pub fn versions(&self) -> KnownVersions {
        KnownVersions::new(self.migration.copier_apart(Self::QUESTION_CONNECTIONS))
    }

    /// Compares everything, records whether it was clean, learns that, and keeps the report for
    /// [`last_verify`](Wiring::last_verify). It waits for no disk: what it learns is in force, and stored by
    /// whoever [watches](Wiring::watch), or by the next change of a flag.
    ///
    /// # Errors
    ///
    /// As [`Migration::verify`] and [`learn`](Wiring::learn).
    pub async fn verify(&self, options: VerifyOptions) -> Result<VerifyReport, MigrationError> {
        let report = self.migration.verify(options).await?;
        let last = LastVerify {
            at: SystemTime::now(),
            report: report.clone(),
        };
        *self
            .last_verify
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(last);
        self.learn_now().await?;
        Ok(report)
    }

    /// The last [`verify`](Wiring::verify) of this process; the worker makes one from time to time.
    #[must_use]
    pub fn last_verify(&self) -> Option<LastVerify> {
        let last = self.last_verify.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What changes the backfill that the worker of this process makes at the moment, and says what
    /// holds it back; `None` while it makes none.
    #[must_use]
    pub fn backfill(&self) -> Option<BackfillControl> {
        let backfill = self.backfill.lock();
        backfill.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_backfill(&self, control: Option<BackfillControl>) {
        *self.backfill.lock().unwrap_or_else(PoisonError::into_inner) = control;
    }

    /// Asks for the epoch row once. What is learnt is in force at once; this returns when it is stored, too.
    /// Storing blocks none of the runtime's threads, but while a disk hangs this does not return: where that
    /// must not be, [`watch`](Wiring::watch) learns without waiting for it.
    ///
    /// # Errors
    ///
    /// [`MigrationError`] when the database does not answer: the flags keep what they knew. Also when
    /// the entity is not installed, which they take up, too: nothing is copied any more, so reads
    /// go home.
    pub async fn learn(&self) -> Result<(), MigrationError> {
        let (learnt, unstored) = self.ask().await;
        if unstored {
            self.reload().await;
        }
        learnt
    }

    /// The same for where nothing may wait for a disk: whoever watches the stored flags is told to store.
    async fn learn_now(&self) -> Result<(), MigrationError> {
        let (learnt, unstored) = self.ask().await;
        if unstored {
            self.unstored.notify_one();
        }
        learnt
    }

    /// Puts in force what the epoch row says, and says whether that waits to be stored.
    async fn ask(&self) -> (Result<(), MigrationError>, bool) {
        let asking = self.flags.asking();
        let epoch = self.migration.epoch().await;
        let unstored = match &epoch {
            Ok(epoch) => self.flags.learn_answer_now(asking, Some(epoch)),
            Err(MigrationError::NotInstalled { .. }) => self.flags.learn_answer_now(asking, None),
            Err(_) => false,
        };
        (epoch.map(drop), unstored)
    }

    /// Takes up edits of the stored flags and stores what is not stored, where a disk may be waited for.
    async fn reload(&self) {
        let flags = self.flags.clone();
        // What could not be taken up or stored, the flags say, and log it once.
        let reloaded = tokio::task::spawn_blocking(move || drop(flags.reload()));
        if let Err(error) = reloaded.await {
            tracing::error!(%error, "reading the stored flags panicked");
        }
    }

    /// Asks for the epoch row and takes up edits of the stored flags, again and again, until
    /// dropped. Neither waits for the other: a kill in the flags file is taken up while no database
    /// answers, and a stage is learnt while the disk of the flags hangs; it is stored when that answers.
    /// What fails changes nothing: the last known state stands.
    ///
    /// `changeover_flags_trouble` (a gauge, by `entity`) is 1 while the flags in force are not those
    /// that were asked for; see [`Flags::troubles`].
    pub async fn watch(&self, every: Duration) {
        tokio::join!(self.watch_stage(every, || {}), self.watch_flags(every));
    }

    async fn watch_stage(&self, every: Duration, learnt: impl Fn()) {
        loop {
            if let Err(error) = self.learn_now().await {
                tracing::warn!(%error, "the stage was not learnt");
            }
            learnt();
            tokio::time::sleep(every).await;
        }
    }

    async fn watch_flags(&self, every: Duration) {
        let entity = self.flags.entity().as_str().to_owned();
        let trouble = metrics::gauge!("changeover_flags_trouble", "entity" => entity);
        loop {
            self.reload().await;
            trouble.set(f64::from(u8::from(!self.flags.troubles().is_empty())));
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = self.unstored.notified() => {}
            }
        }
    }
}
