//! Reads the files of this tree.

use std::{fs, path::Path};

/// A text file, its path relative to the root, with `/` between folders.
pub struct File {
    pub path: String,
    pub text: String,
}

/// All text files under `root`, build output and git's own folder apart.
pub fn read(root: &Path) -> Vec<File> {
    let mut files = Vec::new();
    read_folder(root, "", &mut files);
    files
}

/// Every package: its manifest, its name, the packages it depends on in any way.
pub fn manifests(files: &[File]) -> Vec<(&File, String, Vec<String>)> {
    let manifests = files
        .iter()
        .filter(|file| file.path.ends_with("Cargo.toml"));
    let read = manifests.filter_map(|file| {
        let manifest: toml::Table = file
            .text
            .parse()
            .unwrap_or_else(|e| panic!("{}: {e}", file.path));
        let package = manifest.get("package")?.get("name")?.as_str()?.to_owned();
        let targets = manifest
            .get("target")
            .and_then(toml::Value::as_table)
            .into_iter()
            .flatten();
        let tables = targets
            .filter_map(|(_, target)| target.as_table())
            .chain([&manifest]);
        let dependencies = tables.flat_map(dependencies).collect();
        Some((file, package, dependencies))
    });
    read.collect()
}

fn dependencies(table: &toml::Table) -> Vec<String> {
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let entries = kinds
        .iter()
        .filter_map(|kind| table.get(*kind)?.as_table())
        .flatten();
    let renamed = |value: &toml::Value| Some(value.get("package")?.as_str()?.to_owned());
    entries
        .map(|(name, value)| renamed(value).unwrap_or_else(|| name.clone()))
        .collect()
}

fn read_folder(folder: &Path, relative: &str, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{relative}{name}");
        let kind = entry.file_type().unwrap();
        // In a worktree `.git` is a file.
        if matches!(name.as_str(), "target" | ".git") {
            continue;
        }
        if kind.is_dir() {
            read_folder(&entry.path(), &format!("{path}/"), files);
        } else if kind.is_file() {
            // What is not UTF-8 is not text.
            files.extend(
                fs::read_to_string(entry.path())
                    .ok()
                    .map(|text| File { path, text }),
            );
        }
    }
}
