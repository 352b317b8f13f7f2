//! Lists of keys, and percentages of single operations.

use super::*;
use crate::{BadList, Exceptions, Key, KeyList, Listed, Shares};

fn list(keys: &[&str]) -> KeyList {
    KeyList::of_keys(keys.iter().copied()).expect("valid")
}

fn share(read_new: f64) -> Shares {
    Shares {
        read_new: Some(percent(read_new)),
        sample: None,
    }
}

fn listed(flags: &Flags, key: &str) -> Option<Listed> {
    let exceptions = flags.in_force().exceptions?;
    exceptions.listed(&[Key::new(key)], None)
}

/// The epoch of `number`, without a clean verify.
fn unready(number: i64) -> Epoch {
    Epoch {
        verified: false,
        ..epoch(number, Stage::DualWrite)
    }
}

#[test]
fn exceptions_are_shown_with_the_flags_and_survive_a_restart() {
    let directory = TempDir::new().expect("a directory");
    let open = || Flags::open(listings(), FileStore::new(directory.path(), &listings()));
    let flags = open().expect("opens");
    flags.learn(&epoch(2, Stage::DualWrite)).expect("saved");
    let without = flags.in_force();
    assert_eq!(without.exceptions, None);
    assert!(!without.snapshot.excepted);
    flags.set_always_new(list(&["7"])).expect("ready");
    flags.set_never_new(list(&["8"])).expect("saved");
    flags.set_operation("get", share(5.0)).expect("ready");
    assert!(flags.load().excepted);
    assert_eq!(flags.in_force().snapshot, flags.load());
    let before = (flags.in_force(), flags.saved());
    drop(flags);
    let flags = open().expect("opens");
    assert_eq!((flags.in_force(), flags.saved()), before);
    assert_eq!(listed(&flags, "7"), Some(Listed::AlwaysNew));
    assert_eq!(listed(&flags, "8"), Some(Listed::NeverNew));
    let exceptions = flags.in_force().exceptions.expect("some");
    assert_eq!(exceptions.read_new("get"), Some(percent(5.0)));
    assert_eq!(exceptions.read_new("list"), None);
    flags.set_always_new(KeyList::default()).expect("saved");
    flags.set_never_new(KeyList::default()).expect("saved");
    flags
        .set_operation("get", Shares::default())
        .expect("saved");
    assert_eq!(flags.in_force(), without, "one word again");
}

#[test]
fn a_list_and_a_share_wait_until_the_new_side_is_ready() {
    let store = Faulty::new();
    let flags = open(&store);
    flags.learn(&unready(2)).expect("saved");
    for error in [
        flags.set_always_new(list(&["7"])),
        flags.set_operation("get", share(0.01)),
    ] {
        let error = error.expect_err("refused");
        assert!(matches!(error, Refused::NotReady(_)), "{error}");
    }
    // What sends nothing to new needs no evidence.
    flags.set_never_new(list(&["8"])).expect("saved");
    flags.set_operation("get", share(0.0)).expect("saved");
    let before = flags.in_force();
    for ask in [
        |exceptions: &mut Exceptions| exceptions.always_new = list(&["7"]),
        |exceptions: &mut Exceptions| {
            exceptions.operations.insert("get".into(), share(1.0));
        },
    ] {
        let good = store.stored();
        store.edit(|saved| ask(Arc::make_mut(&mut saved.exceptions)));
        let error = flags.reload().expect_err("refused");
        assert!(matches!(error, StoreError::NotReady(_)), "{error}");
        assert_eq!(flags.in_force(), before);
        let restarted = Flags::open(listings(), Arc::clone(&store));
        assert!(restarted.is_err(), "refused at a start too");
        store.edit(|saved| *saved = good);
    }
}

#[test]
fn nothing_goes_to_new_when_readiness_is_lost_and_nothing_comes_back_by_itself() {
    let store = Faulty::new();
    let flags = ramped(&store);
    flags.set_always_new(list(&["7"])).expect("ready");
    flags.set_never_new(list(&["8"])).expect("saved");
    let shares = Shares {
        sample: Some(percent(3.0)),
        ..share(100.0)
    };
    flags.set_operation("get", shares).expect("ready");
    flags.set_read_new(Percent::ZERO).expect("saved");
    flags.learn(&unready(3)).expect("saved");
    flags.learn(&epoch(4, Stage::DualWrite)).expect("saved");
    assert!(flags.load().ready);
    let exceptions = flags.in_force().exceptions.expect("some");
    assert!(exceptions.always_new.is_empty());
    assert_eq!(exceptions.never_new, list(&["8"]));
    assert_eq!(exceptions.read_new("get"), Some(Percent::ZERO));
    assert_eq!(exceptions.sample("get"), Some(percent(3.0)));
    assert_eq!(store.stored(), flags.saved());
}

