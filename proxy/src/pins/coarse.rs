//! Pins of scopes and of the entity: writes are counted, since their keys are not known.

use std::collections::BTreeMap;

use super::Moment;

/// One scope, or the entity.
#[derive(Debug, Default)]
pub(super) struct Coarse {
    /// Writes that have begun and not ended.
    writing: usize,
    /// Writes that have ended and are not known to be copied.
    left: usize,
    ended: Moment,
    /// Writes that ended before this are accounted for.
    cleared: Moment,
}

impl Coarse {
    pub(super) fn begin(&mut self) {
        self.writing += 1;
    }

    pub(super) fn end(&mut self, now: Moment) {
        self.writing = self.writing.saturating_sub(1);
        self.left += 1;
        // Two ends may arrive here in the other order.
        self.ended = self.ended.max(now);
    }

    /// One write, which ended at `ended`, has been copied.
    pub(super) fn copied(&mut self, ended: Moment) {
        if ended > self.cleared {
            self.left = self.left.saturating_sub(1);
        }
    }

    fn release(&mut self, began: Moment, cleared: Moment) {
        if self.writing == 0 && self.ended < began {
            self.left = 0;
            self.cleared = cleared;
        }
    }

    fn holds(&self) -> bool {
        self.writing + self.left > 0
    }
}

#[derive(Debug, Default)]
pub(super) struct CoarsePins {
    pub(super) entity: Coarse,
    scopes: BTreeMap<String, Coarse>,
}

impl CoarsePins {
    pub(super) fn holds(&self, routing: Option<&str>) -> bool {
        self.entity.holds()
            || match routing {
                Some(scope) => self.scopes.contains_key(scope),
                None => !self.scopes.is_empty(),
            }
    }

    pub(super) fn len(&self) -> usize {
        self.scopes.len() + usize::from(self.entity.holds())
    }

    /// The scope, if there is room for it.
    pub(super) fn scope(&mut self, name: &str, capacity: usize) -> Option<&mut Coarse> {
        if !self.scopes.contains_key(name) && self.scopes.len() >= capacity {
            return None;
        }
        Some(self.scopes.entry(name.to_owned()).or_default())
    }

    pub(super) fn release(&mut self, began: Moment, cleared: Moment) {
        self.entity.release(began, cleared);
        for scope in self.scopes.values_mut() {
            scope.release(began, cleared);
        }
        self.forget_idle();
    }

    pub(super) fn forget_idle(&mut self) {
        self.scopes.retain(|_, scope| scope.holds());
    }
}
