//! Counts what README.md claims: the lines between `examples/axum_before` and
//! `examples/axum_after`, as `diff -rN examples/axum_before examples/axum_after | grep -c '^[<>]'`
//! counts them: each added and each removed line, comments and blank lines too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The claim: fewer lines than this.
const FEWER_THAN: usize = 60;

/// Where most of them must be: files that are new, and go when the listings have moved.
const ONE_PLACE: &[&str] = &["moving.rs", "mapping.toml"];

/// The most lines of the smallest layer.
const SMALLEST: usize = 40;

#[test]
fn a_service_changes_by_fewer_than_60_lines_most_of_them_in_one_place() {
    let changed = changed(&folder("axum_before"), &folder("axum_after"));
    let total: usize = changed.values().sum();
    let one_place: usize = ONE_PLACE.iter().filter_map(|name| changed.get(*name)).sum();
    println!("{total} changed lines, {one_place} of them in {ONE_PLACE:?}: {changed:?}");
    assert!(total < FEWER_THAN, "{total} changed lines: {changed:?}");
    assert!(
        one_place * 3 > total * 2,
        "{one_place} of {total} are in one place: {changed:?}"
    );
    // Handlers, repositories and schemas stay as they are.
    let elsewhere: Vec<_> = changed
        .keys()
        .filter(|name| !ONE_PLACE.contains(&name.as_str()))
        .collect();
    assert_eq!(elsewhere, ["main.rs"]);
    for claim in claims(&read("README.md").unwrap_or_default()) {
        let so = claim == total || claim == FEWER_THAN;
        assert!(so, "README.md says {claim} changed lines, it is {total}");
    }
}

#[test]
fn the_smallest_layer_has_at_most_40_lines() {
    let lines = read("examples/smallest.rs").unwrap().lines().count();
    assert!(lines <= SMALLEST, "{lines} lines");
}

#[test]
fn the_count_is_that_of_a_diff() {
    let count = |old: &str, new: &str| difference(&lines(old), &lines(new));
    assert_eq!(count("a\nb\nc", "a\nb\nc"), 0);
    assert_eq!(count("", "a\nb"), 2);
    assert_eq!(count("a\nb\nc", "a\nx\nc"), 2);
    assert_eq!(count("a\nb\nc\nd", "b\nc\nd\na"), 2);
    assert_eq!(
        claims("It takes 56 changed lines,\nof which 41 lines; or 7\nchanged lines."),
        [56, 7]
    );
    let files = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect()
    };
    let (old, new) = (
        files(&[("a", "1"), ("gone", "1\n2")]),
        files(&[("a", "1\n"), ("come", "3")]),
    );
    assert_eq!(
        changed(&old, &new),
        BTreeMap::from([("come".into(), 1), ("gone".into(), 2)])
    );
}

type Files = BTreeMap<String, String>;

/// Changed lines by file, those without any apart.
fn changed(old: &Files, new: &Files) -> BTreeMap<String, usize> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let text = |files: &Files, name: &String| files.get(name).cloned().unwrap_or_default();
    let count = |name: &String| difference(&lines(&text(old, name)), &lines(&text(new, name)));
    let counts = names.into_iter().map(|name| (name.clone(), count(name)));
    counts.filter(|(_, count)| *count > 0).collect()
}

/// Lines added and removed, as few as can be: all that are not in a longest common subsequence.
fn difference(old: &[&str], new: &[&str]) -> usize {
    let mut common = vec![0; new.len() + 1];
    for line in old {
        let mut diagonal = 0;
        for (index, other) in new.iter().enumerate() {
            let above = common[index + 1];
            common[index + 1] = if line == other {
                diagonal + 1
            } else {
                above.max(common[index])
            };
            diagonal = above;
        }
    }
    old.len() + new.len() - 2 * common[new.len()]
}

/// The numbers that a text gives as "N changed lines".
fn claims(text: &str) -> Vec<usize> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let claim = |three: &[&str]| match three {
        [number, "changed", last] if last.starts_with("lines") => number.parse().ok(),
        _ => None,
    };
    words.windows(3).filter_map(claim).collect()
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

fn folder(example: &str) -> Files {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(example);
    let files: Files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            assert!(
                entry.file_type().unwrap().is_file(),
                "{name}: a folder, which is not counted"
            );
            (name, fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    assert!(files.contains_key("main.rs"));
    files
}
