use std::sync::{Arc, Mutex};
use std::time::Duration;

use changeover_flags::Percent;
use changeover_proxy::{Limits, Served};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tokio::time::Instant;

use crate::world::*;

const DELAY: Duration = Duration::from_millis(20);

/// A hedged layer, what it counts, and what it says of answers.
struct Hedged {
    world: World,
    metrics: Snapshotter,
    said: Arc<Mutex<Vec<Served>>>,
}

impl Hedged {
    fn after(delay: Option<Duration>) -> Hedged {
        let recorder = DebuggingRecorder::new();
        let metrics = recorder.snapshotter();
        let said = Arc::<Mutex<Vec<Served>>>::default();
        let saying = Arc::clone(&said);
        let world = metrics::with_local_recorder(&recorder, || {
            World::with(|builder| {
                let builder = match delay {
                    Some(delay) => builder.hedge_after(delay),
                    None => builder,
                };
                builder.mark(move |_answer, served| saying.lock().unwrap().push(served))
            })
        });
        world.both(1, 7);
        Hedged {
            world,
            metrics,
            said,
        }
    }

    /// One read: its answer, its time, who served it and why.
    async fn read(&self) -> (Result<Answer, Error>, Duration, String) {
        let began = Instant::now();
        let answer = self.world.call(Call::Get(1)).await;
        let said = self.said.lock().unwrap().drain(..).next();
        let said = said.map_or_else(String::new, |served| served.to_string());
        (answer, began.elapsed(), said)
    }

    /// How hedges ended, and why the authority was asked after the follower, since the last look.
    fn counted(&self) -> Vec<String> {
        let all = self.metrics.snapshot().into_vec().into_iter();
        let counted = all.filter_map(|(key, _, _, value)| {
            let name = key.key().name();
            let named = ["changeover_hedges_total", "changeover_fallbacks_total"].contains(&name);
            let label = key.key().labels().last()?.value().to_owned();
            match value {
                DebugValue::Counter(times) if named && times > 0 => {
                    let what = name
                        .trim_start_matches("changeover_")
                        .trim_end_matches("_total");
                    Some(format!("{what} {label} {times}"))
                }
                _ => None,
            }
        });
        let mut counted: Vec<String> = counted.collect();
        counted.sort();
        counted
    }
}

impl Hedged {
    /// How long reads of the stores took that have ended since the last look, and how.
    fn stores(&self) -> Vec<String> {
        let mut ended = Vec::new();
        for (key, _, _, value) in self.metrics.snapshot().into_vec() {
            if key.key().name() != "changeover_store_call_duration_seconds" {
                continue;
            }
            let label = |name: &str| {
                let mut labels = key.key().labels();
                let label = labels.find(|label| label.key() == name);
                label.map(|label| label.value().to_owned()).unwrap()
            };
            let (store, outcome) = (label("store"), label("outcome"));
            if let DebugValue::Histogram(took) = value {
                let millis = took.iter().map(|took| (took.into_inner() * 1e3).round());
                ended.extend(millis.map(|millis| format!("{store} {outcome} {millis}")));
            }
        }
        ended.sort();
        ended
    }
}

fn row() -> Result<Answer, Error> {
    Ok(Answer::Row(Some(7)))
}

#[tokio::test(start_paused = true)]
async fn without_a_hedge_a_slow_follower_has_its_whole_time() {
    let hedged = Hedged::after(None);
    hedged.world.new.fails(Fault::Hangs);
    let limit = Limits::default().follower_time;
    let (answer, took, said) = hedged.read().await;
    assert_eq!((answer, took), (row(), limit + STEP * 2));
    assert_eq!(said, "legacy; because=fallback_timeout");
    assert_eq!(hedged.counted(), ["fallbacks timeout 1"]);
}

#[tokio::test(start_paused = true)]
async fn the_first_good_answer_is_the_callers() {
    let hedged = Hedged::after(Some(DELAY));
    let world = &hedged.world;
    // A quick follower costs the authority nothing.
    assert_eq!(
        hedged.read().await,
        (row(), STEP * 2, "new; because=percentage".into())
    );
    assert_eq!((world.legacy.asked(), hedged.counted()), (0, vec![]));
    // The authority is first; the follower, which would hang for ever, is dropped.
    world.new.fails(Fault::Hangs);
    let (answer, took, said) = hedged.read().await;
    assert_eq!((answer, took), (row(), DELAY + STEP * 2));
    assert_eq!(said, "legacy; because=fallback_hedge");
    assert_eq!(
        hedged.counted(),
        ["fallbacks hedge 1", "hedges authority 1"]
    );
    // The follower is first, though the authority was asked.
    world.new.fails(Fault::Slow(DELAY));
    world.legacy.fails(Fault::Hangs);
    let (answer, took, said) = hedged.read().await;
    assert_eq!((answer, took), (row(), DELAY + STEP * 2));
    assert_eq!(said, "new; because=percentage");
    assert_eq!(hedged.counted(), ["hedges follower 1"]);
    assert_eq!(world.legacy.asked(), 2, "once for each slow read");
    let cohort = world.handle.cohorts().new;
    assert_eq!((cohort.ok, cohort.fallback), (2, 1));
}

