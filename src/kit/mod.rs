//! A contract test for a team's own mapping and repositories: [`Kit`].
//!
//! A mapping is the one thing in a changeover that nobody but you can write, and the repositories
//! were written long before it. This module tries on your own tables what the product relies on, in
//! a test of one line:
//!
//! ```no_run
//! # const MAPPING: &str = "";
//! # async fn test(legacy_url: String, new_url: String) -> Result<(), Box<dyn std::error::Error>> {
//! use changeover::kit::Kit;
//!
//! Kit::open("listings", MAPPING, &legacy_url, &new_url).await?.check().await.assert_holds();
//! # Ok(()) }
//! ```
//!
//! The URLs name two scratch databases (SQLite files, or PostgreSQL databases; one database twice, if
//! both sides will be in one) with your schemas and some rows on the legacy side. **A copy of real rows
//! finds the most**: it has the nulls, the spaces and the orphans that no fixture has. The kit installs
//! itself there, copies into the new tables, and changes legacy rows within transactions that it rolls
//! back; the writes you give it are committed. So it refuses databases in which the entity is installed
//! already, and it leaves the databases as they are at its end: make them for the test, and throw them
//! away.
//!
//! # What is checked
//!
//! | rule | what is done | what it finds |
//! | --- | --- | --- |
//! | deterministic | each image is read twice, from two connections, a second apart | `random()`, `now()`, a setting of the session |
//! | total | each key is copied | rows without an image: a panic, a failing cast; images that the new tables refuse |
//! | round trip | what was copied is found again, field by field | triggers, defaults and types of the new tables that change it |
//! | deletes | each key is deleted on the new side and brought back | tables that refer to it and are no targets |
//! | stamps | rows of **every** legacy table are changed, one column at a time; whose image changes must be stamped | a table that the mapping reads and does not declare; a wrong `key` or `keys` |
//! | reads agree | both repositories are asked for each key, and for keys that do not exist | a forgotten filter, `NULL` as `''` |
//! | cancelled | a write is polled 1, 2, 3, … times and dropped | half a write, a transaction that stays open, a key that stays dirty |
//! | interleaved | two writes of one key at once, the later one ending first, and in turn | a result that the two sides do not share |
//! | lost answers | a write is committed and its answer lost | a write that never reaches the new side |
//!
//! The first five need nothing but the mapping. The others need your repositories:
//!
//! ```no_run
//! # use changeover::kit::{Key, Kit};
//! # use changeover::proxy::Refused;
//! # #[derive(Clone)] struct Listings;
//! # impl Listings {
//! #     async fn get(&self, _: i64) -> Result<Option<String>, Refused> { Ok(None) }
//! #     async fn retitle(&self, _: i64, _: String) -> Result<(), Refused> { Ok(()) }
//! # }
//! # async fn test(kit: Kit, legacy: Listings, new: Listings, layered: Listings) {
//! let id = |key: Key| key.as_str().parse().expect("ids are numbers");
//! let kit = kit
//!     .reads_agree(
//!         "get",
//!         move |key| { let legacy = legacy.clone(); async move { legacy.get(id(key)).await } },
//!         move |key| { let new = new.clone(); async move { new.get(id(key)).await } },
//!     )
//!     .writes("retitle", move |key, n| {
//!         let layered = layered.clone();
//!         async move { layered.retitle(id(key), format!("title {n}")).await }
//!     });
//! kit.check().await.assert_holds();
//! # }
//! ```
//!
//! A `Service` is a closure as well: `move |key| legacy.clone().oneshot(Call::Get(id(key)))`. The writes
//! go through the layer, as in production: make it with [`Kit::wiring`]'s
//! [`builder`](crate::wiring::Wiring::builder).
//!
//! # Reading the report
//!
//! Each finding names the key, the rule, what was seen, and a remedy:
//!
//! ```text
//! stamps         BROKEN     tried on 96
//! [stamps] key 7: changing column name of tenants (id 2) changes its image (listing.0.provider_name)
//!     and does not stamp it: the change would never be copied
//!     remedy: the mapping reads table tenants without saying so: add [source.tenants] …
//! [stamps] not tried: photos.id: a unique value is taken (SQLite code 1555)
//! ```
//!
//! Values of rows are not shown unless [`Options::redaction`] says so; keys are. The text of an error
//! that a closure answers may quote a row, so it counts as a value, of the field `error`:
//! `Redaction::new().show("error")` shows it. Its class ([`Kit::error_class`]) is always shown.
//!
//! What could not be tried is listed as *not tried* and counts for nothing: a column whose constraints
//! refuse every other value, a table without rows, a check that you gave no closure for, two writes of which one
//! answers an error when they meet. Look at the
//! list once; [`Report::not_tried`] lets a test insist. A read that shows something on neither side for any key
//! that is on both (no row, an empty list, an error) breaks its rule: nothing was compared. So does a write that
//! answers nothing but errors.
//!
//! # Not promised
//!
//! - A rule is tried on the rows that are there, at most [`Options::keys`] of them.
//! - A clock that moves by the day looks the same in two readings. Where the mapping's SQL names one
//!   (`current_date`), the report says that it was not tried; in a mapping in Rust nobody sees it.
//! - A lookup on the new side is asked as it is; what happens when its rows come later is not tried.
//! - Writes are tried on at most 3 keys: the first, the middle and the last of those that were copied. A
//!   write that breaks a rule on one is not tried on the next. Where it leaves the sides different on its key, no
//!   write is tried further on that key; where it leaves a transaction open, or a key dirty, none is tried
//!   further at all. What is left out is listed as *not tried*.
//! - A call that takes longer than a minute is taken for one that does not end.
//! - An answer that wraps an empty list, or a zero, shows something: two that are alike agree.
//! - SQLite does not tell of a transaction that stays open without having written.
//! - The checks of writes show an order of events by suspending your closures between polls; what
//!   happens inside one database call is the database's.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use changeover_flags::{BadEntity, Entity, Flags};
use changeover_shadow::{Json, Observe, Rules};
use changeover_sync_worker::contract::Contract;
use changeover_sync_worker::dialect::session::Database;
use changeover_sync_worker::mapping::Mapping;
use changeover_sync_worker::mapping::toml::{BadMapping, TomlMapping};
use changeover_sync_worker::migration::{Migration, MigrationError};
use changeover_sync_worker::preflight::PreflightError;
use changeover_sync_worker::store::StoreError;
use serde::Serialize;
use thiserror::Error;

