//! What an instance learns of the home row, and when it believes that the row went back.

use std::sync::Arc;

use super::shown::asked;
use super::{Flags, State, lock};
use crate::{Epoch, Learnt, Percent, StoreError};

/// What was known when the home row was asked for: see [`Flags::asking`].
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    known: Option<Learnt>,
}

impl Flags {
    /// Takes up the home row. An answer older than what is known is ignored, so that a late one
    /// does not move the instance back; [`learn_answer`](Flags::learn_answer) tells a late one from
    /// a database that went back.
    ///
    /// When the row says that the new side is no longer ready (a higher mapping revision, say),
    /// the read percentage falls to zero and stays there until somebody raises it again.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the row is in force but not saved. The next call tries again.
    pub fn learn(&self, epoch: &Epoch) -> Result<(), StoreError> {
        let news = Learnt::from(epoch);
        let unstored = self.take_news(|known| match known {
            Some(known) if news.is_older_than(known) => {
                tracing::debug!(entity = %self.inner.entity, late = news.epoch, known = known.epoch, "late epoch ignored");
                None
            }
            _ => Some(news),
        });
        self.store_if(unstored)
    }

    /// To be called before the home row is asked for; its answer goes to
    /// [`learn_answer`](Flags::learn_answer).
    #[must_use]
    pub fn asking(&self) -> Asking {
        let known = lock(&self.inner.state).flags.learnt;
        Asking { known }
    }

    /// Takes up what was answered: the home row, or that there is none.
    ///
    /// Without a row the entity was uninstalled. What was the authority stays it, nothing is copied,
    /// and the new side is no longer ready, with what follows from that as in
    /// [`learn`](Flags::learn). An instance that never knew a stage still knows none.
    ///
    /// Where something else was learnt since `asking`, an older row is a late answer, and ignored.
    /// Where nothing was, the database itself went back: it was restored from before. Its row holds
    /// then, but what was proved counts no more: the new side is not ready until the row is learnt
    /// once more, and the read percentage falls to zero as in [`learn`](Flags::learn).
    ///
    /// # Errors
    ///
    /// As [`learn`](Flags::learn).
    pub fn learn_answer(&self, asking: Asking, answer: Option<&Epoch>) -> Result<(), StoreError> {
        let unstored = self.learn_answer_now(asking, answer);
        self.store_if(unstored)
    }

    /// The same in memory, without IO, for where nothing may block: it is stored by the next
    /// [`reload`](Flags::reload) or change, whichever comes first. Says whether anything that is in
    /// force waits for that.
    pub fn learn_answer_now(&self, asking: Asking, answer: Option<&Epoch>) -> bool {
        self.take_news(|known| {
            let late = known.copied() != asking.known;
            let Some(epoch) = answer else {
                return known.filter(|_| !late).map(uninstalled);
            };
            let news = Learnt::from(epoch);
            match known {
                Some(known) if news.is_older_than(known) && late => None,
                Some(known) if news.is_older_than(known) => {
                    tracing::warn!(entity = %self.inner.entity, row = news.epoch, known = known.epoch, "the home row went back, as by a database that was restored from before: what was proved counts no more");
                    Some(Learnt { ready: false, ..news })
                }
                _ => Some(news),
            }
        })
    }

    /// Puts in force what `news` makes of what is known. Whether anything in force is not stored.
    fn take_news(&self, news: impl FnOnce(Option<&Learnt>) -> Option<Learnt>) -> bool {
        let mut state = lock(&self.inner.state);
        let known = state.flags.learnt;
        match news(known.as_ref()) {
            Some(news) if known != Some(news) => self.take_learnt(&mut state, news),
            _ => {}
        }
        state.changes != state.stored
    }

    fn store_if(&self, unstored: bool) -> Result<(), StoreError> {
        if unstored {
            self.persist()?;
        }
        Ok(())
    }

    fn take_learnt(&self, state: &mut State, news: Learnt) {
        let mut flags = state.flags.clone();
        let fixed = state.environment.read_new.is_some() || state.environment.always_new.is_some();
        if !news.ready && self.load().ready && fixed {
            // As below: it does not come back by itself.
            state.environment_spent = true;
        }
        flags.learnt = Some(news);
        if !news.ready && asked(&flags).is_some() {
            // Zero rather than suspended: a percentage that comes back by itself after the next
            // verify would be a ramp that nobody ordered, on every instance at once.
            tracing::warn!(entity = %self.inner.entity, was = %flags.read_new, listed = flags.exceptions.always_new.len(), "new side no longer ready: read percentages set to 0, and no key is always read from it");
            flags.read_new = Percent::ZERO;
            flags.exceptions = Arc::new(flags.exceptions.withdrawn());
            state.read_new_unsaved = true;
            state.exceptions_unsaved = true;
        }
        self.publish(state, flags);
    }
}

fn uninstalled(known: &Learnt) -> Learnt {
    Learnt {
        stage: known.stage.alone(),
        ready: false,
        ..*known
    }
}
