use std::error::Error as StdError;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn store() -> (TempDir, FileStore) {
    let directory = TempDir::new().expect("a directory");
    let store = FileStore::new(directory.path(), &Entity::new("listings").expect("valid"));
    (directory, store)
}

fn list(keys: &[&str], routed_by: &[&str]) -> KeyList {
    KeyList::new(keys.iter().copied(), routed_by.iter().copied()).expect("valid")
}

fn full() -> Saved {
    Saved {
        read_new: Percent::new(12.5).expect("valid"),
        sample: Percent::new(0.07).expect("valid"),
        exceptions: Arc::new(Exceptions {
            always_new: list(&["42", r"a\,b,7"], &["test \"tenant\""]),
            never_new: list(&[], &["Zürich"]),
            operations: BTreeMap::from([
                (
                    "get".to_owned(),
                    Shares {
                        read_new: Percent::new(50.0).ok(),
                        sample: None,
                    },
                ),
                (
                    "a \"list\".".to_owned(),
                    Shares {
                        read_new: None,
                        sample: Percent::new(0.5).ok(),
                    },
                ),
            ]),
        }),
        kill: Some(Kill::new("p99 \"doubled\"\n\\ since 10:00, Zürich 🦀")),
        learnt: Some(Learnt {
            stage: Stage::DualWrite,
            epoch: 31,
            revision: 2,
            base: Version::base(1),
            ready: true,
        }),
    }
}

/// The message with its causes, as an operator sees it.
fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

fn load_edited(from: &str, to: &str) -> Result<Option<Saved>, StoreError> {
    let (_directory, store) = store();
    let text = render(&store.entity, &full());
    assert!(text.contains(from), "{from:?} does not stand in {text}");
    fs::write(store.path(), text.replace(from, to)).expect("written");
    store.load()
}

#[test]
fn nothing_saved_is_nothing_and_a_missing_directory_is_an_error() {
    let (directory, store) = store();
    assert!(matches!(store.load(), Ok(None)));
    drop(directory);
    let error = store.load().expect_err("no directory");
    assert!(matches!(error, StoreError::NoDirectory { .. }), "{error}");
    let error = store.save(&full()).expect_err("no directory");
    assert!(matches!(error, StoreError::Write { .. }), "{error}");
    assert!(error.to_string().contains("listings.toml"), "{error}");
}

fn any_exceptions() -> impl Strategy<Value = Exceptions> {
    let texts = || {
        let text = proptest::collection::vec(any::<char>(), 1..20);
        proptest::collection::vec(text.prop_map(String::from_iter), 0..4)
    };
    let list = move || {
        (texts(), texts()).prop_map(|(keys, tenants)| KeyList::new(keys, tenants).expect("short"))
    };
    let percent = || {
        let percent =
            (0u16..=10_000).prop_map(|n| Percent::from_ten_thousandths(n).expect("in range"));
        proptest::option::of(percent)
    };
    let shares = (percent(), percent()).prop_map(|(read_new, sample)| Shares { read_new, sample });
    let name = proptest::collection::vec(any::<char>(), 0..10).prop_map(String::from_iter);
    let operations = proptest::collection::btree_map(name, shares, 0..3);
    (list(), list(), operations).prop_map(|(always_new, never_new, operations)| Exceptions {
        always_new,
        never_new,
        operations,
    })
}

fn any_saved() -> impl Strategy<Value = Saved> {
    let percent =
        || (0u16..=10_000).prop_map(|n| Percent::from_ten_thousandths(n).expect("in range"));
    let kill = proptest::option::of(
        proptest::collection::vec(any::<char>(), 0..30)
            .prop_map(|reason| Kill::new(&String::from_iter(reason))),
    );
    let learnt = (0usize..4, any::<[i64; 3]>(), any::<bool>()).prop_map(
        |(stage, [epoch, revision, base], ready)| Learnt {
            stage: Stage::ALL[stage],
            epoch,
            revision,
            base: Version(base),
            ready,
        },
    );
    let exceptions = any_exceptions().prop_map(Arc::new);
    (
        percent(),
        percent(),
        exceptions,
        kill,
        proptest::option::of(learnt),
    )
        .prop_map(|(read_new, sample, exceptions, kill, learnt)| Saved {
            read_new,
            sample,
            exceptions,
            kill,
            learnt,
        })
}

