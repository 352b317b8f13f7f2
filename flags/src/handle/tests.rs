use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::{Epoch, FileStore, Place, Stage, Version};

/// A store whose failures are values.
#[derive(Default)]
struct Faulty {
    memory: MemoryStore,
    refuse: AtomicBool,
    lose_answer: AtomicBool,
    panic: AtomicBool,
    hold: Mutex<Option<Hold>>,
}

/// A save says that it has begun, and waits to be released.
struct Hold {
    begun: mpsc::Sender<()>,
    released: mpsc::Receiver<()>,
}

impl Store for Faulty {
    fn load(&self) -> Result<Option<Saved>, StoreError> {
        self.memory.load()
    }

    fn save(&self, saved: &Saved) -> Result<(), StoreError> {
        let hold = lock(&self.hold).take();
        if let Some(hold) = hold {
            hold.begun.send(()).expect("the test listens");
            hold.released.recv().expect("the test releases");
        }
        assert!(!self.panic.load(Ordering::Relaxed), "store panics");
        if self.refuse.load(Ordering::Relaxed) {
            return Err(StoreError::Other("disk full".into()));
        }
        self.memory.save(saved)?;
        if self.lose_answer.load(Ordering::Relaxed) {
            return Err(StoreError::Other("stored, but the answer is lost".into()));
        }
        Ok(())
    }
}

impl Faulty {
    fn new() -> Arc<Faulty> {
        Arc::default()
    }

    fn refuse(&self, refuse: bool) {
        self.refuse.store(refuse, Ordering::Relaxed);
    }

    /// What somebody does who edits the stored flags.
    fn edit(&self, edit: impl FnOnce(&mut Saved)) {
        let mut saved = self.stored();
        edit(&mut saved);
        self.memory.save(&saved).expect("saved");
    }

    fn stored(&self) -> Saved {
        self.memory.load().expect("loaded").unwrap_or_default()
    }
}

fn listings() -> Entity {
    Entity::new("listings").expect("valid")
}

fn percent(percent: f64) -> Percent {
    Percent::new(percent).expect("valid")
}

fn epoch(number: i64, stage: Stage) -> Epoch {
    Epoch {
        number,
        authority: stage.authority(),
        copying: stage.copies(),
        moving_to: None,
        revision: 1,
        base: Version::base(0),
        backfilled: true,
        verified: true,
    }
}

fn open(store: &Arc<Faulty>) -> Flags {
    Flags::open(listings(), Arc::clone(store)).expect("opens")
}

/// Flags at 50 % in dual write.
fn ramped(store: &Arc<Faulty>) -> Flags {
    let flags = open(store);
    flags.learn(&epoch(2, Stage::DualWrite)).expect("saved");
    flags.set_read_new(percent(50.0)).expect("ready");
    flags
}

#[test]
fn nothing_is_served_before_the_stage_is_learnt() {
    let flags = Flags::memory(listings());
    assert!(flags.load().serving().is_err());
    assert_eq!(flags.load(), Snapshot::UNKNOWN);
    flags.learn(&epoch(4, Stage::Complete)).expect("saved");
    assert_eq!(flags.load().serving(), Ok(Stage::Complete));
}

#[test]
fn everything_survives_a_restart() {
    let directory = TempDir::new().expect("a directory");
    let open = || Flags::open(listings(), FileStore::new(directory.path(), &listings()));
    let flags = open().expect("opens");
    flags.learn(&epoch(2, Stage::DualWrite)).expect("saved");
    flags.set_read_new(percent(12.5)).expect("ready");
    flags.set_sample(percent(1.0)).expect("saved");
    flags.kill("slow").expect("saved");
    let before = (flags.load(), flags.saved());
    drop(flags);
    let flags = open().expect("opens");
    assert_eq!((flags.load(), flags.saved()), before);
    assert_eq!(flags.load().serving(), Ok(Stage::DualWrite));
    flags.clear_kill().expect("saved");
    drop(flags);
    let snapshot = open().expect("opens").load();
    assert!(!snapshot.kill);
    assert_eq!(snapshot.read_new, percent(12.5));
    assert_eq!(snapshot.sample, percent(1.0));
}

