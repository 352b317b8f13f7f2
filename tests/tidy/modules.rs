//! A file of tests that no module names compiles to nothing, and passes.

use super::{File, file, obeyed};

/// Complaints about files of `tests` that no other file names as a module.
fn unnamed(files: &[File]) -> Vec<String> {
    let named = |path: &str| {
        let (folder, name) = path.trim_end_matches(".rs").rsplit_once('/')?;
        if name == "mod" {
            return named_in(files, folder);
        }
        named_in(files, &format!("{folder}/{name}"))
    };
    let tests = files.iter().filter(|file| {
        file.path.starts_with("tests/")
            && file.path.ends_with(".rs")
            && file.path != "tests/integration.rs"
            // A binary of its own, whose cases a pattern finds.
            && !file.path.starts_with("tests/messages/")
    });
    tests
        .filter(|file| named(&file.path).is_none())
        .map(|file| format!("{}: no module of this name is declared", file.path))
        .collect()
}

/// Whether the module of this path is declared where it must be.
fn named_in(files: &[File], module: &str) -> Option<()> {
    let (folder, name) = module.rsplit_once('/')?;
    let parents = match folder {
        "tests" => vec!["tests/integration.rs".to_owned()],
        _ => vec![format!("{folder}/mod.rs"), format!("{folder}.rs")],
    };
    let declared = format!("mod {name};");
    let mut parents = files.iter().filter(|file| parents.contains(&file.path));
    let says = |file: &File| file.text.lines().any(|line| line.ends_with(&declared));
    let path = format!("#[path = \"{name}.rs\"]");
    let points = |file: &File| file.path.starts_with(folder) && file.text.contains(&path);
    (parents.any(says) || files.iter().any(points)).then_some(())
}

#[test]
fn every_file_of_tests_is_run() {
    let tree = |declares: &str| {
        [
            file("tests/integration.rs", "mod protocol;\n"),
            file("tests/protocol/mod.rs", declares),
            file("tests/protocol/parts.rs", ""),
        ]
    };
    assert!(unnamed(&tree("pub mod parts;\n")).is_empty());
    assert_eq!(unnamed(&tree("mod party;\n")).len(), 1);
    obeyed(unnamed);
}
