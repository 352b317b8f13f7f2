use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::{Add, CLOSURE, UNORDERED, all, rule, told, tree};
use crate::{
    Answer, Class, Elements, Judgement, ListDiff, ListLook, Look, Rules, Value, Verdict, judge,
    judge_lists,
};

fn class() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("sold out"), Just("closed")]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        4 => tree().prop_map(Answer::Found),
        2 => (0..3_i64).prop_map(|number| Answer::Found(number.into())),
        1 => Just(Answer::Found(Value::List(vec![]))),
        2 => Just(Answer::Absent),
        2 => class().prop_map(Answer::Refused),
        1 => Just(Answer::Failed),
        1 => Just(Answer::TimedOut),
    ]
}

fn look() -> impl Strategy<Value = Look> {
    let versions = proptest::option::of((0..2_i64, 0..2_i64));
    (answer(), answer(), versions).prop_map(|(legacy, new, versions)| Look {
        legacy,
        new,
        versions,
    })
}

/// The same look with the sides exchanged. Versions are those of roles, which stay.
fn mirrored(look: &Look) -> Look {
    Look {
        legacy: look.new.clone(),
        new: look.legacy.clone(),
        versions: look.versions,
    }
}

/// What a verdict is with the sides exchanged.
fn mirror(class: Class) -> Class {
    match class {
        Class::MissingInNew => Class::ExtraInNew,
        Class::ExtraInNew => Class::MissingInNew,
        Class::ErrorInLegacy => Class::ErrorInNew,
        Class::ErrorInNew => Class::ErrorInLegacy,
        class => class,
    }
}

/// All of a judgement, contents too.
fn said(judgement: &Judgement) -> String {
    match judgement {
        Judgement::Final(Verdict::Mismatch(fields)) => format!("mismatch {}", told(fields)),
        Judgement::Final(Verdict::Elements(found)) => {
            let different = found.different.iter();
            let different: Vec<_> = different.map(|(key, at)| (key, told(at))).collect();
            let alone = (&found.missing_in_new, &found.extra_in_new);
            format!("{alone:?} {different:?}")
        }
        judgement => format!("{judgement:?}"),
    }
}

fn verdict(judgement: Judgement) -> Option<Verdict> {
    match judgement {
        Judgement::Final(verdict) => Some(verdict),
        Judgement::LookAgain => None,
    }
}

fn answered(answer: &Answer) -> bool {
    !matches!(answer, Answer::Failed | Answer::TimedOut)
}

/// Pages of rows by a key that may come more than once.
fn page() -> impl Strategy<Value = Vec<(i64, Value)>> {
    let row = prop_oneof![3 => (0..2_i64).prop_map(Value::from), 1 => tree()];
    vec((0..4_i64, row), 0..5)
}

fn list(rows: &[(i64, Value)]) -> Value {
    Value::list(rows.iter().map(|(id, row)| {
        let fields = [("id", Value::from(*id)), ("a", row.clone())];
        Value::record(fields)
    }))
}

#[derive(Debug, Clone)]
struct Pages {
    legacy: Vec<(i64, Value)>,
    new: Vec<(i64, Value)>,
    versions: BTreeMap<String, (i64, i64)>,
    quiet: bool,
}

fn pages() -> impl Strategy<Value = Pages> {
    let version = prop_oneof![4 => Just((1, 1)), 1 => (0..2_i64, 0..2_i64)];
    let versions = btree_map("[0-3]", version, 0..9);
    let quiet = proptest::bool::weighted(0.8);
    let same = proptest::bool::weighted(0.2);
    (page(), page(), versions, quiet, same).prop_map(|(legacy, new, versions, quiet, same)| Pages {
        new: if same { legacy.clone() } else { new },
        legacy,
        versions,
        quiet,
    })
}

impl Pages {
    /// `None` where the lists are not compared by key.
    fn look(&self, rules: &Rules, ordered: bool) -> Option<ListLook> {
        let key = |parts: Vec<String>| parts.join(",");
        let (legacy, new) = Elements::of(list(&self.legacy), list(&self.new), &["id"], key).ok()?;
        Some(ListLook {
            found: ListDiff::between(&legacy, &new, rules, ordered),
            versions: self.versions.clone(),
            quiet: self.quiet,
        })
    }

    fn mirrored(&self) -> Pages {
        Pages {
            legacy: self.new.clone(),
            new: self.legacy.clone(),
            ..self.clone()
        }
    }
}