#[test]
fn a_late_answer_does_not_move_an_instance_back() {
    let store = Faulty::new();
    let flags = open(&store);
    flags.learn(&epoch(5, Stage::Cutover)).expect("saved");
    let now = flags.load();
    let newest = epoch(5, Stage::Cutover);
    for late in [
        epoch(4, Stage::DualWrite),
        Epoch {
            revision: 0,
            verified: false,
            ..newest
        },
        Epoch {
            base: Version(-1),
            verified: false,
            ..newest
        },
    ] {
        flags.learn(&late).expect("ignored");
        assert_eq!(flags.load(), now, "{late:?}");
    }
    drop(flags);
    let flags = open(&store);
    flags.learn(&epoch(4, Stage::DualWrite)).expect("ignored");
    assert_eq!(flags.load(), now, "after a restart");
    flags.learn(&epoch(6, Stage::DualWrite)).expect("saved");
    assert_eq!(flags.load().stage, Stage::DualWrite);
}

#[test]
fn a_percentage_waits_until_the_new_side_is_ready() {
    let flags = Flags::memory(listings());
    for (backfilled, verified) in [(false, false), (true, false), (false, true)] {
        let row = Epoch {
            backfilled,
            verified,
            ..epoch(2, Stage::DualWrite)
        };
        flags.learn(&row).expect("saved");
        let error = flags.set_read_new(percent(0.01)).expect_err("refused");
        assert!(matches!(error, Refused::NotReady(_)), "{error}");
        assert!(
            error
                .to_string()
                .contains("finish a backfill and one verify")
        );
        assert_eq!(flags.load().read_new, Percent::ZERO);
        flags.set_read_new(Percent::ZERO).expect("always allowed");
    }
    flags.learn(&epoch(2, Stage::DualWrite)).expect("saved");
    flags.set_read_new(percent(0.01)).expect("ready");
    assert_eq!(flags.load().read_new, percent(0.01));
}

#[test]
fn a_percentage_falls_when_readiness_is_lost_and_does_not_come_back_by_itself() {
    let store = Faulty::new();
    let flags = ramped(&store);
    let again = Epoch {
        revision: 2,
        ..epoch(2, Stage::DualWrite)
    };
    let raised = Epoch {
        backfilled: false,
        verified: false,
        ..again
    };
    flags.learn(&raised).expect("saved");
    assert_eq!(flags.load().read_new, Percent::ZERO);
    assert_eq!(store.stored().read_new, Percent::ZERO);
    flags.learn(&again).expect("saved");
    assert!(flags.load().ready);
    assert_eq!(flags.load().read_new, Percent::ZERO);
}

#[test]
fn clearing_a_kill_returns_to_the_ramp() {
    let flags = ramped(&Faulty::new());
    let before = flags.load();
    flags.kill("slow").expect("saved");
    assert_eq!(
        flags.load(),
        Snapshot {
            kill: true,
            ..before
        }
    );
    assert_eq!(flags.saved().kill, Some(Kill::new("slow")));
    flags.set_read_new(percent(25.0)).expect("ready");
    assert!(flags.load().kill);
    flags.clear_kill().expect("saved");
    assert_eq!(
        flags.load(),
        Snapshot {
            read_new: percent(25.0),
            ..before
        }
    );
}

#[test]
fn a_kill_that_cannot_be_saved_acts_and_says_so() {
    let store = Faulty::new();
    let flags = ramped(&store);
    store.refuse(true);
    let error = flags.kill("slow").expect_err("not saved");
    assert!(flags.load().kill);
    assert!(
        error.to_string().contains("in force but not saved"),
        "{error}"
    );
    assert_eq!(
        error.store_error().to_string(),
        "the store of the flags failed"
    );
    assert!(flags.reload().is_err(), "still not saved");
    assert!(
        flags.load().kill,
        "a reload must not take the stored state for an edit"
    );
    store.refuse(false);
    assert!(!flags.reload().expect("saves what was left"));
    assert_eq!(store.stored().kill, Some(Kill::new("slow")));
    store.refuse(true);
    flags.clear_kill().expect_err("not saved");
    assert!(!flags.load().kill);
}