proptest! {
    #[test]
    fn what_is_saved_is_loaded(saved in any_saved()) {
        let (_directory, store) = store();
        let text = render(&store.entity, &saved);
        prop_assert_eq!(store.parse(store.path(), &text).expect("parses"), saved);
    }
}

#[test]
fn any_reason_is_one_line_of_the_file() {
    let reason: String = ('\0'..='\u{100}')
        .chain(['\u{2028}', '\u{1f980}'])
        .collect();
    assert_eq!(quoted(&reason).lines().count(), 1);
    let saved = Saved {
        kill: Some(Kill::new(&reason)),
        ..full()
    };
    let (_directory, store) = store();
    store.save(&saved).expect("saved");
    assert_eq!(store.load().expect("loaded"), Some(saved));
}

#[test]
fn a_save_replaces_the_file_and_leaves_nothing_else() {
    let (directory, store) = store();
    store.save(&Saved::default()).expect("saved");
    store.save(&full()).expect("saved");
    assert_eq!(store.load().expect("loaded"), Some(full()));
    let names: Vec<_> = fs::read_dir(directory.path())
        .expect("listed")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(names, ["listings.toml"]);
}

#[test]
fn a_save_that_fails_leaves_nothing_behind() {
    let (directory, store) = store();
    fs::create_dir(store.path()).expect("a directory where the file should be");
    assert!(matches!(store.save(&full()), Err(StoreError::Write { .. })));
    assert!(matches!(store.load(), Err(StoreError::Read { .. })));
    let count = fs::read_dir(directory.path()).expect("listed").count();
    assert_eq!(count, 1, "a temporary file was left");
}

#[cfg(unix)]
#[test]
fn the_mode_of_the_file_is_kept() {
    use std::os::unix::fs::PermissionsExt;
    let (_directory, store) = store();
    store.save(&full()).expect("saved");
    let mode = fs::Permissions::from_mode(0o664);
    fs::set_permissions(store.path(), mode).expect("set");
    store.save(&Saved::default()).expect("saved");
    let mode = fs::metadata(store.path()).expect("there").permissions();
    assert_eq!(mode.mode() & 0o777, 0o664);
}

/// A writer that is not ours may be caught half way. No part of a file may pass for other flags;
/// the part that ends before `[learnt]` is a file whose stage is unknown, which serves nothing.
#[test]
fn a_torn_file_never_passes_for_other_flags() {
    let (_directory, store) = store();
    let text = render(&store.entity, &full());
    let (mut whole, mut unknown) = (0, 0);
    for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
        let Ok(saved) = store.parse(store.path(), &text[..end]) else {
            continue;
        };
        if saved == full() {
            whole += 1;
        } else {
            let without = Saved {
                learnt: None,
                ..full()
            };
            assert_eq!(saved, without, "{}", &text[..end]);
            unknown += 1;
        }
    }
    assert_eq!(whole, 2, "with and without the last line's end");
    assert!(unknown > 0);
}

#[test]
fn a_kill_is_thrown_by_true_or_any_text_and_cleared_by_false() {
    let line = format!("kill = {}", quoted(&full().kill.expect("thrown").reason));
    let kill = |text: &str| {
        let saved = load_edited(&line, text).expect("loads").expect("there");
        saved.kill
    };
    assert_eq!(kill("kill = false"), None);
    assert!(kill("kill = true").is_some());
    assert_eq!(kill("kill = ''"), Some(Kill::new("")));
    assert_eq!(kill("kill = 'slow'"), Some(Kill::new("slow")));
    let error = load_edited(&line, "kill = 1").expect_err("refused");
    assert!(chain(&error).contains("true, false, or a reason in quotes"));
    assert_eq!(Kill::new(&"ü".repeat(600)).reason.chars().count(), 500);
}

