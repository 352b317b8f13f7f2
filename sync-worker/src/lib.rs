//! Stamp, copy and fence: the worker of a changeover.
//!
//! The worker carries one entity from its legacy tables to its new ones while the application
//! writes on. It installs triggers that *stamp* every write with a version, *copies* images of keys
//! and writes them behind a *fence* that no older image passes. Dual write, backfill, drain and
//! repair are that one copy with another choice of keys.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`migration`] | one entity between its two databases: where to start |
//! | [`mapping`] | how the authority's rows become the follower's; in TOML or in Rust |
//! | [`preflight`] | what must be true before anything is written |
//! | [`copy`] | the one operation that moves data |
//! | [`drain`], [`backfill`], [`repair`] | copies of what is dirty, of history, of what is wrong |
//! | [`verify`] | compares, and tells lag from divergence |
//! | [`check`] | questions that should find no rows: orphans, row counts, sequences, a team's own |
//! | [`contract`] | what a mapping must keep, tried on a team's own rows |
//! | [`store`] | the two roles of a database, as traits |
//! | [`dialect`] | these roles in SQL, on PostgreSQL and SQLite |
//! | [`guard`] | hooks for the application's own connection pools |
//! | [`pace`], [`progress`], [`metrics`] | how fast, how far, how it went |
//!
//! # Rules
//!
//! 1. A write's stamp is part of the write's own transaction. No other record has to survive.
//! 2. A copy is its own transaction, after the write's commit. It may run twice, late, out of order,
//!    next to itself, or be dropped half-way: the fence makes each such copy a copy of nothing.
//! 3. A key is clean only once the follower's commit was confirmed. An error is never an answer.
//! 4. What the follower refuses stays dirty and says why: waiting, or blocked.
//! 5. No clock, lease or timeout takes part in correctness; they only save work.
//!
//! # Not promised
//!
//! - That the follower is up to date at any moment: it is at most as old as the reported lag.
//! - Anything about rows that somebody writes past the triggers (as a superuser who disables them):
//!   such a difference is found by [`verify`], not prevented.
//! - A write cutover: this version carries data one way, legacy to new.
//!
//! # Example
//!
//! ```no_run
//! use std::sync::Arc;
//! use changeover_flags::Entity;
//! use changeover_sync_worker::backfill::BackfillOptions;
//! use changeover_sync_worker::dialect::session::Database;
//! use changeover_sync_worker::mapping::toml::TomlMapping;
//! use changeover_sync_worker::migration::Migration;
//! use changeover_sync_worker::verify::VerifyOptions;
//!
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! let mapping: TomlMapping = std::fs::read_to_string("listings.toml")?.parse()?;
//! let migration = Migration::open(
//!     Entity::new("listings")?,
//!     Arc::new(mapping),
//!     Database::open("sqlite:legacy.db")?,
//!     Database::open("sqlite:new.db")?,
//! )
//! .await?;
//! migration.install().await?;
//! let epoch = migration.start_copying().await?;
//! migration.backfill(BackfillOptions::default()).run(|_| {}).await?;
//! migration.record_backfill(&epoch).await?;
//! assert!(migration.verify(VerifyOptions::default()).await?.clean());
//! # Ok(()) }
//! ```

pub mod migration;

pub mod mapping;

pub mod preflight;

pub mod image;
pub mod store;
pub mod sum;

pub mod copy;

pub mod backfill;
pub mod check;
pub mod contract;
pub mod drain;
pub mod preview;
pub mod repair;
pub mod verify;

pub mod dialect;
pub mod guard;

pub mod metrics;
pub mod pace;
pub mod progress;
mod turns;

#[cfg(test)]
mod memory;
