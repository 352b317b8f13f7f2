//! [`LostAnswers`]: calls that are carried out, and whose answers nobody hears.

use std::future::Future;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Put around the calls of the legacy repository, inside the layer, it loses the answer of a write
/// when the kit asks for it; otherwise it does nothing. A clone is the same.
///
/// ```
/// # use changeover::kit::LostAnswers;
/// # async fn update(_: i64) -> Result<u64, std::io::Error> { Ok(1) }
/// # async fn test(answers: LostAnswers) -> Result<(), std::io::Error> {
/// // In the legacy closure, method or service of the test's layer:
/// answers.pass(update(7)).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
pub struct LostAnswers(Arc<State>);

#[derive(Debug, Default)]
struct State {
    armed: AtomicBool,
    lost: AtomicU64,
}

impl LostAnswers {
    /// Carries out `call`.
    ///
    /// # Panics
    ///
    /// After `call` has ended, when the kit asked for its answer to be lost: the layer takes a
    /// panic for an unknown outcome, as it takes a lost `COMMIT`.
    pub async fn pass<F: Future>(&self, call: F) -> F::Output {
        let answer = call.await;
        if self.0.armed.swap(false, Ordering::SeqCst) {
            self.0.lost.fetch_add(1, Ordering::SeqCst);
            drop(answer);
            // Without the hook that prints: it is no defect.
            resume_unwind(Box::new("the kit lost this answer"));
        }
        answer
    }

    /// The next answer is lost.
    pub(super) fn arm(&self) {
        self.0.armed.store(true, Ordering::SeqCst);
    }

    /// No answer is lost any more; answers how many were.
    pub(super) fn disarm(&self) -> u64 {
        self.0.armed.store(false, Ordering::SeqCst);
        self.0.lost.swap(0, Ordering::SeqCst)
    }
}