#[test]
fn a_bad_edit_of_a_list_changes_nothing_and_is_said_until_it_is_mended() {
    let directory = TempDir::new().expect("a directory");
    let store = FileStore::new(directory.path(), &listings());
    let path = store.path();
    let flags = Flags::open(listings(), store).expect("opens");
    flags.learn(&epoch(2, Stage::DualWrite)).expect("saved");
    flags.set_never_new(list(&["8"])).expect("saved");
    flags.declare_operations(&["get", "list"]);
    let good = fs::read_to_string(&path).expect("there");
    let before = flags.in_force();
    let long = format!("['{}']", "x".repeat(257));
    for (from, to, names, is_toml) in [
        ("[\"8\"]", "[\"8\"", "listings.toml", false),
        ("[\"8\"]", long.as_str(), "1 to 256", true),
        (
            "never_new.keys",
            "operations.gett = { read_new = 0 }\nnever_new.keys",
            "no operation \"gett\": use one of those that its layer declares: get, list",
            true,
        ),
    ] {
        let bad = good
            .replace(from, to)
            .replace("kill = false", "kill = true");
        fs::write(&path, &bad).expect("written");
        flags.reload().expect_err("refused");
        let mut expected = before.clone();
        expected.snapshot.kill = is_toml;
        assert_eq!(flags.in_force(), expected, "not by half, but for a kill");
        let troubles = flags.troubles().join("\n");
        assert!(troubles.contains(names), "{troubles}");
        flags.set_sample(percent(1.0)).expect_err("not saved");
        assert_eq!(fs::read_to_string(&path).expect("there"), bad);
        fs::write(&path, &good).expect("written");
        flags.reload().expect("mended");
        flags.set_sample(Percent::ZERO).expect("saved");
        assert_eq!(flags.troubles(), Vec::<String>::new());
    }
    let edited = good.replace(
        "[\"8\"]",
        "[\"9\"]\noperations.list = { read_new = 10, sample = 2.5 }",
    );
    fs::write(&path, edited).expect("written");
    assert!(flags.reload().expect("a good edit"));
    assert_eq!(listed(&flags, "8"), None);
    assert_eq!(listed(&flags, "9"), Some(Listed::NeverNew));
}

/// What is wrong with a file is said to everybody who sees a status; which keys it lists is not.
#[test]
fn a_broken_list_is_said_without_its_keys() {
    let directory = TempDir::new().expect("a directory");
    let store = FileStore::new(directory.path(), &listings());
    let path = store.path();
    let flags = Flags::open(listings(), store).expect("opens");
    flags.learn(&epoch(2, Stage::DualWrite)).expect("saved");
    flags
        .set_always_new(list(&["canary-7", "other"]))
        .expect("ready");
    let good = fs::read_to_string(&path).expect("there");
    let whole = "always_new.keys = [\"canary-7\", \"other\"]";
    assert!(good.contains(whole), "{good}");
    let long = format!("always_new.keys = [\"canary-7{}\"]", "x".repeat(257));
    for (broken, why) in [
        (
            "always_new.keys = [\"canary-7\" \"other\"]",
            "line 7, column 31, always_new.keys: missing comma between array elements",
        ),
        (
            "always_new.keys = [\"canary-7\", \"other\"",
            "line 9, column 1, never_new.keys: missing comma between array elements",
        ),
        (
            "always_new.keys = [\"canary-7\", canary-7]",
            "line 7, column 32, always_new.keys: string values must be quoted",
        ),
        (
            "always_new.keys = [\"canary-7\", 70007]",
            "line 7, column 32, always_new.keys: invalid type: integer, expected a string",
        ),
        (
            "always_new.keys = [\"other\", 70007.5]",
            "always_new.keys: invalid type: floating point, expected a string",
        ),
        (
            &long,
            "line 7, column 1, always_new: a listed text of 265 bytes: use 1 to 256",
        ),
        (
            "always_new.keys = [\n  \"canary-7\",\n  \"other\"\n  \"third\",\n]",
            "line 10, column 3: missing comma between array elements",
        ),
        (
            "always_new.keys = [\n  \"other\",\n  canary-7 = \"canary-7\",\n]",
            "line 9, column",
        ),
        (
            "always_new.keys = \"canary-7, canary-7, expected \"",
            "line 7, column 19, always_new.keys: invalid type: string, expected a sequence",
        ),
        (
            "always_new = [\"canary-7\"]",
            "line 7, column 15, always_new: invalid type: string, expected a sequence",
        ),
        (
            "always_new = \"canary-7\"",
            "always_new: invalid type: string, expected keys or routed_by, each a list",
        ),
        (
            "always_new = { canary-7 = true }",
            "unknown field, expected `keys` or `routed_by`",
        ),
        ("canary-7.keys = canary-7", "line 7, column"),
    ] {
        let bad = good.replace(whole, broken);
        let bad = bad.replace("always_new.routed_by = []\n", "\n");
        fs::write(&path, bad).expect("written");
        let error = flags.reload().expect_err("refused");
        let troubles = flags.troubles().join("\n");
        assert!(troubles.contains(why), "{why}: {troubles}");
        let mut said = format!("{troubles} {error} {error:?} {error:#?}");
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            said.push_str(&format!(" {error} {error:?}"));
            cause = error.source();
        }
        for key in ["canary", "70007", "other"] {
            assert!(!said.contains(key), "{key}: {said}");
        }
        assert_eq!(listed(&flags, "canary-7"), Some(Listed::AlwaysNew));
    }
}

