//! The rules of this tree that neither the compiler nor clippy knows.
//!
//! Each rule is a function from files to complaints, and is tried twice: on a sample that breaks
//! it, since a rule that cannot fail checks nothing, and on the tree.

use std::path::Path;

mod loopback;
mod modules;

use crate::support::{
    source::{Source, is_sql, without_tests},
    tree::{self, File, manifests},
};

/// Which packages of the workspace a package may name. The picture is in ARCHITECTURE.md; a new
/// edge is a decision, made here.
const EDGES: &[(&str, &[&str])] = &[
    ("changeover-flags", &[]),
    ("changeover-shadow", &[]),
    ("changeover-macros", &[]),
    (
        "changeover-proxy",
        &["changeover-flags", "changeover-shadow"],
    ),
    (
        "changeover-sync-worker",
        &["changeover-flags", "changeover-shadow"],
    ),
    (
        "changeover",
        &[
            "changeover-flags",
            "changeover-shadow",
            "changeover-proxy",
            "changeover-sync-worker",
            "changeover-macros",
        ],
    ),
];

/// What a package must do without: the beginnings of package names.
const WITHOUT: &[(&str, &[&str])] = &[
    ("changeover-flags", &["tower", "hyper", "http", "axum"]),
    (
        "changeover-shadow",
        &["tower", "hyper", "http", "axum", "sqlx"],
    ),
    ("changeover-proxy", &["hyper", "http", "axum", "sqlx"]),
    (
        "changeover-sync-worker",
        &["tower", "hyper", "http", "axum"],
    ),
];

/// Where the library's sources are.
const LIBRARY: &[&str] = &[
    "flags/src/",
    "shadow/src/",
    "proxy/src/",
    "sync-worker/src/",
    "macros/src/",
    "src/",
];

/// Where SQL may stand in the library's sources.
const SQL: &[(&str, &str)] = &[
    ("sync-worker/src/dialect/", "the protocol's SQL, per engine"),
    ("flags/src/store/", "the flags' own tables"),
    ("flags/src/store.rs", "the flags' own tables"),
    (
        "src/demo/",
        "the demo is an application, and this is its own SQL",
    ),
];

/// Files that may be longer than [`LINES`], each with its reason.
const LONG: &[(&str, &str)] = &[];

/// The most lines of a file, its test module apart.
const LINES: usize = 450;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &[
    "utils", "util", "helpers", "helper", "common", "misc", "types",
];

#[test]
fn packages_import_along_the_edges_only() {
    let broken = |path: &str, text: &str| !edges(&[file(path, text)]).is_empty();
    let package = "[package]\nname = \"changeover-proxy\"\n";
    assert!(!broken(
        "proxy/Cargo.toml",
        &format!("{package}[dependencies]\nchangeover-flags = \"1\"")
    ));
    for worker in [
        "[dependencies]\nchangeover-sync-worker.workspace = true",
        "[dev-dependencies]\nchangeover-sync-worker = \"1\"",
        "[dependencies]\nworker = { package = \"changeover-sync-worker\", version = \"1\" }",
        "[target.'cfg(unix)'.dependencies]\nchangeover-sync-worker = \"1\"",
    ] {
        assert!(
            broken("proxy/Cargo.toml", &format!("{package}{worker}")),
            "{worker}"
        );
    }
    assert!(broken(
        "audit/Cargo.toml",
        "[package]\nname = \"changeover-audit\""
    ));
    let example = "[package]\nname = \"shop\"\n[dependencies]\nchangeover-flags = \"1\"";
    assert!(broken("examples/shop/Cargo.toml", example));
    assert!(!broken(
        "examples/shop/Cargo.toml",
        &example.replace("-flags", "")
    ));
    assert!(broken("bench/Cargo.toml", example));
    obeyed(edges);
}

#[test]
fn packages_do_without_what_is_not_theirs() {
    let manifest = |name: &str, other: &str| {
        let text =
            format!("[package]\nname = \"changeover-{name}\"\n[dependencies]\n{other} = \"1\"");
        without(&[file("Cargo.toml", &text)])
    };
    for (name, other) in [
        ("flags", "hyper"),
        ("sync-worker", "tower-layer"),
        ("proxy", "sqlx"),
        ("shadow", "sqlx"),
    ] {
        assert_eq!(manifest(name, other).len(), 1, "{name} {other}");
    }
    assert!(
        manifest("proxy", "tower-layer").is_empty() && manifest("sync-worker", "sqlx").is_empty()
    );
    obeyed(without);
}

