//! Two looks at both sides, and what they mean.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use changeover_flags::{Key, Place};
use changeover_shadow::{
    Answer, Class, Compared, Elements, Evidence, Judgement, ListDiff, Look, Rules, Value, Verdict,
    diff, judge, judge_lists,
};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join};
use tokio::time::{Instant, sleep, timeout};

use super::sides::Sides;
use super::told::{Untold, motion, versions};
use crate::call::{Kind, Operation};
use crate::desk::Desk;
use crate::metrics::{Shed, StoreEnd, StoreKind, Took};

/// A shadow read under way.
pub(super) struct Looking<Req> {
    pub(super) desk: Arc<Desk>,
    pub(super) operation: Operation,
    /// For the second look; `None` if the request could be copied once and not again.
    pub(super) again: Option<(Req, Req)>,
    /// For the control read, if this read was drawn for one.
    pub(super) control: Option<(Req, Req)>,
    pub(super) sides: Arc<dyn Sides<Req>>,
    /// How long the first answers took, legacy's and new's.
    pub(super) took: [Option<Duration>; 2],
}

/// Whether the answer is a list of more elements than are compared.
pub(super) fn too_long(desk: &Desk, operation: &Operation, answer: &Answer) -> bool {
    operation.kind == Kind::List
        && matches!(answer, Answer::Found(Value::List(items)) if items.len() > desk.limits.list_elements)
}

impl<Req: Send + 'static> Looking<Req> {
    /// Judges what `place` answered the caller after `took`, if that is known, and tells all who are to know.
    pub(super) async fn run(
        mut self,
        request: Req,
        place: Place,
        answer: Answer,
        took: Option<Took>,
        count: impl FnOnce(Class),
    ) {
        let desk = Arc::clone(&self.desk);
        if let Some(took) = took {
            self.measured(place, took);
        }
        let verdict = self.judged(request, place, answer).await;
        let verdict = desk.instrument.floor.settled(verdict);
        let key = match self.operation.touched.as_keys() {
            [key] => Some(key.as_str()),
            _ => None,
        };
        let evidence: Vec<Evidence> = desk.redaction.evidence(&verdict, key).collect();
        for piece in &evidence {
            desk.reservoir.offer(piece.clone());
        }
        let class = verdict.class();
        count(class);
        desk.instrument.tell(&Compared {
            entity: desk.flags.entity().as_str(),
            operation: self.operation.name,
            class,
            evidence: &evidence,
            legacy: self.took[0],
            new: self.took[1],
        });
        if class.both_answered() {
            self.control().await;
        }
    }

    fn measured(&mut self, place: Place, took: Took) {
        self.desk.instrument.took(place, took);
        if let Some(slot) = self.took.get_mut(place as usize) {
            *slot = Some(took.time);
        }
    }

    /// The verdict on what `place` answered the caller.
    async fn judged(&mut self, request: Req, place: Place, answer: Answer) -> Verdict {
        let began = Instant::now();
        let other = self.sides.ask(place.other(), request);
        let other = asked(&self.desk, place.other(), other).await;
        self.measured(place.other(), began.elapsed().into());
        let first = self.within(match place {
            Place::Legacy => look(answer, other),
            Place::New => look(other, answer),
        });
        let first = match first {
            Ok(first) => first,
            Err(shed) => return shed,
        };
        if self.desk.canary_is_due()
            && let Some(seen) = self.sees_a_canary(&first)
        {
            self.desk.canary(seen);
        }
        match self.listed(first) {
            Ok(found) => self.by_key(found).await,
            Err(first) => self.whole(first).await,
        }
    }

    async fn whole(&mut self, mut first: Look) -> Verdict {
        let desk = Arc::clone(&self.desk);
        if let Judgement::Final(verdict) = judge(&first, None, &desk.rules) {
            return verdict;
        }
        let before = versions(&desk, &self.operation).await;
        first.versions = before.unwrap_or(None);
        let pinned = self.pinned();
        let mut second = match self.both_again().await {
            Ok(second) => second,
            Err(shed) => return shed,
        };
        // After the answers: a copy that came between them shows as versions that moved.
        let told = versions(&desk, &self.operation).await;
        second.versions = told.unwrap_or(None);
        let verdict = settled(judge(&first, Some(&second), &desk.rules));
        if !verdict.confirmed() {
            return verdict;
        }
        match (before, told) {
            // Who keeps versions and did not tell them leaves open whether this is lag.
            (Err(Untold), _) | (_, Err(Untold)) => self.untold(),
            (_, Ok(None)) if pinned || self.pinned() => Verdict::Lagging,
            // No version of its own says that nothing moved, so the answers have to.
            (_, told) if told == Ok(None) || self.operation.touched.as_keys().len() != 1 => {
                match same(&first.legacy, &second.legacy) && same(&first.new, &second.new) {
                    true => verdict,
                    false => Verdict::Lagging,
                }
            }
            _ => verdict,
        }
    }

    /// A list whose elements have keys: the second look is at the keys that differed.
    async fn by_key(&mut self, found: ListDiff) -> Verdict {
        let desk = Arc::clone(&self.desk);
        if found.is_empty() {
            return Verdict::Match;
        }
        let before = motion(&desk, &self.operation, found).await;
        let second = match self.both_again().await {
            Ok(second) => second,
            Err(shed) => return shed,
        };
        let found = match self.listed(second) {
            Ok(found) => found,
            Err(second) => {
                return match judge(&second, None, &desk.rules) {
                    Judgement::Final(Verdict::Match | Verdict::Neither) => Verdict::Healed,
                    Judgement::Final(unanswered) => unanswered,
                    // It had keys a moment ago: something moves.
                    Judgement::LookAgain => Verdict::Lagging,
                };
            }
        };
        let after = motion(&desk, &self.operation, found).await;
        match settled(judge_lists(&before.0, Some(&after.0))) {
            Verdict::Healed => Verdict::Healed,
            verdict => (before.1.and(after.1)).map_or_else(|Untold| self.untold(), |()| verdict),
        }
    }

    /// Both sides anew, after a while; the verdict when they are not asked, or the answer is too long.
    async fn both_again(&mut self) -> Result<Look, Verdict> {
        sleep(self.desk.limits.second_look_after).await;
        let Some((to_legacy, to_new)) = self.again.take() else {
            return Err(self.shed(Shed::Plain));
        };
        if self.desk.is_killed() {
            return Err(self.shed(Shed::Killed));
        }
        if self.desk.pool_waits() {
            return Err(self.shed(Shed::Pool));
        }
        let legacy = self.sides.ask(Place::Legacy, to_legacy);
        let new = self.sides.ask(Place::New, to_new);
        let legacy = asked(&self.desk, Place::Legacy, legacy);
        let (legacy, new) = join(legacy, asked(&self.desk, Place::New, new)).await;
        self.within(look(legacy, new))
    }

    pub(super) fn pinned(&self) -> bool {
        let Operation {
            touched, routing, ..
        } = &self.operation;
        self.desk.pins.holds(touched, routing.as_deref())
    }

    /// A look at what is short enough to be compared.
    fn within(&self, look: Look) -> Result<Look, Verdict> {
        let long = |answer| too_long(&self.desk, &self.operation, answer);
        if long(&look.legacy) || long(&look.new) {
            return Err(self.shed(Shed::Long));
        }
        Ok(look)
    }

    /// The databases did not tell versions, or were not asked for them.
    fn untold(&self) -> Verdict {
        match self.desk.is_killed() {
            true => self.shed(Shed::Killed),
            false => Verdict::Timeout,
        }
    }

    fn shed(&self, reason: Shed) -> Verdict {
        self.desk.metrics.shed(reason);
        Verdict::Shed
    }

    /// How the elements differ, where both sides answered a list whose elements have keys.
    pub(super) fn listed(&self, look: Look) -> Result<ListDiff, Look> {
        let Operation {
            keyed_by, ordered, ..
        } = &self.operation;
        let versions = look.versions;
        match (look.legacy, look.new) {
            (Answer::Found(legacy), Answer::Found(new)) if !keyed_by.is_empty() => {
                let key = |parts| {
                    let key = self.desk.key(&Key::composite::<Vec<String>, _>(parts));
                    key.as_str().to_owned()
                };
                match Elements::of(legacy, new, keyed_by, key) {
                    Ok((legacy, new)) => {
                        let rules: &Rules = &self.desk.rules;
                        Ok(ListDiff::between(&legacy, &new, rules, *ordered))
                    }
                    Err((legacy, new)) => Err(Look {
                        legacy: Answer::Found(legacy),
                        new: Answer::Found(new),
                        versions,
                    }),
                }
            }
            (legacy, new) => Err(Look {
                legacy,
                new,
                versions,
            }),
        }
    }
}