#[test]
fn a_kill_acts_though_the_directory_is_gone() {
    let directory = TempDir::new().expect("a directory");
    let store = FileStore::new(directory.path(), &listings());
    let flags = Flags::open(listings(), store).expect("opens");
    drop(directory);
    flags.kill("slow").expect_err("not saved");
    assert!(flags.load().kill);
}

#[test]
fn an_epoch_that_could_not_be_saved_is_in_force_and_saved_by_the_next_call() {
    let store = Faulty::new();
    let flags = open(&store);
    store.refuse(true);
    flags
        .learn(&epoch(3, Stage::Cutover))
        .expect_err("not saved");
    assert_eq!(flags.load().serving(), Ok(Stage::Cutover));
    store.refuse(false);
    flags.learn(&epoch(3, Stage::Cutover)).expect("saved");
    assert_eq!(store.stored().learnt.map(|l| l.epoch), Some(3));
}

/// Waits for what another thread is about to do. The limit only ends a test that has failed.
fn becomes(condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > Duration::from_secs(20) {
            return false;
        }
        thread::yield_now();
    }
    true
}

#[test]
fn a_kill_waits_for_no_disk_and_is_saved_after_all() {
    let store = Faulty::new();
    let flags = ramped(&store);
    let (begun_tx, begun) = mpsc::channel();
    let (release, released) = mpsc::channel();
    *lock(&store.hold) = Some(Hold {
        begun: begun_tx,
        released,
    });
    thread::scope(|scope| {
        scope.spawn(|| flags.set_sample(percent(3.0)).expect("saved"));
        begun.recv().expect("a save is being held");
        scope.spawn(|| flags.kill("slow").expect("saved"));
        let acted = becomes(|| flags.load().kill);
        release.send(()).expect("the save waits");
        assert!(acted, "the kill waited for a save");
    });
    let stored = store.stored();
    assert_eq!(stored, flags.saved());
    assert_eq!(
        (stored.kill, stored.sample),
        (Some(Kill::new("slow")), percent(3.0))
    );
}

/// What may not block changes memory alone; whoever may, stores it.
#[test]
fn what_is_changed_now_waits_for_no_disk_and_is_stored_by_the_next_look() {
    let store = Faulty::new();
    let flags = &ramped(&store);
    let (begun_tx, begun) = mpsc::channel();
    let (release, released) = mpsc::channel();
    *lock(&store.hold) = Some(Hold {
        begun: begun_tx,
        released,
    });
    let answer = |flags: &Flags| {
        let row = epoch(3, Stage::Cutover);
        flags.learn_answer_now(flags.asking(), Some(&row))
    };
    let (say, said) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| flags.set_sample(percent(3.0)).expect("saved"));
        begun.recv().expect("a save is being held");
        scope.spawn(move || {
            flags.kill_now("slow");
            let thrown = flags.load().kill;
            flags.clear_kill_now().expect("nothing fixes it");
            let unstored = answer(flags);
            say.send((thrown, unstored)).expect("the test listens");
        });
        let acted = said.recv_timeout(Duration::from_secs(20));
        let now = flags.load();
        release.send(()).expect("the save waits");
        assert_eq!(acted, Ok((true, true)), "it waited for a save");
        assert_eq!((now.kill, now.stage), (false, Stage::Cutover));
    });
    assert_eq!(store.stored().learnt.map(|l| l.epoch), Some(2));
    flags.reload().expect("saved");
    assert_eq!(store.stored(), flags.saved());
    assert_eq!(flags.load().stage, Stage::Cutover);
    assert!(!answer(flags), "it is stored");
}

#[test]
fn a_store_that_panics_does_not_disable_the_kill_switch() {
    let store = Faulty::new();
    let flags = ramped(&store);
    store.panic.store(true, Ordering::Relaxed);
    thread::scope(|scope| {
        let changing = scope.spawn(|| flags.set_sample(percent(3.0)));
        assert!(changing.join().is_err(), "the store panicked");
    });
    store.panic.store(false, Ordering::Relaxed);
    flags.kill("slow").expect("saved");
    assert!(flags.load().kill && store.stored().kill.is_some());
}