#[test]
fn tests_and_examples_see_only_the_facade() {
    let sees = "use changeover_proxy::Layer;";
    for path in [
        "tests/story.rs",
        "examples/shop.rs",
        "examples/shop/src/main.rs",
        "bench/src/main.rs",
    ] {
        assert_eq!(facade(&[file(path, sees)]).len(), 1, "{path}");
        assert!(facade(&[file(path, "use changeover::Layer; // not changeover_proxy")]).is_empty());
    }
    assert!(facade(&[file("src/lib.rs", sees)]).is_empty());
    obeyed(facade);
}

#[test]
fn sql_stands_in_its_two_places() {
    let bad = |path: &str, text: &str| sql(&[file(path, text)]).len();
    for text in [
        "let q = \"SELECT 1\";",
        "let q = r#\"\n  INSERT INTO t VALUES (1)\"#;",
        "let q = format!(\"update {t} set x = 1\");",
        "let q = \"delete from t\";",
        "let q = \"LOCK TABLE t\";",
        "let q = \"create unique index i on t (x)\";",
    ] {
        assert_eq!(bad("proxy/src/layer.rs", text), 1, "{text}");
        assert_eq!(bad("sync-worker/src/dialect/postgres.rs", text), 0);
    }
    for text in [
        "let e = \"select a mapping first\";",
        "let e = \"SELECTED\"; // SELECT 1",
        "let e = \"create the follower's tables first\";",
        "/// \"SELECT 1\"\nfn f() {}\n#[cfg(test)]\nmod tests { const Q: &str = \"SELECT 1\"; }",
    ] {
        assert_eq!(bad("proxy/src/layer.rs", text), 0, "{text}");
    }
    obeyed(sql);
}

#[test]
fn the_library_does_not_unwrap() {
    let code = "fn f() { g().unwrap() }";
    assert_eq!(
        unwraps(&[file("src/run.rs", &format!("\n{code}"))]),
        ["src/run.rs:2: `unwrap()` in library code"]
    );
    assert_eq!(
        unwraps(&[file("src/run.rs", "fn f() { g()\n    .unwrap ( ) }")]).len(),
        1
    );
    let tests = format!("/// g().unwrap()\nfn f() {{}}\n#[cfg(test)]\nmod tests {{ {code} }}");
    assert!(unwraps(&[file("src/run.rs", &tests), file("tests/run.rs", code)]).is_empty());
    assert!(unwraps(&[file("src/run/tests.rs", code)]).is_empty());
    obeyed(unwraps);
}

#[test]
fn files_stay_short() {
    let lines = "fn f() {}\n".repeat(LINES);
    assert!(
        short(&[file(
            "src/a.rs",
            &format!("{lines}#[cfg(test)]\nmod tests {{}}\n")
        )])
        .is_empty()
    );
    assert_eq!(short(&[file("src/a.rs", &format!("{lines}\n"))]).len(), 1);
    assert!(short(&[file("src/a/tests.rs", &format!("{lines}\n"))]).is_empty());
    obeyed(short);
}

#[test]
fn names_say_what_is_inside() {
    for path in [
        "proxy/src/utils.rs",
        "tests/helpers.rs",
        "src/common/mod.rs",
    ] {
        assert_eq!(names(&[file(path, "")]).len(), 1, "{path}");
    }
    assert!(names(&[file("src/commons.rs", "")]).is_empty());
    obeyed(names);
}

#[test]
fn no_text_names_the_machine_it_was_written_on() {
    // Put together here, so that this file obeys its own rule.
    for place in [
        ["/wo", "rk/main"],
        ["/ho", "me/somebody"],
        ["/ro", "ot/.cargo"],
    ]
    .map(|parts| parts.concat())
    {
        assert_eq!(
            places(&[file("README.md", &format!("one\nsee {place}"))]).len(),
            1,
            "{place}"
        );
    }
    assert!(places(&[file("README.md", "frame/worker, https://example.org/home")]).is_empty());
    obeyed(places);
}

fn edges(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (file, package, dependencies) in manifests(files) {
        let allowed = if users(file) {
            &["changeover"]
        } else if let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == package) {
            *allowed
        } else {
            complaints.push(format!(
                "{}: package {package} is not in the table of edges",
                file.path
            ));
            continue;
        };
        let ours = dependencies
            .iter()
            .filter(|name| EDGES.iter().any(|(own, _)| own == name));
        complaints.extend(
            // A package may name itself, to switch its own features on for its tests.
            ours.filter(|name| **name != package && !allowed.contains(&name.as_str()))
                .map(|name| format!("{}: {package} must not depend on {name}", file.path)),
        );
    }
    complaints
}

