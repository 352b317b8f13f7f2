use super::*;

fn path(path: &str) -> String {
    path.to_owned()
}

#[test]
fn each_bad_rule_is_named() {
    let new = Rules::new;
    let deep = vec!["a"; crate::MAX_DEPTH + 1].join(".");
    let cases = [
        (new().ignore(""), BadRule::EmptyPath),
        (new().rename("a", ""), BadRule::EmptyPath),
        (
            new().ignore("a..b"),
            BadRule::EmptySegment { path: path("a..b") },
        ),
        (
            new().ignore("a."),
            BadRule::EmptySegment { path: path("a.") },
        ),
        (
            new().ignore(r"a\b"),
            BadRule::BadEscape { path: path(r"a\b") },
        ),
        (
            new().ignore(r"a\"),
            BadRule::BadEscape { path: path(r"a\") },
        ),
        (
            new().ignore("pri*"),
            BadRule::PartialWildcard { path: path("pri*") },
        ),
        (new().ignore(&deep), BadRule::TooDeep { path: deep.clone() }),
        (
            new().rename("a.*", "b.*"),
            BadRule::WildcardAtEnd { path: path("a.*") },
        ),
        (
            new().rename("a", "a"),
            BadRule::RenamedToItself { path: path("a") },
        ),
        (
            new().rename("a.*.b", "c"),
            BadRule::WildcardsDiffer {
                legacy_path: path("a.*.b"),
                new_path: path("c"),
            },
        ),
        (
            new().rename("a", "b").rename("a", "c"),
            BadRule::RenamedTwice { path: path("a") },
        ),
        (
            new().rename("a", "c").rename("b", "c"),
            BadRule::TargetTwice { path: path("c") },
        ),
    ];
    for (rules, expected) in cases {
        assert_eq!(rules.check(), Err(expected.clone()), "{expected}");
    }
}

#[test]
fn the_first_bad_rule_is_reported_and_the_good_ones_stay() {
    let rules = Rules::new()
        .ignore("a")
        .ignore("")
        .ignore("b..c")
        .ignore("d");
    assert_eq!(rules.check(), Err(BadRule::EmptyPath));
    assert!(rules.ignores(&[Segment::Field("d"), Segment::Index(0)]));
    assert!(!rules.ignores(&[Segment::Field("b")]));
}

mod meaning {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::json;

    use crate::rules::Rule;
    use crate::tests::{CLOSURE, UNORDERED, all, plain_rule, rule, told, tree};
    use crate::{BadRule, MAX_DEPTH, Rules, Tolerance, Value, diff};

    /// Where the two differ under `rules`.
    fn paths(legacy: serde_json::Value, new: serde_json::Value, rules: &Rules) -> Vec<String> {
        assert_eq!(rules.check(), Ok(()));
        let found = diff(&legacy.into(), &new.into(), rules);
        found.into_iter().map(|field| field.path).collect()
    }

    #[test]
    fn each_rule_speaks_of_its_field_alone() {
        let legacy = json!({"a": "X ", "b": "X ", "n": 1, "m": 1, "t": "2024-01-01", "u": null});
        let new = json!({"a": "x", "b": "x", "n": 1.5, "m": 1.5, "t": "2024-01-01T00:00:01Z"});
        let all = ["a", "b", "m", "n", "t", "u"];
        assert_eq!(paths(legacy.clone(), new.clone(), &Rules::new()), all);
        let cases = [
            (
                Rules::new().fold_case("a"),
                vec!["a", "b", "m", "n", "t", "u"],
            ),
            (
                Rules::new().fold_case("a").fold_space("a"),
                vec!["b", "m", "n", "t", "u"],
            ),
            (
                Rules::new().tolerate("n", Tolerance::Absolute(0.5)),
                vec!["a", "b", "m", "t", "u"],
            ),
            (
                Rules::new().tolerate("m", Tolerance::Relative(0.34)),
                vec!["a", "b", "n", "t", "u"],
            ),
            (
                Rules::new().tolerate("t", Tolerance::Time(Duration::from_secs(1))),
                vec!["a", "b", "m", "n", "u"],
            ),
            (
                Rules::new().null_is_absent("u"),
                vec!["a", "b", "m", "n", "t"],
            ),
            (
                Rules::new().allow("a", "X ", "x"),
                vec!["b", "m", "n", "t", "u"],
            ),
            (
                Rules::new().allow("a", "x", "X "),
                vec!["a", "b", "m", "n", "t", "u"],
            ),
            (
                Rules::new().equal_if("*", |_, new| new.is_none()),
                vec!["a", "b", "m", "n", "t"],
            ),
            (Rules::new().equal_if("**", |_, _| true), vec![]),
        ];
        for (rules, expected) in cases {
            assert_eq!(
                paths(legacy.clone(), new.clone(), &rules),
                expected,
                "{rules:?}"
            );
        }
    }

    #[test]
    fn paths_reach_through_lists_and_to_any_depth() {
        let legacy = json!({"seen": 1, "lines": [{"price": 1.0, "seen": 1}, {"price": 2.0}]});
        let new = json!({"seen": 2, "lines": [{"price": 1.1, "seen": 2}, {"price": 2.1}]});
        let under = |rules| paths(legacy.clone(), new.clone(), &rules);
        let near = Tolerance::Absolute(0.2);
        assert_eq!(
            under(Rules::new().tolerate("lines.*.price", near)),
            ["lines.0.seen", "seen"]
        );
        assert_eq!(
            under(Rules::new().ignore("**.seen")),
            ["lines.0.price", "lines.1.price"]
        );
        assert_eq!(
            under(Rules::new().ignore("lines.**")),
            ["seen"],
            "`**` is none, too: the list itself"
        );
        let inner = Rules::new().tolerate("**", near).ignore("lines.**.seen");
        assert_eq!(under(inner), ["seen"]);
        // An answer without fields.
        let rules = Rules::new().tolerate("**", Tolerance::Absolute(1.0));
        assert_eq!(paths(json!(7), json!(8), &rules), [""; 0]);
        assert_eq!(paths(json!(7), json!(9), &rules), [""]);
    }

    #[test]
    fn unordered_lists_are_the_same_items_as_often() {
        let rules = Rules::new().unordered("l");
        let under = |legacy: serde_json::Value, new: serde_json::Value, rules: &Rules| {
            paths(json!({ "l": legacy }), json!({ "l": new }), rules)
        };
        assert_eq!(
            under(json!([1, "a", [2]]), json!([[2], 1, "a"]), &rules),
            [""; 0]
        );
        assert_eq!(
            under(json!([1, 1, 2]), json!([1, 2, 2]), &rules),
            ["l.1"],
            "once too often"
        );
        assert_eq!(
            under(json!([1, 2]), json!([3, 2, 4]), &rules),
            ["l.0", "l.0", "l.2"]
        );
        assert_eq!(under(json!([]), json!([1]), &rules), ["l.0"]);
        let line = |sku: &str, price: i64| json!({"sku": sku, "price": price});
        let (a, b) = (line("a", 1), line("b", 2));
        let moved = under(json!([a, b]), json!([line("b", 3), a]), &rules);
        assert_eq!(
            moved,
            ["l.0.price"],
            "what is left on either side is compared by field"
        );
        // Near is not transitive: 2 must take 3, so that 1 can have 2.
        let near = rules.clone().tolerate("l.*", Tolerance::Absolute(1.0));
        assert_eq!(
            under(json!([2, 1]), json!([2, 3]), &near),
            ["l.1"],
            "the same comes first"
        );
        assert_eq!(under(json!([2, 1]), json!([1.5, 3]), &near), [""; 0]);
        assert_eq!(under(json!([1, 2]), json!([3, 1.5]), &near), [""; 0]);
        let ignored = rules.clone().ignore("l.*");
        assert_eq!(under(json!([1, 2]), json!([3]), &ignored), [""; 0]);
        assert_eq!(
            under(json!([1, 2]), json!([2, 1]), &Rules::new()),
            ["l.0", "l.1"]
        );
    }

    #[test]
    fn long_unordered_lists_end_in_time_and_in_a_difference() {
        let list =
            |from: i64| Value::record([("l", Value::list((0..1_000).map(|n| n * 4 + from)))]);
        let rules = Rules::new()
            .unordered("l")
            .tolerate("l.*", Tolerance::Absolute(1.0));
        let began = std::time::Instant::now();
        assert_eq!(
            diff(&list(0), &list(1), &rules).len(),
            2_000,
            "more pairs than are tried"
        );
        assert!(began.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_closure_that_panics_makes_nothing_equal() {
        let rules = Rules::new().equal_if("a", |_, _| std::panic::resume_unwind(Box::new(())));
        assert_eq!(paths(json!({"a": 1}), json!({"a": 2}), &rules), ["a"]);
        assert_eq!(
            paths(json!({"a": 1}), json!({"a": 1}), &rules),
            [""; 0],
            "the same is equal"
        );
    }

    #[test]
    fn a_bad_rule_names_its_path_and_the_remedy() {
        let text = |rules: Rules| rules.check().map_err(|bad| bad.to_string());
        let cases = [
            (Rules::new().ignore("**"), "\"**\""),
            (Rules::new().ignore("*.*"), "name one"),
            (Rules::new().rename("a.**.b", "c"), "name the levels"),
            (
                Rules::new().tolerate("a", Tolerance::Absolute(f64::NAN)),
                "0 or more",
            ),
            (
                Rules::new().tolerate("a", Tolerance::Absolute(-0.1)),
                "\"a\"",
            ),
            (
                Rules::new().tolerate("a", Tolerance::Relative(1.0)),
                "below 1",
            ),
            (Rules::new().allow("a", Value::list([1]), 1), "a list"),
            (Rules::new().fold_case("a**"), "inside a name"),
        ];
        for (rules, says) in cases {
            let said = text(rules).expect_err(says);
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn toml_refuses_what_it_does_not_know_and_names_it() {
        for (toml, says) in [
            ("ignroe = [\"a\"]", "unknown field `ignroe`"),
            ("ignroe = [\"a\"]", "`ignore`"),
            ("ignore = [\"a..b\"]", "\"a..b\""),
            ("ignore = \"a\"", "ignore"),
            (
                "tolerate = { a = { absolut = 1 } }",
                "unknown field `absolut`",
            ),
            ("tolerate = { a = {} }", "tolerate.\"a\" says nothing"),
            ("tolerate = { a = { absolute = nan } }", "0 or more"),
            (
                "tolerate = { a = { time = \"2 s\" } }",
                "tolerate.\"a\".time is \"2 s\"",
            ),
            (
                "tolerate = { a = { time = \"999999999999999999999999999999h\" } }",
                "unit",
            ),
            (
                "tolerate.lines.price = { absolute = 1 }",
                "stands in quotes",
            ),
            ("allow = { a = [[1]] }", "allow"),
            ("allow = { a = [[1, { nil = true }]] }", "{ null = true }"),
            ("allow = { a = [[1, 2024-01-01]] }", "no scalar"),
            ("rename = { \"a.*\" = \"b.*\" }", "ends in '*'"),
        ] {
            let bad = toml.parse::<Rules>().expect_err(toml);
            assert!(bad.to_string().contains(says), "{toml}: {bad}");
        }
        assert!("".parse::<Rules>().is_ok());
        let read: Rules = "tolerate = { a = { absolute = 1, time = \"90s\" } }"
            .parse()
            .expect("fine");
        assert!(
            read.to_toml().contains("time = \"90s\""),
            "{}",
            read.to_toml()
        );
        let closure = Rules::new().equal_if("x.y", |_, _| false);
        assert_eq!(closure.to_toml(), "# equal_if \"x.y\": a closure\n");
        assert!(matches!("x =".parse::<Rules>(), Err(BadRule::Toml { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn no_rule_panics_and_the_same_comparison_says_the_same(
            one in tree(), other in tree(), adds in proptest::collection::vec(rule(), 0..6),
        ) {
            let rules = adds.iter().fold(all(&adds, false), |rules, add| rules.rename(&add.path, &add.to));
            let first = told(&diff(&one, &other, &rules));
            prop_assert_eq!(first, told(&diff(&one, &other, &rules.clone())));
        }

        #[test]
        fn rules_are_symmetric_and_make_nothing_unequal(
            one in tree(), other in tree(), adds in proptest::collection::vec(rule(), 0..6),
        ) {
            let (rules, mirrored) = (all(&adds, false), all(&adds, true));
            let there = diff(&one, &other, &rules);
            let back = diff(&other, &one, &mirrored);
            prop_assert_eq!(there.is_empty(), back.is_empty());
            let sorted = |found: &[crate::FieldDiff]| {
                let mut paths: Vec<_> = found.iter().map(|field| field.path.clone()).collect();
                paths.sort();
                paths
            };
            // Of pairs that a closure takes for equal, as many are found both ways, but not the same ones.
            let any = |kind| adds.iter().any(|add| add.kind == kind);
            if !(any(UNORDERED) && any(CLOSURE)) {
                prop_assert_eq!(sorted(&there), sorted(&back));
            }
            prop_assert_eq!(diff(&one, &one, &rules), vec![]);
            // What a list without its order is compared by has other numbers.
            if !any(UNORDERED) {
                let bare = sorted(&diff(&one, &other, &Rules::new()));
                prop_assert!(sorted(&there).iter().all(|path| bare.contains(path)));
            } else if diff(&one, &other, &Rules::new()).is_empty() {
                prop_assert!(there.is_empty());
            }
        }

        #[test]
        fn what_is_near_is_near_both_ways(
            one in -9_i64..9, other in -9_i64..9, near in 0.0..0.99_f64, share in any::<bool>(),
            seconds in 0..3_u64,
        ) {
            let tolerance = if share { Tolerance::Relative(near) } else { Tolerance::Absolute(near * 9.0) };
            let instant = |number: i64| Value::Text(format!("2024-01-01T00:00:{:02}Z", number + 9));
            let decimal = |number: i64| Value::Decimal(format!("{number}.0"));
            let time = Tolerance::Time(Duration::from_secs(seconds));
            for (tolerance, one, other) in [
                (tolerance, one.into(), decimal(other)),
                (time, instant(one), instant(other)),
            ] {
                let equal = |one, other| diff(one, other, &Rules::new().tolerate("**", tolerance)).is_empty();
                prop_assert_eq!(equal(&one, &other), equal(&other, &one));
            }
        }

        #[test]
        fn rules_come_back_from_toml_as_they_were(
            one in tree(), other in tree(), adds in proptest::collection::vec(plain_rule(), 0..8),
            from in "[ab]{1,2}(\\.\\*\\.[cd])?", to in "[xy]{1,2}(\\.\\*\\.[zw])?",
        ) {
            let rules = all(&adds, false).rename(&from, &to);
            let text = rules.to_toml();
            let read: Rules = text.parse().map_err(|bad| TestCaseError::fail(format!("{bad}: {text}")))?;
            prop_assert_eq!(read.to_toml(), text);
            prop_assert_eq!(told(&diff(&one, &other, &read)), told(&diff(&one, &other, &rules)));
        }

        #[test]
        fn no_text_panics_as_rules(text in "(ignore|allow|tolerate|rename|[a-z]{0,3}) ?= ?[\\[\\]{}\"a*.=0-9, ]{0,20}|.{0,40}") {
            let _ = text.parse::<Rules>();
        }

        #[test]
        fn any_depth_matches_as_the_obvious_recursion(
            steps in proptest::collection::vec(0..4_u8, 1..7),
            path in proptest::collection::vec(0..2_u8, 0..7),
        ) {
            fn reaches(steps: &[u8], path: &[u8]) -> bool {
                match (steps, path) {
                    ([], path) => path.is_empty(),
                    ([3, rest @ ..], path) => {
                        reaches(rest, path) || (!path.is_empty() && reaches(steps, &path[1..]))
                    }
                    ([2, rest @ ..], [_, path @ ..]) => reaches(rest, path),
                    ([name, rest @ ..], [segment, path @ ..]) => name == segment && reaches(rest, path),
                    (_, []) => false,
                }
            }
            let text: Vec<_> = steps.iter().map(|step| ["a", "b", "*", "**"][usize::from(*step)]).collect();
            let pattern = crate::path::Pattern::parse(&text.join(".")).expect("a path");
            let segments: Vec<_> = path.iter()
                .map(|name| crate::path::Segment::Field(["a", "b"][usize::from(*name)])).collect();
            prop_assert_eq!(pattern.matches(&segments), reaches(&steps, &path));
            let start = (0..=path.len()).any(|end| reaches(&steps, &path[..end]));
            prop_assert_eq!(pattern.matches_start_of(&segments), start);
        }
    }

    #[test]
    fn deep_values_cost_no_stack_under_any_rule() {
        let nested =
            |levels: usize| (0..levels).fold(Value::from(1), |inner, _| Value::List(vec![inner]));
        let bottomless = std::mem::ManuallyDrop::new(Value::list([nested(1_000_000), Value::Null]));
        let rules = Rules::new()
            .unordered("**")
            .fold_case("**")
            .null_is_absent("**")
            .tolerate("**", Tolerance::Absolute(1.0));
        assert!(
            !diff(&bottomless, &bottomless, &rules).is_empty(),
            "too deep is never equal"
        );
        let compared = nested(MAX_DEPTH);
        assert_eq!(diff(&compared, &compared, &rules), vec![]);
        assert!(matches!(rules.fields.first(), Some((_, Rule::Unordered))));
    }
}