#[test]
fn an_edited_file_is_taken_up() {
    let directory = TempDir::new().expect("a directory");
    let store = FileStore::new(directory.path(), &listings());
    let path = store.path();
    let flags = Flags::open(listings(), store).expect("opens");
    flags.learn(&epoch(2, Stage::DualWrite)).expect("saved");
    assert!(!flags.reload().expect("nothing to do"));
    let edit = |from: &str, to: &str| {
        let text = fs::read_to_string(&path).expect("there");
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replace(from, to)).expect("written");
    };
    edit("kill = false", "kill = true");
    edit("read_new = 0.0", "read_new = 10");
    edit("sample = 0.0", "sample = 2.5");
    edit("epoch = 2", "epoch = 99");
    assert!(flags.reload().expect("a good edit"));
    let now = flags.load();
    assert!(now.kill);
    assert_eq!((now.read_new, now.sample), (percent(10.0), percent(2.5)));
    assert_eq!(now.epoch, 2, "the stage comes from the database");
    assert!(!flags.reload().expect("taken up already"));
}

#[test]
fn a_bad_edit_is_an_error_changes_nothing_and_is_not_overwritten() {
    let directory = TempDir::new().expect("a directory");
    let store = FileStore::new(directory.path(), &listings());
    let path = store.path();
    let flags = Flags::open(listings(), store).expect("opens");
    flags.learn(&epoch(2, Stage::DualWrite)).expect("saved");
    flags.set_read_new(percent(50.0)).expect("ready");
    let before = flags.load();
    let bad = "kill = yes, please";
    fs::write(&path, bad).expect("written");
    let error = flags.reload().expect_err("refused");
    assert!(error.to_string().contains("listings.toml"), "{error}");
    assert_eq!(flags.load(), before);
    flags.kill("slow").expect_err("not saved");
    assert!(flags.load().kill, "a bad edit does not hinder a kill");
    assert_eq!(fs::read_to_string(&path).expect("there"), bad);
}

#[test]
fn an_edit_that_asks_for_what_is_refused_changes_nothing() {
    let store = Faulty::new();
    let flags = open(&store);
    let row = Epoch {
        verified: false,
        ..epoch(2, Stage::DualWrite)
    };
    flags.learn(&row).expect("saved");
    let before = flags.load();
    store.edit(|saved| {
        saved.read_new = percent(10.0);
        saved.sample = percent(10.0);
    });
    let error = flags.reload().expect_err("refused");
    assert!(matches!(error, StoreError::NotReady(_)), "{error}");
    assert_eq!(flags.load(), before);
    let error = Flags::open(listings(), Arc::clone(&store)).expect_err("refused at a start too");
    assert!(matches!(error, StoreError::NotReady(_)), "{error}");
    store.edit(|saved| saved.read_new = Percent::ZERO);
    assert!(flags.reload().expect("corrected"));
    assert_eq!(flags.load().sample, percent(10.0));
}

/// Whoever throws it must not have to find out first what else is wrong with the file.
#[test]
fn a_kill_acts_though_the_same_edit_asks_for_what_is_refused() {
    let directory = TempDir::new().expect("a directory");
    let store = FileStore::new(directory.path(), &listings());
    let path = store.path();
    let flags = Flags::open(listings(), store).expect("opens");
    let row = Epoch {
        verified: false,
        ..epoch(2, Stage::DualWrite)
    };
    flags.learn(&row).expect("saved");
    flags.declare_operations(&["get"]);
    let good = fs::read_to_string(&path).expect("there");
    let (calm, killed) = ("kill = false", "kill = \"slow\"");
    let share = "read_new = 0.0";
    for (from, to) in [
        (share, "read_new = 10.0"),
        (share, "read_new = 500.0"),
        (share, "read_old = 0.0"),
        (share, "read_new = 0.0\noperations.fetch = { sample = 5.0 }"),
        ("format = 1", "format = 2"),
    ] {
        let bad = good.replace(from, to);
        fs::write(&path, bad.replace(calm, killed)).expect("written");
        for _ in 0..2 {
            flags.reload().expect_err("refused");
            assert!(flags.load().kill, "{bad}");
        }
        assert_eq!(flags.killed(), Some(Kill::new("slow")));
        assert_eq!(flags.load().read_new, Percent::ZERO);
        let text = fs::read_to_string(&path).expect("there");
        assert_eq!(text, bad.replace(calm, killed), "it is not overwritten");
        // Clearing it sends reads to new again: that waits for a file that is right.
        fs::write(&path, &bad).expect("written");
        flags.reload().expect_err("refused");
        assert!(flags.load().kill, "{bad}");
        fs::write(&path, &good).expect("written");
        assert!(flags.reload().expect("mended"));
        assert!(!flags.load().kill);
    }
    let other = good.replace("\"listings\"", "\"sellers\"");
    fs::write(&path, other.replace(calm, killed)).expect("written");
    flags.reload().expect_err("another entity's file");
    assert!(!flags.load().kill);
}