/// The application has renamed an operation, say, and the file still has the old name.
#[test]
fn an_operation_that_is_gone_is_said_and_does_not_hold_up_a_kill() {
    let store = Faulty::new();
    store.edit(|saved| {
        let operations = &mut Arc::make_mut(&mut saved.exceptions).operations;
        operations.insert("fetch".to_owned(), share(0.0));
    });
    let flags = open(&store);
    assert_eq!(
        flags.troubles(),
        Vec::<String>::new(),
        "nobody has told yet"
    );
    flags.declare_operations(&["get"]);
    flags.declare_operations(&["list"]);
    let troubles = flags.troubles().join("\n");
    assert!(troubles.contains("no operation \"fetch\""), "{troubles}");
    store.edit(|saved| saved.kill = Some(Kill::new("by hand")));
    assert!(flags.reload().expect("the name was there before"));
    assert!(flags.load().kill);
    let error = flags.set_operation("gte", share(0.0)).expect_err("refused");
    assert!(error.to_string().contains("get, list"), "{error}");
    flags.set_operation("list", share(0.0)).expect("declared");
}

#[test]
fn where_an_edit_meets_an_unsaved_list_the_safer_wins() {
    let store = Faulty::new();
    let flags = ramped(&store);
    store.refuse(true);
    flags
        .set_always_new(list(&["1", "2"]))
        .expect_err("not saved");
    flags.set_never_new(list(&["3"])).expect_err("not saved");
    flags
        .set_operation("get", share(40.0))
        .expect_err("not saved");
    store.edit(|saved| {
        let exceptions = Arc::make_mut(&mut saved.exceptions);
        exceptions.always_new = list(&["2", "4"]);
        exceptions.never_new = list(&["5"]);
        exceptions.operations.insert("get".into(), share(10.0));
    });
    store.refuse(false);
    flags.reload().expect("saved");
    let exceptions = flags.in_force().exceptions.expect("some");
    assert_eq!(exceptions.always_new, list(&["2"]));
    assert_eq!(exceptions.never_new, list(&["3", "5"]));
    assert_eq!(exceptions.read_new("get"), Some(percent(10.0)));
    assert_eq!(store.stored(), flags.saved());
}

/// A percentage of an operation that one of the two has removed is the entity's there.
#[test]
fn where_an_edit_meets_an_unsaved_share_a_removed_one_does_not_come_back() {
    for (read_new, edited) in [(20.0, None), (60.0, Some(40.0))] {
        let store = Faulty::new();
        let flags = ramped(&store);
        flags.set_read_new(percent(read_new)).expect("saved");
        flags.set_operation("get", share(40.0)).expect("saved");
        store.refuse(true);
        flags.set_never_new(list(&["3"])).expect_err("not saved");
        store.edit(|saved| {
            Arc::make_mut(&mut saved.exceptions).operations.clear();
        });
        store.refuse(false);
        flags.reload().expect("saved");
        let exceptions = flags.in_force().exceptions.expect("some");
        assert_eq!(
            exceptions.read_new("get"),
            edited.map(percent),
            "{read_new}"
        );
    }
}

