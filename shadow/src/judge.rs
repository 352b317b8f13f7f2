//! [`judge`]: from two looks at both sides to one [`Verdict`], as a pure function.

use std::fmt;

use crate::{Rules, Value, Verdict, diff};

/// What one side answered.
///
/// `Debug` prints the kind of what was found, no contents.
#[derive(Clone, PartialEq)]
pub enum Answer {
    /// The row, as observed.
    Found(Value),
    /// The side was asked, answered, and has no such row.
    Absent,
    /// The side answered with an error, of a class that the application names: one that the data calls
    /// for (`sold_out`), and never a side in trouble.
    Refused(&'static str),
    /// The side failed or could not be reached. It may have the row or not: never an absence.
    Failed,
    /// The side did not answer in time. Never an absence either.
    TimedOut,
}

impl From<Option<Value>> for Answer {
    /// From what [`Observe`](crate::Observe) gives for a call that succeeded.
    fn from(observed: Option<Value>) -> Answer {
        observed.map_or(Answer::Absent, Answer::Found)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Found(value) => write!(f, "Found({})", value.kind()),
            Answer::Absent => f.write_str("Absent"),
            Answer::Refused(class) => write!(f, "Refused({class})"),
            Answer::Failed => f.write_str("Failed"),
            Answer::TimedOut => f.write_str("TimedOut"),
        }
    }
}

/// One look at both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// What the legacy side answered.
    pub legacy: Answer,
    /// What the new side answered.
    pub new: Answer,
    /// The version of the key on the authority and on the follower, in this order, read *after* the
    /// answers; `None` where no versions are kept or none could be read.
    pub versions: Option<(i64, i64)>,
}

/// What [`judge`] says after a look.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// The shadow read is over.
    Final(Verdict),
    /// The sides differ: wait a little and look once more at both. Given after a first look alone.
    LookAgain,
}

/// Decides what one or two looks mean.
///
/// One look (rows: legacy, columns: new):
///
/// | | found | absent | refused | failed | timed out |
/// | --- | --- | --- | --- | --- | --- |
/// | **found** | equal, neither or *differs* | *missing in new* | *errors differ* | error in new | timeout |
/// | **absent** | *extra in new* | neither | *errors differ* | error in new | timeout |
/// | **refused** | *errors differ* | *errors differ* | errors alike or *differ* | error in both | timeout |
/// | **failed** | error in legacy | error in legacy | error in both | error in both | timeout |
/// | **timed out** | timeout | timeout | timeout | timeout | timeout |
///
/// 1. Failures, errors alike and timeouts are final at either look. They say something of that call and nothing of
///    the data, so there is nothing to confirm, and a store in trouble is not asked twice.
/// 2. Equal at the first look is [`Verdict::Match`], at the second [`Verdict::Healed`].
/// 3. Nothing on both sides is [`Verdict::Neither`] at the first look, and *healed* at the second: no row, or
///    an answer that is an empty list or record as a whole. An empty list or record beside an answer that holds
///    something is *missing in new* or *extra in new* even where rules call them equal, or leave nothing of it to
///    compare: a row that a repository makes up of defaults is none. A record whose fields are all null holds no
///    more than an empty one (where a rule calls them equal), but beside another with fields it is compared
///    like any.
/// 4. A difference (in italics) at the first look is always [`Judgement::LookAgain`].
/// 5. A difference at the second look, where versions are known, is [`Verdict::Lagging`] if the
///    follower's version is below the authority's, or if either moved since the first look: a copy
///    may have arrived between the two reads of one look.
/// 6. Any other difference at the second look is confirmed. That includes a follower *ahead* of the
///    authority, which is never lag.
///
/// ```
/// use changeover_shadow::{Answer, Judgement, Look, Rules, Value, Verdict, judge};
/// let rules = Rules::new();
/// let look = |new| Look {
///     legacy: Answer::Found(Value::from(1)),
///     new,
///     versions: Some((7, 7)),
/// };
/// let first = look(Answer::Absent);
/// assert_eq!(judge(&first, None, &rules), Judgement::LookAgain);
/// let healed = look(Answer::Found(Value::from(1)));
/// assert_eq!(judge(&first, Some(&healed), &rules), Judgement::Final(Verdict::Healed));
/// let confirmed = Judgement::Final(Verdict::MissingInNew);
/// assert_eq!(judge(&first, Some(&first), &rules), confirmed);
/// ```
#[must_use]
pub fn judge(first: &Look, second: Option<&Look>, rules: &Rules) -> Judgement {
    let Some(second) = second else {
        return match seen(first, rules) {
            Seen::Equal => Judgement::Final(Verdict::Match),
            Seen::Nothing => Judgement::Final(Verdict::Neither),
            Seen::Unanswered(verdict) => Judgement::Final(verdict),
            Seen::Differs(_) => Judgement::LookAgain,
        };
    };
    Judgement::Final(match seen(second, rules) {
        Seen::Equal | Seen::Nothing => Verdict::Healed,
        Seen::Unanswered(verdict) => verdict,
        Seen::Differs(_) if in_motion(first, second) => Verdict::Lagging,
        Seen::Differs(verdict) => verdict,
    })
}

