//! What shows whether a difference means anything: the canary, and the control read.

use std::sync::Arc;

use changeover_flags::Place;
use changeover_shadow::{
    Answer, Judgement, ListLook, Look, altered, diff_legacy, diff_new, judge, judge_lists,
};

use super::looking::{Looking, asked};
use super::told::versions;
use crate::metrics::ControlEnd;

impl<Req: Send + 'static> Looking<Req> {
    /// Puts a difference into equal answers, on their way into the comparison: whether it is seen.
    /// `None` where the answers differ anyway, or hold nothing that could differ.
    pub(super) fn sees_a_canary(&self, look: &Look) -> Option<bool> {
        let (Answer::Found(_), Answer::Found(new)) = (&look.legacy, &look.new) else {
            return None;
        };
        if self.shows(look.clone()) {
            return None;
        }
        let mut changed = altered(new, self.desk.number()).peekable();
        changed.peek()?;
        Some(changed.any(|new| {
            self.shows(Look {
                new: Answer::Found(new),
                ..look.clone()
            })
        }))
    }

    /// Whether these answers, at two looks while nothing moves, make evidence of a difference.
    fn shows(&self, look: Look) -> bool {
        let judgement = match self.listed(look) {
            Ok(found) => {
                let keys = found.elements.keys();
                let versions = keys.map(|key| (key.clone(), (0, 0))).collect();
                let look = ListLook {
                    found,
                    versions,
                    quiet: true,
                };
                judge_lists(&look, Some(&look))
            }
            Err(look) => judge(&look, Some(&look), &self.desk.rules),
        };
        match judgement {
            Judgement::Final(verdict) => self
                .desk
                .redaction
                .evidence(&verdict, None)
                .next()
                .is_some(),
            Judgement::LookAgain => false,
        }
    }

    /// Asks the authority twice, if this read was drawn for it: fields in which it differs from itself
    /// at one version are noise. Each time only where that hurts nobody, and not again without an answer.
    pub(super) async fn control(&mut self) {
        let Some((first, second)) = self.control.take() else {
            return;
        };
        let desk = Arc::clone(&self.desk);
        let unanswered = || desk.metrics.control(ControlEnd::Unanswered);
        let Ok(stage) = desk.snapshot().serving() else {
            return unanswered();
        };
        let place = stage.authority();
        let hurts = || desk.pool_waits() || desk.is_killed() || desk.slow.is(place);
        if hurts() {
            return unanswered();
        }
        let before = versions(&desk, &self.operation).await;
        if hurts() {
            return unanswered();
        }
        let first = asked(&desk, place, self.sides.ask(place, first)).await;
        let (Answer::Found(first), false) = (first, hurts()) else {
            return unanswered();
        };
        let second = asked(&desk, place, self.sides.ask(place, second)).await;
        let Answer::Found(second) = second else {
            return unanswered();
        };
        let after = versions(&desk, &self.operation).await;
        let differed = match place {
            Place::Legacy => diff_legacy(&first, &second, &desk.rules),
            Place::New => diff_new(&first, &second, &desk.rules),
        };
        let at_rest = match (before, after) {
            (Ok(Some((before, _))), Ok(Some((after, _)))) => before == after && !self.pinned(),
            // Nobody can tell a write from noise.
            _ => false,
        };
        let end = match (differed.is_empty(), at_rest) {
            (true, _) => ControlEnd::Still,
            (false, true) => ControlEnd::Noise,
            (false, false) => return desk.metrics.control(ControlEnd::Moved),
        };
        desk.instrument.floor.observe(&differed);
        desk.metrics.control(end);
    }
}
