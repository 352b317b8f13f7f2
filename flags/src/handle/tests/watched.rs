//! A file that is looked at again and again, while people and their editors write it.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Once;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::*;

thread_local! {
    static ERRORS: Cell<usize> = const { Cell::new(0) };
    static WARNINGS: Cell<usize> = const { Cell::new(0) };
}

/// Counts what a thread logs as an error, and as a warning.
struct Counted;

/// How many errors and how many warnings this thread has logged.
///
/// The subscriber is that of the process: one for this test alone would race with the threads of
/// other tests for what tracing remembers of each place that logs.
pub(super) fn logged() -> (usize, usize) {
    static SET: Once = Once::new();
    SET.call_once(|| tracing::subscriber::set_global_default(Counted).expect("nobody else's"));
    (ERRORS.get(), WARNINGS.get())
}

impl Subscriber for Counted {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }
    fn event(&self, event: &Event<'_>) {
        let count = match *event.metadata().level() {
            Level::ERROR => &ERRORS,
            _ => &WARNINGS,
        };
        count.set(count.get() + 1);
    }
    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _span: &Id, _values: &Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn enter(&self, _span: &Id) {}
    fn exit(&self, _span: &Id) {}
}

/// Flags in a file at 50 %, its path, and its text.
fn filed(directory: &TempDir) -> (Flags, PathBuf, String) {
    let store = FileStore::new(directory.path(), &listings());
    let path = store.path();
    let flags = Flags::open(listings(), store).expect("opens");
    flags.learn(&epoch(2, Stage::DualWrite)).expect("saved");
    flags.set_read_new(percent(50.0)).expect("ready");
    let text = fs::read_to_string(&path).expect("there");
    (flags, path, text)
}

#[test]
fn a_bad_edit_is_said_once_and_stands_until_it_is_mended() {
    let directory = TempDir::new().expect("a directory");
    let (flags, path, good) = filed(&directory);
    let (errors, _) = logged();
    let counted = || logged().0 - errors;
    let before = flags.load();
    let write = |text: &str| fs::write(&path, text).expect("written");
    write(&good.replace("read_new = 50.0", "read_new = 500.0"));
    for _ in 0..5 {
        flags.reload().expect_err("refused");
    }
    assert_eq!(counted(), 1, "once for each edit, not for each look");
    let said = flags.troubles().join("; ");
    for word in ["listings.toml", "correct it", "500", "line"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    write(&good.replace("sample = ", "samples = "));
    for _ in 0..5 {
        flags.reload().expect_err("refused");
    }
    assert_eq!(counted(), 2, "another bad edit");
    assert!(
        flags
            .troubles()
            .join("; ")
            .contains("unknown field, expected")
    );
    assert_eq!(flags.load(), before);

    write(&good.replace("read_new = 50.0", "read_new = 10.0"));
    assert!(flags.reload().expect("mended"));
    assert_eq!(flags.troubles(), Vec::<String>::new());
    assert_eq!((counted(), flags.load().read_new), (2, percent(10.0)));
}

/// However much of it has arrived when we look: what is in force is what was, or what is meant.
#[test]
fn a_file_that_is_being_written_is_never_taken_up_by_half() {
    let directory = TempDir::new().expect("a directory");
    let (flags, path, old) = filed(&directory);
    let new = old
        .replace("read_new = 50.0", "read_new = 25.5")
        .replace("sample = 0.0", "sample = 12.5")
        .replace("kill = false", "kill = \"new is slow, see ticket 12\"");
    let before = flags.load();
    let after = Snapshot {
        read_new: percent(25.5),
        sample: percent(12.5),
        kill: true,
        ..before
    };
    let mut seen = 0;
    for length in 0..=new.len() {
        fs::write(&path, &new[..length]).expect("written");
        let _ = flags.reload();
        let now = flags.load();
        assert!(now == before || now == after, "{length}: {now:?}");
        seen += usize::from(now == after);
    }
    assert!(seen > 0 && flags.load() == after);
    assert_eq!(
        flags.killed(),
        Some(Kill::new("new is slow, see ticket 12"))
    );
}

#[test]
fn a_file_that_an_editor_puts_in_its_place_is_taken_up() {
    let directory = TempDir::new().expect("a directory");
    let (flags, path, old) = filed(&directory);
    for number in 1..=3_u8 {
        let edited = directory.path().join(".listings.toml.swp");
        let text = old.replace("read_new = 50.0", &format!("read_new = {number}"));
        fs::write(&edited, text).expect("written");
        fs::rename(&edited, &path).expect("renamed");
        assert!(flags.reload().expect("a good edit"));
        assert_eq!(flags.load().read_new, percent(f64::from(number)));
    }
}

#[test]
fn a_directory_that_is_gone_changes_nothing_and_is_said() {
    let directory = TempDir::new().expect("a directory");
    let (flags, _path, _text) = filed(&directory);
    let before = flags.load();
    drop(directory);
    flags.reload().expect_err("nothing to look at");
    assert_eq!(flags.load(), before);
    assert!(flags.troubles().join("; ").contains("no directory"));
}

#[test]
fn a_change_that_is_not_stored_is_a_trouble_until_it_is() {
    let store = Faulty::new();
    let flags = ramped(&store);
    store.refuse(true);
    flags.kill_now("slow");
    assert!(flags.load().kill && store.stored().kill.is_none());
    flags.reload().expect_err("not saved");
    assert!(flags.troubles().join("; ").contains("disk full"));
    store.refuse(false);
    flags.reload().expect("saved");
    assert_eq!(flags.troubles(), Vec::<String>::new());
    assert_eq!(store.stored().kill, Some(Kill::new("slow")));
}