use crate::causes::Causes;
use crate::wiring::Wiring;

mod answers;
mod failed;
mod overlap;
mod reads;
mod rest;
mod writes;

pub use answers::LostAnswers;
pub use changeover_flags::Key;
pub use changeover_sync_worker::contract::{
    ContractOptions as Options, Finding, NotTried, Report, Rule,
};
use failed::Errors;
use reads::Read;
use writes::{Given, Write};

/// The contract test of one entity, in two scratch databases.
pub struct Kit {
    wiring: Wiring,
    options: Options,
    reads: Vec<Read>,
    writes: Vec<Write>,
    errors: Errors,
    answers: LostAnswers,
}

impl fmt::Debug for Kit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kit")
            .field("wiring", &self.wiring)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Why a kit could not be opened. Nothing was checked.
#[derive(Error)]
#[non_exhaustive]
pub enum KitError {
    /// The entity's name.
    #[error("naming the entity")]
    Entity(#[from] BadEntity),
    /// The text of the mapping.
    #[error("reading the mapping")]
    Mapping(#[from] BadMapping),
    /// A URL.
    #[error("opening the databases")]
    Database(#[from] StoreError),
    /// The mapping does not fit the databases.
    #[error("checking the mapping against the databases")]
    Preflight(#[from] PreflightError),
    /// The databases may be somebody's migration, or another run's.
    #[error(
        "{0} is installed in these databases already: the kit writes to them, so give it scratch copies of its own, and take the installation out of these (Migration::uninstall)"
    )]
    Installed(Entity),
    /// A database refused.
    #[error("installing")]
    Migration(#[from] MigrationError),
}

/// Every cause, with what to do: this is what is printed of an error that leaves `main`.
impl fmt::Debug for KitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Causes(self), f)
    }
}