#[test]
fn mistakes_name_the_file_the_key_and_the_remedy() {
    for (from, to, names) in [
        ("sample =", "sampel =", "unknown field, expected "),
        ("revision =", "revison =", "unknown field, expected "),
        ("read_new = 12.5", "", "missing field `read_new`"),
        ("read_new = 12.5", "read_new = 120", "read_new: 120 is not"),
        ("read_new = 12.5", "read_new = 120", "0 to 100"),
        ("read_new = 12.5", "read_new = nan", "0 to 100"),
        (
            "read_new = 12.5",
            "read_new = \"12\"",
            "read_new: invalid type: string, expected f64",
        ),
        ("\"dual-write\"", "\"dual\"", "unknown variant `dual`"),
        (
            "format = 1",
            "format = 'one'",
            "format: invalid type: string, expected i64",
        ),
        (
            "format = 1",
            "format = 1\ncanary-7 = true",
            "unknown field, expected ",
        ),
        ("format = 1", "", "missing field `format`"),
        (
            "always_new.keys",
            "always_new.key",
            "unknown field, expected `keys` or `routed_by`",
        ),
        ("never_new.", "newer_new.", "unknown field, expected "),
        ("never_new.keys = []", "never_new.keys = ['']", "1 to 256"),
        (
            "never_new.keys = []",
            "never_new.keys = [7]",
            "never_new.keys: invalid type: integer, expected a string",
        ),
        (
            "read_new = 50.0 }",
            "read = 50.0 }",
            "unknown field, expected ",
        ),
        (
            "read_new = 50.0 }",
            "read_new = 50.001 }",
            "operations.\"get\": 50.001 is",
        ),
        (
            "ready = true",
            "ready = true\nread_new",
            "key with no value",
        ),
    ] {
        let error = load_edited(from, to).expect_err(to);
        let text = chain(&error);
        assert!(matches!(error, StoreError::Malformed { .. }), "{text}");
        for part in [names, "listings.toml", "correct it"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(!text.contains("canary"), "{text}");
        let missing = names.starts_with("missing");
        assert!(missing != text.contains(": line "), "{text}");
    }
    let whole = load_edited("read_new = 12.5", "read_new = 25").expect("a whole number is fine");
    assert_eq!(whole.map(|s| s.read_new.ten_thousandths()), Some(2_500));
}

/// Of an older release, or of somebody who wants no exceptions.
#[test]
fn a_file_without_exceptions_is_whole() {
    let text = "format = 1\nentity = 'listings'\nread_new = 0\nsample = 0\nkill = false\n";
    let (_directory, store) = store();
    let saved = store.parse(store.path(), text).expect("parses");
    assert_eq!(saved, Saved::default());
    let many: String = (0..1_001)
        .map(|n| format!("operations.o{n} = {{}}\n"))
        .collect();
    let error = store.parse(store.path(), &format!("{many}{text}"));
    assert!(chain(&error.expect_err("refused")).contains("more than 1000 operations"));
    let texts: Vec<String> = (0..1_000).map(|n| format!("'{n}'")).collect();
    let list = |texts: &[String]| format!("always_new.keys = [{}]\n{text}", texts.join(", "));
    let saved = store.parse(store.path(), &list(&texts)).expect("just fits");
    assert_eq!(saved.exceptions.always_new.len(), 1_000);
    let texts = [texts, vec!["'one more'".to_owned()]].concat();
    let error = store
        .parse(store.path(), &list(&texts))
        .expect_err("refused");
    assert!(chain(&error).contains("1001 keys: name at most 1000"));
}

#[test]
fn a_file_of_another_entity_or_format_is_refused() {
    let error = load_edited("entity = \"listings\"", "entity = \"orders\"").expect_err("refused");
    assert!(matches!(error, StoreError::WrongEntity { .. }), "{error}");
    assert_eq!(error.kill(), None, "it is not ours");
    let error = load_edited("format = 1", "format = 2\nnovelty = 1").expect_err("refused");
    assert!(
        matches!(error, StoreError::Format { found: 2, .. }),
        "{error}"
    );
    assert_eq!(error.kill(), full().kill.as_ref());
}

#[test]
fn garbage_is_an_error_and_never_an_empty_state() {
    let (_directory, store) = store();
    let large = "#".repeat(MAX_BYTES as usize + 1);
    for garbage in [
        &b"\xff\xfe\0"[..],
        b"",
        b"\0\0\0\0",
        b"<<<<<",
        large.as_bytes(),
    ] {
        fs::write(store.path(), garbage).expect("written");
        let error = store.load().expect_err("refused");
        assert!(matches!(error, StoreError::Malformed { .. }), "{error}");
        assert!(error.to_string().contains("listings.toml"), "{error}");
    }
}
