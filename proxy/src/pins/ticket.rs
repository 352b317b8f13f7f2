use std::sync::Arc;

use changeover_flags::Key;

use super::{Coarse, CoarsePins, Moment, Pins};
use crate::call::Touched;

/// What one write has pinned. Dropped, it ends the write and leaves the pins to the sweeper.
#[derive(Debug)]
pub(crate) struct Ticket {
    pins: Arc<Pins>,
    keys: Vec<Key>,
    scopes: Vec<String>,
    entity: bool,
    ending: Moment,
    ended: Option<Moment>,
}

impl Ticket {
    pub(super) fn new(pins: Arc<Pins>) -> Ticket {
        Ticket {
            pins,
            keys: Vec::new(),
            scopes: Vec::new(),
            entity: false,
            ending: Moment::default(),
            ended: None,
        }
    }

    /// Pins more, for a write that has not ended.
    pub(crate) fn add(&mut self, touched: &Touched) {
        match touched {
            Touched::None => {}
            Touched::Key(_) | Touched::Keys(_) => {
                for key in touched.as_keys() {
                    if self.keys.contains(key) {
                        continue;
                    }
                    if self.pins.pin_key(key) {
                        self.keys.push(key.clone());
                    } else {
                        self.add_entity();
                    }
                }
            }
            Touched::Scope(scope) => {
                let capacity = self.pins.capacity;
                let begin = |coarse: &mut CoarsePins| {
                    coarse.scope(scope, capacity).map(Coarse::begin).is_some()
                };
                if self.pins.with_coarse(begin) {
                    self.scopes.push(scope.clone());
                } else {
                    self.add_entity();
                }
            }
            Touched::All => self.add_entity(),
        }
    }

    fn add_entity(&mut self) {
        if !self.entity {
            self.entity = true;
            self.pins.with_coarse(|coarse| coarse.entity.begin());
        }
    }

    /// The write has ended, whichever way. Later calls change nothing.
    pub(crate) fn end(&mut self) {
        if self.ended.is_some() {
            return;
        }
        self.ending = self.pins.now();
        for key in &self.keys {
            self.pins.end_key(key);
        }
        let now = self.pins.now();
        self.each_coarse(|coarse| coarse.end(now));
        self.ended = Some(now);
    }

    /// A copy of everything this write touched, begun at `began`, was applied.
    pub(crate) fn copied(mut self, began: Moment) {
        self.end();
        let Some(ended) = self.ended.filter(|ended| *ended < began) else {
            return;
        };
        self.pins.release(&self.keys, began);
        self.each_coarse(|coarse| coarse.copied(ended));
    }

    /// This write was replayed.
    pub(crate) fn replayed(mut self) {
        self.end();
        if let Some(ended) = self.ended {
            self.pins.replayed(&self.keys, self.ending);
            self.each_coarse(|coarse| coarse.copied(ended));
        }
    }

    /// Nothing follows this write: its stage has no follower.
    pub(crate) fn let_go(mut self) {
        self.end();
        let now = self.pins.now();
        self.copied(now);
    }

    fn each_coarse(&self, mut change: impl FnMut(&mut Coarse)) {
        if !self.entity && self.scopes.is_empty() {
            return;
        }
        self.pins.with_coarse(|coarse| {
            if self.entity {
                change(&mut coarse.entity);
            }
            for scope in &self.scopes {
                // Without a limit: the scope is there, since this write pinned it.
                if let Some(scope) = coarse.scope(scope, usize::MAX) {
                    change(scope);
                }
            }
            coarse.forget_idle();
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.end();
    }
}