#[test]
fn without_an_installation_the_authority_is_alone() {
    for (stage, alone) in [
        (Stage::Legacy, Stage::Legacy),
        (Stage::DualWrite, Stage::Legacy),
        (Stage::Cutover, Stage::Complete),
        (Stage::Complete, Stage::Complete),
    ] {
        let store = Faulty::new();
        let flags = open(&store);
        flags
            .learn_answer(flags.asking(), None)
            .expect("nothing to save");
        assert!(!flags.load().known, "no stage is made up");
        flags.learn(&epoch(2, stage)).expect("saved");
        flags.set_read_new(percent(50.0)).expect("ready");
        flags.learn_answer(flags.asking(), None).expect("saved");
        let now = flags.load();
        assert_eq!(now.serving().expect("known"), alone, "{stage}");
        assert_eq!((now.ready, now.read_new), (false, Percent::ZERO), "{stage}");
        assert_eq!(store.stored(), flags.saved());
        flags.learn(&epoch(1_002, Stage::DualWrite)).expect("saved");
        let now = flags.load();
        assert_eq!((now.stage, now.read_new), (Stage::DualWrite, Percent::ZERO));
    }
}

#[test]
fn a_save_does_not_undo_an_edit() {
    let store = Faulty::new();
    let flags = ramped(&store);
    store.edit(|saved| saved.kill = Some(Kill::new("by hand")));
    flags.learn(&epoch(3, Stage::DualWrite)).expect("saved");
    assert!(flags.load().kill);
    let stored = store.stored();
    assert_eq!(stored.kill, Some(Kill::new("by hand")));
    assert_eq!(stored.learnt.map(|l| l.epoch), Some(3));
}

#[test]
fn where_an_edit_meets_an_unsaved_change_the_safer_wins() {
    let store = Faulty::new();
    let flags = ramped(&store);
    flags.kill("first").expect("saved");
    store.refuse(true);
    flags.kill("second").expect_err("not saved");
    flags.set_read_new(percent(40.0)).expect_err("not saved");
    store.edit(|saved| {
        saved.kill = None;
        saved.read_new = percent(10.0);
    });
    store.refuse(false);
    flags.reload().expect("saved");
    assert!(
        flags.load().kill,
        "an unsaved kill is not cleared by an edit"
    );
    assert_eq!(flags.load().read_new, percent(10.0));
    assert_eq!(store.stored(), flags.saved());

    store.refuse(true);
    flags.set_read_new(percent(5.0)).expect_err("not saved");
    store.edit(|saved| saved.read_new = percent(20.0));
    store.refuse(false);
    flags.reload().expect("saved");
    assert_eq!(flags.load().read_new, percent(5.0));
    store.edit(|saved| saved.kill = None);
    flags.reload().expect("taken up");
    assert!(!flags.load().kill, "a saved kill is cleared by an edit");
}

#[test]
fn a_save_whose_answer_is_lost_is_not_taken_for_an_edit() {
    let store = Faulty::new();
    let flags = ramped(&store);
    let lose = |lose| store.lose_answer.store(lose, Ordering::Relaxed);
    lose(true);
    flags.kill("slow").expect_err("as far as is known");
    lose(false);
    flags.clear_kill().expect("saved");
    assert!(!flags.load().kill);
    lose(true);
    flags.set_read_new(percent(60.0)).expect_err("unknown");
    lose(false);
    flags.set_read_new(percent(70.0)).expect("saved");
    assert_eq!(flags.load().read_new, percent(70.0));
    assert_eq!(store.stored(), flags.saved());
}

