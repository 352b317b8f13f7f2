//! Stamp, copy and fence: the worker of a changeover.

pub mod dialect;
pub mod guard;
pub mod image;
pub mod mapping;
pub mod migration;
pub mod preflight;
pub mod store;
pub mod copy;
pub mod drain;
pub mod backfill;
pub mod verify;
pub mod repair;
pub mod pace;
pub mod metrics;
pub mod progress;
#[cfg(test)]
mod memory;
