//! What `docs/adoption.md` shows is what `examples/first_shadow_read` runs, so that neither can
//! change alone. And the README's table lists the examples that there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::tree::{self, File};

/// The example's own lines, which a reader has no use for.
const OWN: &[&str] = &["proof", "//!"];

#[test]
fn the_guide_shows_the_example_line_by_line() {
    let guide = read("docs/adoption.md");
    for file in ["main.rs", "contract.rs", "mapping.toml", "changeover.toml"] {
        let shown = shown(&guide, file);
        let run = read(&format!("examples/first_shadow_read/{file}"));
        assert_same(file, &shown, &without_own(&run));
    }
    // A command line of one's own: three lines, compiled as documentation of `cli`.
    let shown = shown(&guide, "examples/changeover.rs");
    let manual = read("src/cli.rs");
    let example = manual.split("//! ```no_run").nth(1).unwrap();
    let example = example.split("//! ```").next().unwrap();
    let run: Vec<&str> = lines(example)
        .map(|line| line.trim_start_matches("//! ").trim())
        .collect();
    assert_same("examples/changeover.rs", &shown, &run);

    // Rust that no program holds could not be held to anything.
    for block in blocks(&guide).filter(|(info, _)| info.starts_with("rust")) {
        let named = block.0.split_once(' ');
        assert!(
            named.is_some(),
            "a block of Rust without a file:\n{}",
            block.1
        );
    }
}

#[test]
fn a_guide_that_shows_something_else_is_found() {
    let guide = "text\n```rust main.rs\nlet a = 1;\n```\nmore\n```sh\ncargo run\n```\n```rust main.rs\n\n  a\n```\n";
    assert_eq!(shown(guide, "main.rs"), ["let a = 1;", "a"]);
    assert_eq!(shown(guide, "other.rs"), Vec::<&str>::new());
    assert_eq!(
        without_own("//! doc\nlet a = 1;\n    proof::of(a);\n\n  a\n"),
        ["let a = 1;", "a"]
    );
}

#[test]
fn the_readme_lists_every_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let there: BTreeSet<String> = tree::read(&root.join("examples"))
        .iter()
        .filter_map(name)
        .collect();
    assert!(there.contains("first_shadow_read") && there.contains("smallest"));
    let readme = read("README.md");
    let listed: BTreeSet<String> = readme
        .lines()
        .filter(|line| line.contains("cargo run --example "))
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(listed, there);
}

/// The example that a file is the main file of.
fn name(file: &File) -> Option<String> {
    let (name, rest) = file.path.split_once('/').unwrap_or((&file.path, "main.rs"));
    let single = name.strip_suffix(".rs");
    (rest == "main.rs").then(|| single.unwrap_or(name).to_owned())
}

/// The lines of all blocks that the guide says are of this file, one after another.
fn shown<'a>(guide: &'a str, file: &str) -> Vec<&'a str> {
    let of_file = |info: &str| info.split_once(' ').is_some_and(|(_, named)| named == file);
    let blocks = blocks(guide).filter(|(info, _)| of_file(info));
    blocks.flat_map(|(_, text)| lines(text)).collect()
}

/// What follows the three ticks, and the text up to the next three.
fn blocks(guide: &str) -> impl Iterator<Item = (&str, &str)> {
    let inside = guide.split("\n```").skip(1).step_by(2);
    inside.filter_map(|block| block.split_once('\n'))
}

fn without_own(text: &str) -> Vec<&str> {
    lines(text)
        .filter(|line| !OWN.iter().any(|own| line.contains(own)))
        .collect()
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

fn assert_same(file: &str, shown: &[&str], run: &[&str]) {
    let differ = shown.iter().zip(run).find(|(shown, run)| shown != run);
    assert_eq!(
        differ, None,
        "{file}: the guide (left) and the example (right)"
    );
    assert_eq!(
        shown.len(),
        run.len(),
        "{file}: lines in the guide, and in the example"
    );
    assert!(!shown.is_empty(), "{file} is not in the guide");
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