/// Whether what differs is the same in both directions: see the properties of the rules.
fn pairs_are_the_same(adds: &[Add]) -> bool {
    let any = |kind| adds.iter().any(|add| add.kind == kind);
    !(any(UNORDERED) && any(CLOSURE))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_look_panics_and_the_same_looks_mean_the_same(
        first in look(), second in look(), adds in vec(rule(), 0..5), renamed in vec(rule(), 0..2),
    ) {
        let rules = renamed.iter().fold(all(&adds, false), |rules, add| rules.rename(&add.path, &add.to));
        for second in [None, Some(&second), Some(&first)] {
            let judgement = judge(&first, second, &rules);
            prop_assert_eq!(said(&judgement), said(&judge(&first, second, &rules.clone())));
        }
    }

    #[test]
    fn what_looks_mean_depends_on_no_side(
        first in look(), second in look(), adds in vec(rule(), 0..5),
    ) {
        let (rules, back) = (all(&adds, false), all(&adds, true));
        for second in [None, Some(&second), Some(&first)] {
            let there = verdict(judge(&first, second, &rules));
            let back = verdict(judge(&mirrored(&first), second.map(mirrored).as_ref(), &back));
            let class = |verdict: &Option<Verdict>| verdict.as_ref().map(Verdict::class);
            prop_assert_eq!(class(&there).map(mirror), class(&back));
            if let (Some(Verdict::Mismatch(there)), Some(Verdict::Mismatch(back))) = (there, back)
                && pairs_are_the_same(&adds)
            {
                let paths = |found: &[crate::FieldDiff]| {
                    let mut paths: Vec<_> = found.iter().map(|field| field.path.clone()).collect();
                    paths.sort();
                    paths
                };
                prop_assert_eq!(paths(&there), paths(&back));
            }
        }
    }

    #[test]
    fn no_rule_confirms_or_matches_what_did_not_answer_or_is_not_there(
        first in look(), second in look(), adds in vec(rule(), 0..5),
    ) {
        let rules = all(&adds, false);
        let once = verdict(judge(&first, None, &rules));
        let both = |look: &Look| answered(&look.legacy) && answered(&look.new);
        let found = |look: &Look| matches!((&look.legacy, &look.new), (Answer::Found(_), Answer::Found(_)));
        prop_assert!(once.is_some() || both(&first), "who does not answer is not asked twice");
        if once == Some(Verdict::Match) {
            prop_assert!(found(&first));
        }
        prop_assert!(once.is_none_or(|verdict| !verdict.confirmed()));
        let twice = verdict(judge(&first, Some(&second), &rules));
        let twice = twice.expect("a second look is the last");
        prop_assert!(twice != Verdict::Match && twice != Verdict::Neither);
        prop_assert!(both(&second) || !(twice.confirmed() || twice == Verdict::Healed));
        let behind = second.versions.is_some_and(|(authority, follower)| follower < authority);
        prop_assert!(!(behind && twice.confirmed()));
    }

    #[test]
    fn no_list_panics_and_the_same_lists_mean_the_same(
        first in pages(), second in pages(), adds in vec(rule(), 0..5), ordered in any::<bool>(),
        one in tree(), other in tree(),
    ) {
        let rules = all(&adds, false);
        let key = |parts: Vec<String>| parts.concat();
        let _ = Elements::of(one, other, &["a", "b"], key);
        let looked = |pages: &Pages| pages.look(&rules, ordered);
        let (Some(one), Some(other)) = (looked(&first), looked(&second)) else {
            return Ok(());
        };
        for (second, again) in [(None, None), (Some(&other), looked(&second)), (Some(&one), looked(&first))] {
            let replayed = looked(&first).map(|first| judge_lists(&first, again.as_ref()));
            prop_assert_eq!(Some(said(&judge_lists(&one, second))), replayed.as_ref().map(said));
        }
    }

    #[test]
    fn what_lists_mean_depends_on_no_side_and_lag_confirms_nothing(
        first in pages(), second in pages(), adds in vec(rule(), 0..5), ordered in any::<bool>(),
        same in 0..4_u8,
    ) {
        // Most pairs of looks have nothing in common: the second is mostly the first, but for a side.
        let (legacy, new) = match same {
            0 => (&second.legacy, &second.new),
            1 => (&second.legacy, &first.new),
            2 => (&first.legacy, &second.new),
            _ => (&first.legacy, &first.new),
        };
        let versions = if same == 0 { &second.versions } else { &first.versions };
        let second = Pages {
            legacy: legacy.clone(),
            new: new.clone(),
            versions: versions.clone(),
            quiet: second.quiet,
        };
        let (rules, back) = (all(&adds, false), all(&adds, true));
        let look = |pages: &Pages| pages.look(&rules, ordered).zip(pages.mirrored().look(&back, ordered));
        let (Some(first), Some(second)) = (look(&first), look(&second)) else {
            return Ok(());
        };
        prop_assert_eq!(first.0.found.is_empty(), first.1.found.is_empty());
        let there = verdict(judge_lists(&first.0, Some(&second.0))).expect("the last look");
        let back = verdict(judge_lists(&first.1, Some(&second.1))).expect("the last look");
        if let (Verdict::Elements(there), Verdict::Elements(back)) = (&there, &back) {
            prop_assert_eq!(&there.missing_in_new, &back.extra_in_new);
            prop_assert_eq!(&there.extra_in_new, &back.missing_in_new);
            let keys = |found: &crate::SetDiff<String>| {
                let keys = found.different.iter().map(|(key, _)| key.clone());
                keys.collect::<Vec<_>>()
            };
            prop_assert_eq!(keys(there), keys(back));
            if !(there.missing_in_new.is_empty() && there.extra_in_new.is_empty()) {
                let (before, now) = (&first.0.found.elements, &second.0.found.elements);
                prop_assert!(first.0.quiet && second.0.quiet);
                prop_assert_eq!(&before.missing_in_new, &now.missing_in_new);
                prop_assert_eq!(&before.extra_in_new, &now.extra_in_new);
            }
            for key in there.keys() {
                let at = second.0.versions.get(key);
                prop_assert!(at.is_some_and(|(authority, follower)| follower >= authority));
                prop_assert_eq!(at, first.0.versions.get(key));
            }
        } else {
            prop_assert_eq!(mirror(there.class()), back.class());
        }
        prop_assert_eq!(there == Verdict::Healed, second.0.found.is_empty());
    }
}
