//! The one place where keys enter the layer. Behind it a key has one spelling, that of the
//! databases: pins, tokens and questions go by the text of a key.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};

use changeover_flags::{Exceptions, Key};

use super::Desk;
use crate::call::{Operation, Touched};

/// The lists of keys that were spelled last: as they were typed, and as the databases spell them.
#[derive(Default)]
pub(crate) struct Spelled(RwLock<Option<(Arc<Exceptions>, Arc<Exceptions>)>>);

impl Desk {
    /// Lists of keys, as somebody typed them.
    pub(super) fn spelled(&self, typed: Arc<Exceptions>) -> Arc<Exceptions> {
        let last = self.spelled.0.read();
        let last = last.unwrap_or_else(PoisonError::into_inner);
        if let Some((of, spelled)) = &*last
            && Arc::ptr_eq(of, &typed)
        {
            return Arc::clone(spelled);
        }
        drop(last);
        let spelled = Arc::new(typed.spelled(|key| self.key(key)));
        let mut last = self.spelled.0.write();
        **last.as_mut().unwrap_or_else(|poisoned| poisoned.get_mut()) =
            Some((typed, Arc::clone(&spelled)));
        spelled
    }

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
