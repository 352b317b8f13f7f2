//! The graceful end of a process.

use std::time::Duration;

use super::Handle;
use crate::pins::PinCount;

/// What was left when the drain ended. Nothing of it is lost: what was written is dirty by its own
/// commit, and the worker drains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Drained {
    /// Writes still under way, with or without a caller.
    pub writes: usize,
    /// Copies still under way.
    pub copies: usize,
    /// Shadow reads still under way.
    pub shadows: usize,
    /// Pins still held: keys and scopes whose copy is not known to be applied.
    pub pins: PinCount,
}

impl Drained {
    /// Whether no work was cut off.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.writes + self.copies + self.shadows == 0
    }
}

impl Handle {
    /// Waits until the writes, copies and shadow reads in flight have ended, for at most `timeout`,
    /// and says what is left. Stop the callers first: calls that come later are served, and waited
    /// for, but no longer compared.
    ///
    /// Cancellation safe; it can be called again.
    pub async fn close_and_wait(&self, timeout: Duration) -> Drained {
        let desk = &self.desk;
        let all = async {
            // In this order: a write that ends starts a copy.
            desk.writes.close();
            desk.copies.close();
            desk.shadows.close();
            desk.writes.wait().await;
            desk.copies.emptied().await;
            desk.shadows.emptied().await;
        };
        // Whether it was in time is read from the counts.
        let _ = tokio::time::timeout(timeout, all).await;
        Drained {
            writes: desk.writes.len(),
            copies: desk.copies.taken(),
            shadows: desk.shadows.taken(),
            pins: desk.pins.count(),
        }
    }
}