#[test]
fn the_environment_stands_above_lists_and_shares() {
    let store = Faulty::new();
    let flags = open(&store).fixed_by(Environment {
        read_new: Some(percent(20.0)),
        always_new: Some(list(&["1"])),
        never_new: Some(list(&["2"])),
        ..Environment::default()
    });
    flags.learn(&unready(2)).expect("saved");
    assert_eq!(listed(&flags, "1"), None, "it waits for evidence");
    assert_eq!(listed(&flags, "2"), Some(Listed::NeverNew));
    let troubles = flags.troubles();
    assert!(
        troubles[1].contains("CHANGEOVER_LISTINGS_ALWAYS_NEW"),
        "{troubles:?}"
    );
    assert!(troubles[1].contains("1 keys listed"), "{troubles:?}");
    flags.learn(&epoch(3, Stage::DualWrite)).expect("saved");
    assert_eq!(listed(&flags, "1"), Some(Listed::AlwaysNew));
    assert_eq!(flags.troubles(), Vec::<String>::new());
    for refused in [
        flags.set_always_new(KeyList::default()),
        flags.set_never_new(KeyList::default()),
        flags.set_operation("get", share(90.0)),
    ] {
        let error = refused.expect_err("refused");
        assert!(matches!(error, Refused::Fixed { .. }), "{error}");
    }
    let sampled = Shares {
        read_new: None,
        sample: Some(percent(1.0)),
    };
    flags.set_operation("get", sampled).expect("free");
    store.edit(|saved| {
        let exceptions = Arc::make_mut(&mut saved.exceptions);
        exceptions.operations.insert("get".into(), share(90.0));
        exceptions.never_new = list(&["3"]);
    });
    flags.reload().expect("without effect");
    assert_eq!(listed(&flags, "3"), None);
    let exceptions = flags.in_force().exceptions.expect("some");
    assert_eq!(exceptions.read_new("get"), None, "the variable's 20 % hold");
    // Once lost, it does not come back by itself.
    flags.learn(&unready(4)).expect("saved");
    flags.learn(&epoch(5, Stage::DualWrite)).expect("saved");
    assert_eq!(listed(&flags, "1"), None);
    assert!(
        flags
            .troubles()
            .join("")
            .contains("ALWAYS_NEW was in force")
    );
}

/// A reader sees lists and percentage of one change, and never an older flag after a newer.
#[test]
fn lists_and_percentages_are_whole_under_concurrent_changes() {
    let flags = Flags::memory(listings());
    flags.learn(&epoch(1, Stage::DualWrite)).expect("saved");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut last = 0;
            // Once more when it is over: on a busy machine this thread may begin after the changes.
            let mut over = false;
            while !over {
                over = done.load(Ordering::Relaxed);
                let now = flags.in_force();
                assert!(now.snapshot.epoch >= last);
                last = now.snapshot.epoch;
                assert_eq!(now.exceptions.is_some(), now.snapshot.excepted);
                let named = now
                    .exceptions
                    .map(|now| now.always_new.keys().next().map(str::to_owned));
                if let Some(Some(number)) = named {
                    assert_eq!(number.parse(), Ok(last), "whose list is it?");
                }
                assert!(flags.load().epoch >= last);
            }
            last
        });
        let mut number = 1;
        while number < 3_000 {
            // Taken back with the readiness, so no list is older than its epoch.
            flags.learn(&unready(number + 1)).expect("saved");
            flags
                .learn(&epoch(number + 2, Stage::DualWrite))
                .expect("saved");
            let own = list(&[&(number + 2).to_string()]);
            flags.set_always_new(own).expect("ready");
            number += 2;
        }
        done.store(true, Ordering::Relaxed);
        assert!(reading.join().expect("each is whole") > 0);
    });
}

#[test]
fn a_refused_list_says_how_to_mend_it() {
    let error = KeyList::of_keys((0..1_001).map(|n| n.to_string())).expect_err("too many");
    assert!(matches!(error, BadList::TooMany { count: 1_001 }));
    assert!(error.to_string().contains("with a percentage"), "{error}");
}
