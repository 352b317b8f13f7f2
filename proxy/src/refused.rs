//! [`Refused`]: the few calls that the layers themselves refuse.

use changeover_flags::UnknownStage;
use thiserror::Error;

/// A call that was refused before any store was asked. It enters the service's own error type
/// through `E: From<Refused>`; every other error is the service's own.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refused {
    /// The stage was never learnt.
    #[error("choosing a side for {operation}")]
    UnknownStage {
        /// The operation's name.
        operation: &'static str,
        /// What is not known, and the remedy.
        source: UnknownStage,
    },
    /// A read has no key and no routing key, and
    /// [`KeylessReads::Refuse`](crate::KeylessReads::Refuse) was chosen.
    #[error(
        "choosing a side for {operation}: it has no key to take the percentage of; give it one with routed_by, or choose another way for keyless reads"
    )]
    NoKey {
        /// The operation's name.
        operation: &'static str,
    },
}