#[test]
fn stored_flags_that_are_taken_away_change_nothing_and_come_back() {
    let directory = TempDir::new().expect("a directory");
    let store = FileStore::new(directory.path(), &listings());
    let path = store.path();
    let flags = Flags::open(listings(), store.clone()).expect("opens");
    flags.learn(&epoch(2, Stage::DualWrite)).expect("saved");
    flags.kill("slow").expect("saved");
    fs::remove_file(&path).expect("removed");
    assert!(!flags.reload().expect("saves it again"));
    assert!(flags.load().kill);
    assert_eq!(store.load().expect("loaded"), Some(flags.saved()));
}

#[test]
fn clones_share_and_say_whose_flags_they_are() {
    let flags = Flags::memory(listings());
    flags.clone().kill("slow").expect("saved");
    assert!(flags.load().kill);
    assert_eq!(flags.entity(), &listings());
    assert!(format!("{flags:?}").contains("kill: true"));
}

/// Readers check, while everything changes, what must hold in each snapshot.
#[test]
fn snapshots_are_whole_and_in_order_under_concurrent_changes() {
    const ROUNDS: i64 = 2_000;
    let flags = Flags::memory(listings());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reading: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut last, mut seen) = (0, 0_u64);
                    let mut over = false;
                    while !over {
                        over = done.load(Ordering::Relaxed);
                        let now = flags.load();
                        assert!(now.epoch >= last, "{} after {last}", now.epoch);
                        assert!(now.ready || now.read_new == Percent::ZERO, "{now:?}");
                        // Whole: the stage and readiness belong to that epoch.
                        assert_eq!(now.known, now.epoch > 0);
                        assert_eq!(now.stage == Stage::Cutover, now.epoch % 2 == 1);
                        assert_eq!(now.ready, now.known && now.epoch % 3 != 0);
                        (last, seen) = (now.epoch, seen + 1);
                    }
                    seen
                })
            })
            .collect();
        let changing = [
            scope.spawn(|| {
                for number in 1..=ROUNDS {
                    let authority = [Place::Legacy, Place::New][(number % 2) as usize];
                    let stage = [Stage::DualWrite, Stage::Cutover][(number % 2) as usize];
                    assert_eq!(stage.authority(), authority);
                    let row = Epoch {
                        verified: number % 3 != 0,
                        ..epoch(number, stage)
                    };
                    flags.learn(&row).expect("saved");
                    let late = epoch(number - 1, Stage::Legacy);
                    flags.learn(&late).expect("ignored");
                }
            }),
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    // Refused whenever the other thread has just made it unready.
                    let _ = flags.set_read_new(percent(f64::from(round as u8 % 100)));
                    flags.kill("slow").expect("saved");
                    assert!(flags.load().kill);
                    flags.clear_kill().expect("saved");
                    assert!(!flags.load().kill);
                }
            }),
        ];
        let ended = changing.map(|thread| thread.join());
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok), "a change failed");
        for reader in reading {
            assert!(reader.join().expect("each snapshot is whole") > 0);
        }
    });
    assert_eq!(flags.load().epoch, ROUNDS);
}

mod excepted;
mod fixed;
mod watched;

/// A row with a lower number: a late answer where something else was learnt meanwhile, and else a
/// database that was restored from before.
#[test]
fn a_row_that_went_back_is_told_from_a_late_one() {
    let ready = |number: i64| Epoch {
        number,
        ..Epoch::READY
    };
    let flags = Flags::memory(listings());
    let late = flags.asking();
    flags.learn(&ready(4)).expect("memory");
    flags.set_read_new(Percent::HUNDRED).expect("it is ready");
    for answer in [Some(&ready(2)), None] {
        flags.learn_answer(late, answer).expect("memory");
        let now = flags.load();
        assert!((now.epoch, now.ready, now.read_new) == (4, true, Percent::HUNDRED));
    }
    // The evidence of the backup is no evidence of what is there now.
    flags
        .learn_answer(flags.asking(), Some(&ready(2)))
        .expect("memory");
    let now = flags.load();
    assert!((now.epoch, now.ready, now.read_new) == (2, false, Percent::ZERO));
    // Learnt once more it holds; the percentage stays where it is.
    flags
        .learn_answer(flags.asking(), Some(&ready(2)))
        .expect("memory");
    let now = flags.load();
    assert!((now.epoch, now.ready, now.read_new) == (2, true, Percent::ZERO));
}
