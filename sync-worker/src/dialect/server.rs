//! [`Server`]: what can be asked of an engine that is a server of its own, and set on it.

use std::time::Duration;

use super::Statement;
use super::load::{Load, Question};
use super::watched::Presence;

/// An engine that is a server, with other clients, statistics and limits.
pub trait Server: Send + Sync {
    /// How it is asked what it does for a connection.
    fn presence(&self) -> Presence;

    /// How many rows a table has, as its statistics know without reading it.
    fn known_rows(&self, table: &str) -> Statement<'_>;

    /// What tells how loaded it is. `None` where there is no such thing.
    fn load(&self, load: Load) -> Option<Question>;

    /// What makes it end each statement of a connection that takes longer than this.
    fn statement_limit(&self, within: Duration) -> String;
}