fn without(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (file, package, dependencies) in manifests(files) {
        let banned = WITHOUT
            .iter()
            .filter(|(name, _)| *name == package)
            .flat_map(|(_, banned)| *banned);
        for start in banned {
            complaints.extend(
                dependencies
                    .iter()
                    .filter(|name| name.starts_with(start))
                    .map(|name| format!("{}: {package} must do without {name}", file.path)),
            );
        }
    }
    complaints
}

fn facade(files: &[File]) -> Vec<String> {
    let members = EDGES.iter().filter(|(name, _)| *name != "changeover");
    let members: Vec<String> = members.map(|(name, _)| name.replace('-', "_")).collect();
    let outside = |file: &&File| file.path.starts_with("tests/") || users(file);
    in_code(files.iter().filter(outside), |line| {
        let member = members
            .iter()
            .find(|member| line.contains(member.as_str()))?;
        Some(format!("`{member}` behind the facade; say `changeover::`"))
    })
}

fn sql(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in
        library(files).filter(|file| !SQL.iter().any(|(place, _)| file.path.starts_with(place)))
    {
        for (line, literal) in Source::read(without_tests(&file.text)).literals {
            if is_sql(&literal) {
                complaints.push(format!(
                    "{}:{line}: SQL outside its places: {literal:?}",
                    file.path
                ));
            }
        }
    }
    complaints
}

fn unwraps(files: &[File]) -> Vec<String> {
    in_code(library(files), |line| {
        let dense: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        dense
            .contains(".unwrap()")
            .then(|| "`unwrap()` in library code".to_owned())
    })
}

fn short(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.path.ends_with(".rs") && !only_tests(file))
    {
        let lines = without_tests(&file.text).lines().count();
        let listed = LONG.iter().any(|(path, _)| *path == file.path);
        if lines > LINES && !listed {
            complaints.push(format!("{}: {lines} lines, more than {LINES}", file.path));
        } else if lines <= LINES && listed {
            complaints.push(format!(
                "{}: short by now; take it off the list of long files",
                file.path
            ));
        }
    }
    complaints
}

fn names(files: &[File]) -> Vec<String> {
    let named = files.iter().filter(|file| file.path.ends_with(".rs"));
    let empty = named.filter(|file| {
        file.path
            .trim_end_matches(".rs")
            .split('/')
            .any(|part| EMPTY_NAMES.contains(&part))
    });
    empty
        .map(|file| format!("{}: the name does not say what is inside", file.path))
        .collect()
}

fn places(files: &[File]) -> Vec<String> {
    let places = [["/wo", "rk/"], ["/ho", "me/"], ["/ro", "ot/"]].map(|parts| parts.concat());
    let mut complaints = Vec::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            // The beginning of a path, not a part of a longer one or of an address.
            let begins = |at: usize| {
                let before = line.get(..at).and_then(|before| before.chars().last());
                before.is_none_or(|c| {
                    !c.is_alphanumeric() && !matches!(c, '.' | '-' | '_' | '~' | '}')
                })
            };
            let found = places
                .iter()
                .find(|place| line.match_indices(place.as_str()).any(|(at, _)| begins(at)));
            complaints.extend(
                found.map(|place| {
                    format!("{}:{}: a machine's path, {place}", file.path, number + 1)
                }),
            );
        }
    }
    complaints
}

/// Whether a file belongs to a package that uses the library as anybody would.
fn users(file: &File) -> bool {
    ["examples/", "bench/"]
        .iter()
        .any(|folder| file.path.starts_with(folder))
}

/// The library's own files, those that hold nothing but tests apart.
fn library(files: &[File]) -> impl Iterator<Item = &File> {
    files.iter().filter(|file| {
        let ours = LIBRARY.iter().any(|folder| file.path.starts_with(folder));
        ours && file.path.ends_with(".rs") && !only_tests(file)
    })
}

/// Whether a file is a test module, moved out of the file that it tests.
fn only_tests(file: &File) -> bool {
    file.path.ends_with("tests.rs") || file.path.contains("/tests/")
}

/// Complaints about lines of code, comments, literals and test modules apart.
fn in_code<'a>(
    files: impl Iterator<Item = &'a File>,
    complaint: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.filter(|file| file.path.ends_with(".rs")) {
        let source = Source::read(without_tests(&file.text));
        for (number, line) in source.code.lines().enumerate() {
            complaints.extend(
                complaint(line).map(|what| format!("{}:{}: {what}", file.path, number + 1)),
            );
        }
    }
    complaints
}

fn file(path: &str, text: &str) -> File {
    File {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

fn obeyed(rule: fn(&[File]) -> Vec<String>) {
    let files = tree::read(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(
        files.iter().any(|file| file.path == "tests/tidy.rs"),
        "the tree was not read"
    );
    let complaints = rule(&files);
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
