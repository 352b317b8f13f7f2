//! Why a store did not answer.

use thiserror::Error;

use crate::mapping::Fingerprint;

/// Why a store did not answer.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The store was not reached, or the connection broke. Whether the call took effect is not
    /// known. Worth trying again.
    #[error("reaching {store} failed while {doing}")]
    Unreachable {
        /// Which store.
        store: String,
        /// What was being done.
        doing: String,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// Lost against other transactions (deadlock, lock timeout, busy file). Nothing was changed.
    /// Worth trying again.
    #[error("{store} was busy while {doing}")]
    Busy {
        /// Which store.
        store: String,
        /// What was being done.
        doing: String,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// History is being loaded, beside which nothing is copied. Worth trying again.
    #[error(
        "history is being loaded, and copies wait until it is: `changeover backfill` goes on with it where it stopped, `changeover backfill --no-load` gives it up"
    )]
    Loading,
    /// The follower holds another mapping revision than this copier has. Not worth trying again.
    #[error(
        "the follower is at mapping revision {held}, this process has {mine}: deploy the revision that the follower holds; a newer one is raised there by changeover install --raise"
    )]
    Revision {
        /// The revision in the follower's epoch row.
        held: i64,
        /// The revision of the mapping in use.
        mine: i64,
    },
    /// The follower holds another mapping of this copier's revision. Not worth trying again.
    #[error(
        "the follower's mapping of revision {revision} has fingerprint {held}, this process's has {mine}: a mapping was changed without raising its revision; raise it in the mapping, then in the databases by changeover install --raise, or deploy the mapping that is held"
    )]
    Mapping {
        /// The revision of both.
        revision: i64,
        /// The one in the follower's epoch row.
        held: Fingerprint,
        /// Of the mapping in use.
        mine: Fingerprint,
    },
    /// The product's tables are not there.
    #[error("changeover is not installed in {store} ({doing} failed): run install first")]
    NotInstalled {
        /// Which store.
        store: String,
        /// What was being done.
        doing: String,
    },
    /// Others held locks on the tables for longer than the installation was told to wait.
    #[error(
        "{store}: {doing} did not get its locks, and nothing was changed; in the way: {by}; wait until they are done, or end them, then run it again"
    )]
    Locked {
        /// Which store.
        store: String,
        /// What was being done.
        doing: String,
        /// Who held the locks.
        by: String,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// The store refused: a missing table, a missing right, not installed. Not worth trying again
    /// before someone acts.
    #[error("{store} refused while {doing}: {advice}")]
    Refused {
        /// Which store.
        store: String,
        /// What was being done.
        doing: String,
        /// What to do about it.
        advice: String,
        /// The cause.
        #[source]
        source: Option<BoxError>,
    },
}

/// A boxed cause.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl StoreError {
    /// Whether trying again can help without anybody acting.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            StoreError::Unreachable { .. } | StoreError::Busy { .. } | StoreError::Loading
        )
    }
}
