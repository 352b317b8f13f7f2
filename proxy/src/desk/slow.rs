//! Whether the authority is slow to answer shadow reads: [`Slow`].

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use changeover_flags::Place;

/// How many answers of the authority in a row must be fast again after a slow one.
const FAST_AGAIN: u32 = 8;

/// What the last answers of the authority to shadow reads say of it.
///
/// One slow answer makes it slow, [`FAST_AGAIN`] fast ones in a row end that. Meanwhile one read at a time
/// tries it and all others are shed: no clock is asked where callers pass, and there is a way out however few they are.
/// By place, since what the follower takes for a call of a shadow read sheds nothing: nobody waits for it. (A caller
/// whom it answers late is another matter: that read is shed by the caller's own time.)
#[derive(Default)]
pub(crate) struct Slow {
    /// So many fast answers are missing, of legacy and of new.
    missing: [AtomicU32; 2],
    /// Whether a read is trying.
    tried: AtomicBool,
}

impl Slow {
    /// Whether `place` is the authority and slow.
    #[inline]
    pub(crate) fn is(&self, place: Place) -> bool {
        let missing = self.missing.get(place as usize);
        missing.is_some_and(|missing| missing.load(Ordering::Relaxed) > 0)
    }

    /// Whether nobody else is trying. Who does [gives up](Slow::give_up) in the end, whatever it found.
    pub(crate) fn may_try(&self) -> bool {
        !self.tried.swap(true, Ordering::Relaxed)
    }

    /// The next one may try.
    pub(crate) fn give_up(&self) {
        self.tried.store(false, Ordering::Relaxed);
    }

    /// `place` has answered, or not in time; what is no `authority` is never slow here.
    pub(super) fn answered(&self, place: Place, authority: bool, slow: bool) {
        let Some(missing) = self.missing.get(place as usize) else {
            return;
        };
        let next = |missing: u32| match (authority, slow) {
            (true, true) => FAST_AGAIN,
            (true, false) => missing.saturating_sub(1),
            (false, _) => 0,
        };
        let changed = |missing| Some(next(missing)).filter(|next| *next != missing);
        let _ = missing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_fast_answers_in_a_row_end_it_and_a_follower_is_never_slow() {
        let slow = Slow::default();
        let answered = |times: u32, late| {
            (0..times).for_each(|_| slow.answered(Place::New, true, late));
            slow.is(Place::New)
        };
        assert!(!answered(3, false));
        assert!(answered(1, true) && !slow.is(Place::Legacy));
        assert!(answered(7, false));
        assert!(answered(1, true) && answered(7, false));
        assert!(!answered(1, false));
        // It was slow when it stopped being the authority.
        assert!(answered(1, true));
        slow.answered(Place::New, false, true);
        assert!(!slow.is(Place::New));
    }

    #[test]
    fn one_tries_at_a_time() {
        let slow = Slow::default();
        assert!(slow.may_try() && !slow.may_try());
        slow.give_up();
        assert!(slow.may_try());
    }
}
