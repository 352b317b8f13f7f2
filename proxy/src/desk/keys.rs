//! The one place where keys enter the layer. Behind it a key has one spelling, that of the
//! databases: pins, tokens and questions go by the text of a key.

use std::panic::{AssertUnwindSafe, catch_unwind};

use changeover_flags::Key;

use super::Desk;
use crate::call::{Operation, Touched};

impl Desk {
    /// A call, as the application described it.
    pub(crate) fn operation(&self, mut operation: Operation) -> Operation {
        operation.touched = self.touched(operation.touched);
        operation.token = operation
            .token
            .map(|token| token.spelled(|key| self.key(key)));
        operation
    }

    /// What a write touches.
    pub(crate) fn touched(&self, touched: Touched) -> Touched {
        match touched {
            Touched::Keys(keys) => Touched::Keys(keys.iter().map(|key| self.key(key)).collect()),
            Touched::None | Touched::Scope(_) | Touched::All => touched,
        }
    }

    pub(crate) fn key(&self, key: &Key) -> Key {
        let spelled = catch_unwind(AssertUnwindSafe(|| self.versions.canonical(key)));
        spelled.unwrap_or_else(|_panic| key.clone())
    }
}