impl Kit {
    /// Checks `mapping` (TOML) against two scratch databases, installs in them, and begins to copy.
    ///
    /// # Errors
    ///
    /// [`KitError`]. A mapping that does not fit is told with every problem, and nothing was
    /// written.
    pub async fn open(
        entity: &str,
        mapping: &str,
        legacy_url: &str,
        new_url: &str,
    ) -> Result<Kit, KitError> {
        let mapping: TomlMapping = mapping.parse()?;
        Kit::with_mapping(entity, Arc::new(mapping), legacy_url, new_url).await
    }

    /// The same for a mapping that is written in Rust.
    ///
    /// # Errors
    ///
    /// As [`open`](Kit::open).
    pub async fn with_mapping(
        entity: &str,
        mapping: Arc<dyn Mapping>,
        legacy_url: &str,
        new_url: &str,
    ) -> Result<Kit, KitError> {
        let entity = Entity::new(entity)?;
        let (legacy, new) = (Database::open(legacy_url)?, Database::open(new_url)?);
        let migration = Migration::open(entity.clone(), mapping, legacy, new).await?;
        match migration.epoch().await {
            Err(MigrationError::NotInstalled { .. }) => {}
            Ok(_) => return Err(KitError::Installed(entity)),
            Err(error) => return Err(error.into()),
        }
        migration.install().await?;
        migration.start_copying().await?;
        Ok(Kit {
            wiring: Wiring::new(migration, Flags::memory(entity)).await?,
            options: Options::default(),
            reads: Vec::new(),
            writes: Vec::new(),
            errors: Errors::default(),
            answers: LostAnswers::default(),
        })
    }

    /// How much is looked at.
    #[must_use]
    pub fn options(mut self, options: Options) -> Kit {
        self.options = options;
        self
    }

    /// The migration and flags of the scratch databases, for the layer that the writes go through.
    #[must_use]
    pub fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    /// What loses answers, to be put around the calls of the legacy repository, inside the layer.
    #[must_use]
    pub fn lost_answers(&self) -> LostAnswers {
        self.answers.clone()
    }