/// What a single look shows.
enum Seen {
    Equal,
    Nothing,
    Differs(Verdict),
    Unanswered(Verdict),
}

fn seen(look: &Look, rules: &Rules) -> Seen {
    use Answer::{Absent, Failed, Found, Refused, TimedOut};
    let differ = |legacy, new| Seen::Differs(Verdict::ErrorsDiffer { legacy, new });
    match (&look.legacy, &look.new) {
        (TimedOut, _) | (_, TimedOut) => Seen::Unanswered(Verdict::Timeout),
        (Failed, Failed | Refused(_)) | (Refused(_), Failed) => {
            Seen::Unanswered(Verdict::ErrorInBoth)
        }
        (Failed, Found(_) | Absent) => Seen::Unanswered(Verdict::ErrorInLegacy),
        (Found(_) | Absent, Failed) => Seen::Unanswered(Verdict::ErrorInNew),
        (Refused(legacy), Refused(new)) if legacy == new => {
            Seen::Unanswered(Verdict::ErrorsAlike(legacy))
        }
        (Refused(legacy), Refused(new)) => differ(Some(*legacy), Some(*new)),
        (Refused(legacy), Found(_) | Absent) => differ(Some(*legacy), None),
        (Found(_) | Absent, Refused(new)) => differ(None, Some(*new)),
        (Absent, Absent) => Seen::Nothing,
        (Found(_), Absent) => Seen::Differs(Verdict::MissingInNew),
        (Absent, Found(_)) => Seen::Differs(Verdict::ExtraInNew),
        (Found(legacy), Found(new)) => match diff(legacy, new, rules) {
            fields if fields.is_empty() => alike(legacy, new),
            fields => Seen::Differs(Verdict::Mismatch(fields)),
        },
    }
}

/// What two answers show between which the rules see no difference. Only the answer as a whole can be nothing:
/// a record around an empty list says so much, and a count of zero, too.
fn alike(legacy: &Value, new: &Value) -> Seen {
    match (is_empty(legacy), is_empty(new)) {
        (false, false) => Seen::Equal,
        (false, true) if holds_something(legacy) => Seen::Differs(Verdict::MissingInNew),
        (true, false) if holds_something(new) => Seen::Differs(Verdict::ExtraInNew),
        _ => Seen::Nothing,
    }
}

