//! A follower that is no database at all: an HTTP service, killed, frozen and started again while
//! writes go on. What follows a write is a replay. Shown here is what that promises, and what not.

pub mod keeper;
pub mod notes;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use changeover::shadow::Class;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::protocol::market::Plain;
use crate::support;
use keeper::Keeper;
use notes::{COPY_TIME, Call, NoteError, Notes, body};

/// The keys that are written while the service is killed.
const KEYS: i64 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_to_a_service_that_is_killed_over_sqlite() {
    let (_folder, legacy, _) = support::sqlite_pair();
    promised_and_not(&legacy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_to_a_service_that_is_killed_over_postgres() {
    promised_and_not(&support::postgres::fresh_one().await).await;
}

/// What the callers know.
#[derive(Default)]
struct Ledger {
    /// Appends that were acknowledged, by key.
    acknowledged: Mutex<BTreeMap<i64, Vec<String>>>,
    /// Writes, and those of which nobody knows.
    writes: AtomicU64,
    unknown: AtomicU64,
}

impl Ledger {
    async fn append(&self, notes: &Notes, id: i64, lost: bool) {
        let token = format!("t{};", self.writes.fetch_add(1, Ordering::SeqCst));
        let call = match lost {
            false => Call::Append(id, token.clone()),
            true => Call::AppendUnanswered(id, token.clone()),
        };
        match notes.call(call).await {
            Ok(None) if !lost => {
                let mut acknowledged = self.acknowledged.lock().unwrap();
                acknowledged.entry(id).or_default().push(token);
            }
            // The application's own error, not one of the follower.
            Err(NoteError::Lost) if lost => drop(self.unknown.fetch_add(1, Ordering::SeqCst)),
            other => panic!("{other:?}"),
        }
    }

    /// A read shows everything that was acknowledged before it.
    async fn read(&self, notes: &Notes, id: i64) {
        let before = self.acknowledged.lock().unwrap().get(&id).cloned();
        let read = notes
            .call(Call::Read(id))
            .await
            .unwrap()
            .unwrap_or_default();
        for token in before.unwrap_or_default() {
            assert_eq!(read.matches(&token).count(), 1, "{id}: {token} in {read}");
        }
    }
}

async fn caller(notes: &Notes, ledger: &Ledger, seed: u64, stop: &AtomicBool) {
    let mut dice = SmallRng::seed_from_u64(seed);
    while !stop.load(Ordering::SeqCst) {
        let id = dice.random_range(0..KEYS);
        match dice.random_range(0..40) {
            0 => ledger.append(notes, id, true).await,
            1..=9 => ledger.read(notes, id).await,
            _ => ledger.append(notes, id, false).await,
        }
        let pause = Duration::from_millis(dice.random_range(0..12));
        tokio::time::sleep(pause).await;
    }
}

async fn promised_and_not(url: &str) {
    let seed = support::seed();
    let folder = tempfile::tempdir().unwrap();
    let tables = Plain::open(url).await;
    tables
        .run("CREATE TABLE notes (id bigint PRIMARY KEY NOT NULL, body text NOT NULL)")
        .await;
    let mut keeper = Keeper::start(folder.path());
    let (notes, ledger) = (
        Notes::over(&tables, folder.path().to_owned()),
        Ledger::default(),
    );
    quiet(&notes, &ledger).await;
    at_once(&notes, &ledger).await;
    // Whatever the dice of the callers say, of one write at least nobody knows.
    ledger.append(&notes, 0, true).await;
    killed(&notes, &ledger, &mut keeper, seed).await;
    frozen(&notes, &ledger, &keeper).await;
    let drained = notes.handle.close_and_wait(Duration::from_secs(30)).await;
    assert!(drained.is_complete(), "{drained:?}");

    let compared = notes.handle.compared();
    assert_eq!(compared.confirmed(), 0, "{compared:?}");
    assert!(compared.of(Class::Match) > 0, "{compared:?}");

    // What this process reads is what legacy holds, from whichever side it comes.
    for id in 0..330 {
        let read = notes.call(Call::Read(id)).await.unwrap();
        assert_eq!(read, body(&tables, id).await, "{id}");
    }
    acknowledged_is_kept(&tables, &ledger).await;
    counted(&notes, &ledger, folder.path());
    not_promised(&tables, folder.path()).await;
}

/// As long as the service answers, every write reaches it, in order, and its keys are read there.
async fn quiet(notes: &Notes, ledger: &Ledger) {
    for id in 100..110 {
        ledger.append(notes, id, false).await;
        ledger.append(notes, id, false).await;
        ledger.read(notes, id).await;
    }
    let began = Instant::now();
    while notes.handle.pins().total() > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "pins stay");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = notes.by_new.load(Ordering::SeqCst);
    // On a busy machine some are late, and are answered by legacy.
    while notes.by_new.load(Ordering::SeqCst) < before + 10 {
        assert!(began.elapsed() < Duration::from_secs(40), "legacy answers");
        for id in 100..110 {
            ledger.read(notes, id).await;
        }
    }
}

/// Of writes that were under way at once nobody knows the order, so their keys stay with legacy.
async fn at_once(notes: &Notes, ledger: &Ledger) {
    for id in 300..330 {
        let one = || ledger.append(notes, id, false);
        tokio::join!(one(), one(), one(), one());
    }
}

async fn killed(notes: &Notes, ledger: &Ledger, keeper: &mut Keeper, seed: u64) {
    let stop = AtomicBool::new(false);
    let mut dice = SmallRng::seed_from_u64(seed);
    let strikes = async {
        for _ in 0..if support::fast() { 3 } else { 10 } {
            tokio::time::sleep(Duration::from_millis(dice.random_range(50..250))).await;
            keeper.kill();
            tokio::time::sleep(Duration::from_millis(dice.random_range(0..150))).await;
            keeper.restart();
        }
        stop.store(true, Ordering::SeqCst);
    };
    let call = |number| caller(notes, ledger, seed ^ number, &stop);
    tokio::join!(strikes, call(1), call(2), call(3), call(4));
}

/// A service that accepts and never answers costs a caller nothing at a write, and at a read no
/// more than the follower's time.
async fn frozen(notes: &Notes, ledger: &Ledger, keeper: &Keeper) {
    keeper.freeze();
    let mut took = Vec::new();
    for id in 200..240 {
        let one = Instant::now();
        ledger.append(notes, id, false).await;
        ledger.read(notes, id).await;
        took.push(one.elapsed());
    }
    all_but_one_are_quick(took);
    // Ten of them are not pinned: they are asked for, and then asked for at legacy.
    let mut took = Vec::new();
    for id in 100..110 {
        let one = Instant::now();
        ledger.read(notes, id).await;
        took.push(one.elapsed());
    }
    all_but_one_are_quick(took);
    // Until the replays under way are given up. What they sent may arrive all the same, and after
    // what is written now.
    tokio::time::sleep(COPY_TIME).await;
    keeper.thaw();
    for id in 200..240 {
        ledger.append(notes, id, false).await;
        ledger.read(notes, id).await;
    }
}

/// One may have been held up by a busy machine. Callers who wait for the service are held up again and again.
fn all_but_one_are_quick(mut took: Vec<Duration>) {
    took.sort_unstable();
    assert!(took[took.len() - 2] < COPY_TIME, "{took:?}");
}

async fn acknowledged_is_kept(tables: &Plain, ledger: &Ledger) {
    let acknowledged = std::mem::take(&mut *ledger.acknowledged.lock().unwrap());
    assert!(acknowledged.len() > KEYS as usize);
    for (id, tokens) in acknowledged {
        let body = body(tables, id).await.unwrap_or_default();
        for token in tokens {
            assert_eq!(body.matches(&token).count(), 1, "{id}: {token} in {body}");
        }
    }
}

/// Every write is counted once, and nothing as replayed that is not there.
fn counted(notes: &Notes, ledger: &Ledger, folder: &Path) {
    let follows = notes.counted("changeover_follows_total", "outcome");
    let of = |outcome: &str| {
        let named = follows.iter().filter(|(label, _)| label == outcome);
        named.map(|(_, count)| count).sum::<u64>()
    };
    let writes = ledger.writes.load(Ordering::SeqCst);
    let total: u64 = follows.iter().map(|(_, count)| count).sum();
    let say = format!("{writes} writes: {follows:?}");
    assert_eq!(total, writes, "{say}");
    assert_eq!(of("applied"), 0, "a replay is no copy: {say}");
    let kept = keeper::kept(folder);
    let kept_once = kept.iter().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(kept.len(), kept_once.len(), "nothing is replayed twice");
    assert!(of("replayed") <= kept.len() as u64, "{} {say}", kept.len());
    let unknown = ledger.unknown.load(Ordering::SeqCst);
    let missing = of("left") + of("timeout") + of("skipped");
    assert!(unknown > 0 && missing > unknown, "{unknown} unknown, {say}");
    assert!(of("replayed") > 50 && of("timeout") > 0, "{say}");
}

/// The service misses what was left, nothing brings it after, and an instance that has not seen
/// the writes reads it there: best effort. Comparing finds it.
async fn not_promised(tables: &Plain, folder: &Path) {
    // It is never late: each read is one of the service.
    let times = [Duration::from_secs(10); 2];
    let restarted = Notes::waiting(tables, folder.to_owned(), times);
    let mut stale = 0;
    for id in 0..KEYS {
        let read = restarted.call(Call::Read(id)).await.unwrap();
        stale += u32::from(read != body(tables, id).await);
    }
    assert!(stale > 0, "nothing was missed, so nothing was shown");
    let drained = restarted.handle.close_and_wait(Duration::from_secs(30));
    assert!(drained.await.is_complete());
    let totals = restarted.handle.compared();
    assert_eq!(totals.of(Class::Mismatch), u64::from(stale), "{totals:?}");
}