/// Cut off, it could leave a connection of the application's pool inside a transaction; and what is
/// not counted is missing from what new's calls take.
#[tokio::test(start_paused = true)]
async fn the_call_that_lost_is_counted_and_the_authoritys_goes_on_within_limits() {
    let hedged = Hedged::after(Some(DELAY));
    let world = &hedged.world;
    world.new.fails(Fault::Slow(DELAY));
    for (legacy, ended) in [
        (Fault::Slow(DELAY * 4), "legacy ok 82"),
        (Fault::Panics, "legacy error 1"),
        (Fault::Refuses, "legacy error 1"),
        (Fault::Hangs, "legacy timeout 1000"),
    ] {
        world.legacy.fails(legacy);
        assert_eq!(hedged.read().await.0, row());
        tokio::time::sleep(Limits::default().shadow_time).await;
        assert_eq!(hedged.stores(), [ended, "new ok 22"], "{legacy:?}");
    }
    world.legacy.fails(Fault::None);
    world.new.fails(Fault::Hangs);
    assert_eq!(hedged.read().await.0, row());
    // The follower's is dropped, as at the end of its time.
    assert_eq!(hedged.stores(), ["legacy ok 2", "new timeout 22"]);
    // As many as shadow reads at once, and no more.
    world.legacy.fails(Fault::Hangs);
    world.new.fails(Fault::Slow(DELAY));
    let many = Limits::default().shadows + 3;
    let reads = (0..many).map(|_| world.call(Call::Get(1)));
    for answer in futures_util::future::join_all(reads).await {
        assert_eq!(answer, row());
    }
    tokio::time::sleep(Limits::default().shadow_time).await;
    let late = hedged.stores();
    let late = late.iter().filter(|ended| **ended == "legacy timeout 1000");
    assert_eq!(late.count(), Limits::default().shadows);
}

#[tokio::test(start_paused = true)]
async fn what_new_does_not_find_or_fails_is_the_authoritys_to_answer() {
    let hedged = Hedged::after(Some(DELAY));
    let world = &hedged.world;
    let slow = Fault::Slow(DELAY * 2);
    // Slow both, and new is first, without the row: the authority's call goes on, and is not made anew.
    world.new.remove(1);
    world.new.fails(Fault::Slow(DELAY));
    world.legacy.fails(slow);
    let (answer, took, said) = hedged.read().await;
    assert_eq!((answer, took), (row(), DELAY * 3 + STEP * 2));
    assert_eq!(said, "legacy; because=fallback_not_found");
    assert_eq!(
        hedged.counted(),
        ["fallbacks not_found 1", "hedges authority 1"]
    );
    assert_eq!(world.legacy.asked(), 1);
    // At its end of time, too.
    world.new.fails(Fault::Hangs);
    let late = Limits::default().follower_time;
    world.legacy.fails(Fault::Slow(late));
    let (answer, took, said) = hedged.read().await;
    assert_eq!((answer, took), (row(), DELAY + late + STEP * 2));
    assert_eq!(said, "legacy; because=fallback_timeout");
    assert_eq!(
        hedged.counted(),
        ["fallbacks timeout 1", "hedges authority 1"]
    );
    assert_eq!(world.legacy.asked(), 2);
    // Before the delay: as ever, at once.
    world.new.fails(Fault::Refuses);
    world.legacy.fails(Fault::None);
    let (answer, took, _) = hedged.read().await;
    assert_eq!((answer, took), (row(), STEP * 3));
    assert_eq!(hedged.counted(), ["fallbacks error 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_authority_is_the_callers_only_if_the_follower_fails_too() {
    for fault in [Fault::Refuses, Fault::Panics] {
        let hedged = Hedged::after(Some(DELAY));
        let world = &hedged.world;
        world.legacy.fails(fault);
        world.new.fails(Fault::Slow(DELAY * 3));
        let (answer, took, _) = hedged.read().await;
        assert_eq!((answer, took), (row(), DELAY * 3 + STEP * 2), "{fault:?}");
        assert_eq!(hedged.counted(), ["hedges follower 1"]);
    }
    let hedged = Hedged::after(Some(DELAY));
    hedged.world.legacy.fails(Fault::Refuses);
    hedged.world.new.fails(Fault::Hangs);
    let (answer, took, said) = hedged.read().await;
    assert_eq!(
        (answer, took),
        (Err(Error::Constraint), Limits::default().follower_time)
    );
    assert_eq!(said, "");
    assert_eq!(
        hedged.counted(),
        ["fallbacks timeout 1", "hedges neither 1"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_takes_both_calls_with_it() {
    let hedged = Hedged::after(Some(DELAY));
    hedged.world.new.fails(Fault::Hangs);
    hedged.world.legacy.fails(Fault::Hangs);
    let left = tokio::time::timeout(DELAY * 2, hedged.world.call(Call::Get(1))).await;
    left.unwrap_err();
    assert_eq!(hedged.counted(), ["hedges cancelled 1"]);
    assert_eq!(hedged.world.handle.cohorts().new.cancelled, 1);
}

/// Compared once, whoever was first; a write is never asked twice, and neither is a read of the
/// authority.
#[tokio::test(start_paused = true)]
async fn a_hedge_is_of_reads_of_the_follower_alone() {
    let hedged = Hedged::after(Some(Duration::ZERO));
    let world = &hedged.world;
    world.flags.set_sample(Percent::HUNDRED).unwrap();
    world.new.fails(Fault::Slow(DELAY));
    assert_eq!(hedged.read().await.0, row());
    rest().await;
    let compared = world.handle.compared();
    assert_eq!((compared.total, compared.compared()), (1, 1));
    world.flags.set_sample(Percent::ZERO).unwrap();
    world.flags.set_read_new(Percent::ZERO).unwrap();
    hedged.counted();
    let asked = (world.legacy.asked(), world.new.asked());
    world.legacy.fails(Fault::Slow(DELAY));
    assert_eq!(hedged.read().await.0, row());
    world.call(Call::Put(1, 7)).await.unwrap();
    assert_eq!(
        (world.legacy.asked(), world.new.asked()),
        (asked.0 + 2, asked.1)
    );
    assert_eq!(hedged.counted(), Vec::<String>::new());
}