fn is_empty(answer: &Value) -> bool {
    match answer {
        Value::List(items) => items.is_empty(),
        Value::Record(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Whether an answer has more than an empty one beside it: nulls are no more than fields left out.
fn holds_something(answer: &Value) -> bool {
    match answer {
        Value::List(items) => !items.is_empty(),
        Value::Record(fields) => fields.iter().any(|(_, field)| *field != Value::Null),
        answer => *answer != Value::Null,
    }
}

/// Whether lag can explain a difference at the second look.
fn in_motion(first: &Look, second: &Look) -> bool {
    let Some((authority, follower)) = second.versions else {
        return false;
    };
    let moved = first
        .versions
        .is_some_and(|before| before != (authority, follower));
    moved || follower < authority
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> [Answer; 9] {
        let found = |number: i64| Answer::Found(number.into());
        [
            found(1),
            found(2),
            Answer::Found(Value::List(vec![])),
            Answer::Found(Value::record::<&str, Value>([])),
            Answer::Absent,
            Answer::Refused("full"),
            Answer::Refused("closed"),
            Answer::Failed,
            Answer::TimedOut,
        ]
    }

    fn looks(versions: Option<(i64, i64)>) -> Vec<Look> {
        let pairs = answers().into_iter().flat_map(|legacy| {
            answers().into_iter().map(move |new| Look {
                legacy: legacy.clone(),
                new,
                versions,
            })
        });
        pairs.collect()
    }

    fn answered(answer: &Answer) -> bool {
        matches!(
            answer,
            Answer::Found(_) | Answer::Absent | Answer::Refused(_)
        )
    }

    fn verdict(first: &Look, second: Option<&Look>) -> Option<Verdict> {
        match judge(first, second, &Rules::new()) {
            Judgement::Final(verdict) => Some(verdict),
            Judgement::LookAgain => None,
        }
    }

    #[test]
    fn every_first_look() {
        for look in looks(None) {
            let got = verdict(&look, None);
            let both = answered(&look.legacy) && answered(&look.new);
            if matches!((&look.legacy, &look.new), (Answer::Refused(one), Answer::Refused(other)) if one == other)
            {
                assert_eq!(
                    got.map(|got| got.class()),
                    Some(crate::Class::ErrorsAlike),
                    "{look:?}"
                );
            } else if both && look.legacy == look.new {
                let held = matches!(look.new, Answer::Found(Value::Integer(_)));
                let expected = if held {
                    Verdict::Match
                } else {
                    Verdict::Neither
                };
                assert_eq!(got, Some(expected), "{look:?}");
            } else if both {
                assert_eq!(got, None, "a difference needs a second look: {look:?}");
            } else {
                let got = got.expect("final");
                assert!(
                    got != Verdict::Match && got != Verdict::Neither && !got.confirmed(),
                    "{look:?} gave {got:?}"
                );
            }
        }
    }

    #[test]
    fn every_second_look_is_final_and_only_answers_confirm() {
        for first in looks(None) {
            for second in looks(None) {
                let got = verdict(&first, Some(&second)).expect("final after two looks");
                let both = answered(&second.legacy) && answered(&second.new);
                let differs = both && second.legacy != second.new;
                assert_eq!(got.confirmed(), differs, "{second:?} gave {got:?}");
                let alike = got.class() == crate::Class::ErrorsAlike;
                assert_eq!(
                    alike,
                    second.legacy == second.new && matches!(second.new, Answer::Refused(_))
                );
                assert_eq!(
                    got == Verdict::Healed,
                    both && !differs && !alike,
                    "{second:?} gave {got:?}"
                );
            }
        }
    }

    #[test]
    fn no_rule_makes_an_empty_list_equal_to_one_with_elements() {
        let rules = Rules::new().equal_if("**", |_, _| true);
        let list = |items: &[i64]| Answer::Found(Value::list(items.iter().copied()));
        let cases = [
            (list(&[7]), list(&[]), Verdict::MissingInNew),
            (list(&[]), list(&[7]), Verdict::ExtraInNew),
            (list(&[]), list(&[]), Verdict::Healed),
            (list(&[7]), list(&[8]), Verdict::Healed),
        ];
        for (legacy, new, expected) in cases {
            let look = Look {
                legacy,
                new,
                versions: None,
            };
            let judged = judge(&look, Some(&look), &rules);
            assert_eq!(judged, Judgement::Final(expected));
        }
    }

    #[test]
    fn an_empty_record_beside_one_that_holds_something_is_no_match() {
        let record = |fields: &[(&'static str, Option<i64>)]| {
            let fields = fields.iter().map(|(name, field)| (*name, *field));
            Answer::Found(Value::record(
                fields.map(|(name, field)| (name, field.map_or(Value::Null, Value::from))),
            ))
        };
        let nothing = || record(&[]);
        let (ignored, note) = (
            || record(&[("updated_at", Some(7))]),
            || record(&[("note", None)]),
        );
        let rules = Rules::new().ignore("updated_at").null_is_absent("note");
        let closure = Rules::new().equal_if("**", |_, _| true);
        let cases = [
            // All that the row has is ignored, but a row it is.
            (&rules, ignored(), nothing(), Verdict::MissingInNew),
            (&rules, nothing(), ignored(), Verdict::ExtraInNew),
            (
                &rules,
                record(&[("updated_at", Some(7)), ("note", None)]),
                nothing(),
                Verdict::MissingInNew,
            ),
            (&closure, ignored(), nothing(), Verdict::MissingInNew),
            // Null is absent here: as empty as the other.
            (&rules, note(), nothing(), Verdict::Neither),
            (&rules, nothing(), note(), Verdict::Neither),
            (&rules, nothing(), nothing(), Verdict::Neither),
            // With fields on both sides they are compared.
            (&rules, ignored(), note(), Verdict::Match),
            (&rules, note(), note(), Verdict::Match),
            (&rules, ignored(), ignored(), Verdict::Match),
        ];
        for (rules, legacy, new, expected) in cases {
            let case = format!("{legacy:?} {new:?} {expected:?}");
            let look = Look {
                legacy,
                new,
                versions: None,
            };
            let (first, second) = match expected {
                Verdict::Match | Verdict::Neither => (Judgement::Final(expected), Verdict::Healed),
                confirmed => (Judgement::LookAgain, confirmed),
            };
            assert_eq!(judge(&look, None, rules), first, "{case}");
            let judged = judge(&look, Some(&look), rules);
            assert_eq!(judged, Judgement::Final(second), "{case}");
        }
    }

    #[test]
    fn errors_have_a_side_and_both_erring_is_no_match() {
        use Answer::{Absent, Failed, TimedOut};
        let look = |legacy, new| Look {
            legacy,
            new,
            versions: None,
        };
        let cases = [
            (look(Failed, Absent), Verdict::ErrorInLegacy),
            (look(Absent, Failed), Verdict::ErrorInNew),
            (look(Failed, Failed), Verdict::ErrorInBoth),
            (look(Failed, TimedOut), Verdict::Timeout),
            (look(TimedOut, TimedOut), Verdict::Timeout),
        ];
        for (look, expected) in cases {
            assert_eq!(verdict(&look, None), Some(expected.clone()));
            assert_eq!(verdict(&look, Some(&look)), Some(expected));
        }
    }

    #[test]
    fn versions_tell_lag_from_loss() {
        let look = |versions| Look {
            legacy: Answer::Found(1.into()),
            new: Answer::Absent,
            versions,
        };
        let cases = [
            (None, None, Verdict::MissingInNew),
            (None, Some((5, 5)), Verdict::MissingInNew),
            (Some((5, 5)), Some((5, 5)), Verdict::MissingInNew),
            (None, Some((5, 4)), Verdict::Lagging),
            (Some((5, 4)), Some((5, 4)), Verdict::Lagging),
            // The copy arrived while looking: the follower's answer may be the older one.
            (Some((5, 4)), Some((5, 5)), Verdict::Lagging),
            (Some((5, 5)), Some((6, 6)), Verdict::Lagging),
            // A follower ahead is never lag.
            (Some((4, 5)), Some((4, 5)), Verdict::MissingInNew),
            (Some((5, 5)), None, Verdict::MissingInNew),
        ];
        for (first, second, expected) in cases {
            let got = verdict(&look(first), Some(&look(second)));
            assert_eq!(got, Some(expected), "{first:?} then {second:?}");
        }
    }

    #[test]
    fn debug_prints_no_contents() {
        let look = Look {
            legacy: Answer::Found("CANARY".into()),
            new: Answer::Absent,
            versions: None,
        };
        assert!(!format!("{look:?}").contains("CANARY"));
    }
}
