//! The one place where keys enter the layer. Behind it a key has one spelling, that of the
//! databases: pins, tokens and questions go by the text of a key.

use std::panic::{AssertUnwindSafe, catch_unwind};

use changeover_flags::Key;

use super::Desk;
use crate::call::{Operation, Touched};

impl Desk {
    /// A call, as the application described it.
    pub(crate) fn spell(&self, operation: &mut Operation) {
        self.spell_touched(&mut operation.touched);
        if let Some(token) = operation.token.take() {
            operation.token = Some(token.spelled(|key| self.key(key)));
        }
    }

    /// What a write touches.
    pub(crate) fn touched(&self, mut touched: Touched) -> Touched {
        self.spell_touched(&mut touched);
        touched
    }

    fn spell_touched(&self, touched: &mut Touched) {
        let keys = match touched {
            Touched::Key(key) => std::slice::from_mut(key),
            Touched::Keys(keys) => keys.as_mut_slice(),
            Touched::None | Touched::Scope(_) | Touched::All => return,
        };
        for key in keys {
            *key = self.key(key);
        }
    }

    pub(crate) fn key(&self, key: &Key) -> Key {
        let spelled = catch_unwind(AssertUnwindSafe(|| self.versions.canonical(key)));
        spelled.unwrap_or_else(|_panic| key.clone())
    }
}