    /// A read whose answers must be the same on both sides, compared as they serialise: `null` is
    /// *not found*. Both closures ask their repository directly, without the layer.
    #[must_use]
    pub fn reads_agree<T, E, L, N>(
        self,
        name: &str,
        legacy: impl Fn(Key) -> L + Send + Sync + 'static,
        new: impl Fn(Key) -> N + Send + Sync + 'static,
    ) -> Kit
    where
        T: Serialize + Send + 'static,
        E: fmt::Display + Send + 'static,
        L: Future<Output = Result<T, E>> + Send + 'static,
        N: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.reads_agree_by(name, Json, Rules::new(), legacy, new)
    }

    /// The same with an observer and compare rules of your own: those of the layer, best.
    #[must_use]
    pub fn reads_agree_by<T, E, L, N>(
        mut self,
        name: &str,
        observe: impl Observe<T> + 'static,
        rules: Rules,
        legacy: impl Fn(Key) -> L + Send + Sync + 'static,
        new: impl Fn(Key) -> N + Send + Sync + 'static,
    ) -> Kit
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
        L: Future<Output = Result<T, E>> + Send + 'static,
        N: Future<Output = Result<T, E>> + Send + 'static,
    {
        let read = Read::new(name, observe, rules, legacy, new);
        self.reads.push(read);
        self
    }

    /// Names the class of an error that the data call for (`sold_out`), as
    /// [the layer's](crate::proxy::Builder::error_class): a read that fails alike on both
    /// sides agrees, and two classes are a difference. `None` for a side in trouble, which says
    /// nothing of the data. May be called once for each type of errors.
    #[must_use]
    pub fn error_class<E: 'static>(
        mut self,
        class: impl Fn(&E) -> Option<&'static str> + Send + Sync + 'static,
    ) -> Kit {
        self.errors.classed(class);
        self
    }

    /// A write of an existing key, through the layer: `write(key, n)`. It is called many times, must
    /// leave the key in place, and should write something else for each `n` (`format!("title {n}")`).
    #[must_use]
    pub fn writes<T, E, F>(
        mut self,
        name: &str,
        write: impl Fn(Key, u32) -> F + Send + Sync + 'static,
    ) -> Kit
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.writes.push(Write::new(name, write));
        self
    }

    /// Checks every rule. A database that does not answer breaks the rule that was being tried.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn check(&self) -> Report {
        let contract = Contract::new(self.wiring.migration().clone(), self.options.clone());
        let mut report = Report::default();
        let copied = self.check_mapping(&contract, &mut report).await;
        self.check_reads(&contract, &copied, &mut report).await;
        self.check_writes(&contract, &copied, &mut report).await;
        report
    }

    /// Answers the keys that are on both sides.
    async fn check_mapping(&self, contract: &Contract, report: &mut Report) -> Vec<Key> {
        let sample = match contract.sample().await {
            Ok(sample) => sample,
            Err(error) => {
                unanswered(report, Rule::Deterministic, &error);
                return Vec::new();
            }
        };
        if sample.keys.is_empty() {
            report.add_not_tried(
                Rule::Deterministic,
                "every key",
                "the root table has no rows",
            );
        }
        let resting = match contract.images(&sample, report).await {
            Ok(resting) => resting,
            Err(error) => {
                unanswered(report, Rule::Deterministic, &error);
                return Vec::new();
            }
        };
        let moving = sample.keys.len() - resting.keys.len();
        if moving > 0 {
            let what = format!("{moving} keys");
            report.add_not_tried(Rule::Total, what, "their images do not rest");
        }
        let copied = match contract.copies(&resting, report).await {
            Ok(copied) => copied,
            Err(error) => {
                unanswered(report, Rule::Total, &error);
                Vec::new()
            }
        };
        if let Err(error) = contract.stamps(&resting, report).await {
            unanswered(report, Rule::Stamps, &error);
        }
        copied
    }

    async fn check_reads(&self, contract: &Contract, copied: &[Key], report: &mut Report) {
        if self.reads.is_empty() {
            report.add_not_tried(Rule::Reads, "reads", "none was given (Kit::reads_agree)");
            return;
        }
        let absent = match contract.absent(copied).await {
            Ok(absent) => absent,
            Err(error) => return unanswered(report, Rule::Reads, &error),
        };
        if absent.is_empty() {
            let why = "no key could be made that no row has";
            report.add_not_tried(Rule::Reads, "keys that do not exist", why);
        }
        for read in &self.reads {
            let redaction = &self.options.redaction;
            read.check(copied, &absent, &self.errors, redaction, report)
                .await;
        }
    }

    async fn check_writes(&self, contract: &Contract, copied: &[Key], report: &mut Report) {
        let given = Given {
            writes: &self.writes,
            answers: &self.answers,
            errors: &self.errors,
            redaction: &self.options.redaction,
        };
        if let Err(error) = writes::check(contract, &given, copied, report).await {
            unanswered(report, Rule::Cancelled, &error);
        }
    }
}

/// A check that could not be made has not passed.
fn unanswered(report: &mut Report, rule: Rule, error: &StoreError) {
    let cause = std::error::Error::source(error);
    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    report.add(Finding {
        rule,
        key: None,
        found: format!("the check could not be made: {error}{cause}"),
        remedy: "mend what the database says, and run the check again".into(),
    });
}