/// What two looks say.
fn settled(judgement: Judgement) -> Verdict {
    match judgement {
        Judgement::Final(verdict) => verdict,
        // Not said after a second look; if it were, nothing would be settled.
        Judgement::LookAgain => Verdict::Lagging,
    }
}

fn look(legacy: Answer, new: Answer) -> Look {
    Look {
        legacy,
        new,
        versions: None,
    }
}

/// The same answer, floats by their bits.
fn same(one: &Answer, other: &Answer) -> bool {
    match (one, other) {
        (Answer::Found(one), Answer::Found(other)) => diff(one, other, &Rules::new()).is_empty(),
        _ => one == other,
    }
}

/// One call of a shadow read: within its time, its panics contained, measured.
pub(super) async fn asked(
    desk: &Desk,
    place: Place,
    answer: BoxFuture<'static, (StoreEnd, Answer)>,
) -> Answer {
    let began = Instant::now();
    let answer = timeout(
        desk.limits.shadow_time,
        AssertUnwindSafe(answer).catch_unwind(),
    );
    let (end, answer) = match answer.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_panic)) => (StoreEnd::Error, Answer::Failed),
        Err(_elapsed) => (StoreEnd::Timeout, Answer::TimedOut),
    };
    let took = began.elapsed();
    desk.metrics.store(place, StoreKind::Shadow, end, took);
    desk.shadow_took(place, (end != StoreEnd::Timeout).then_some(took));
    answer
}
