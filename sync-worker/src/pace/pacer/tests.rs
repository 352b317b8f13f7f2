use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::pace::{BytesPerSecond, Limit, Signal};

const SECOND: Duration = Duration::from_secs(1);

fn paused_clock() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of this thread")
}

fn fixed(rows: u32) -> Pacing {
    Pacing {
        rows_per_second: RowsPerSecond::new(rows),
        ..Pacing::default()
    }
}

fn limit(most: f64) -> Limit {
    Limit {
        most,
        older_than: SECOND * 5,
    }
}

/// A number that others set.
fn number(shared: &Arc<AtomicU64>) -> impl Signal + use<> {
    let shared = Arc::clone(shared);
    move || {
        let value = shared.load(Ordering::SeqCst);
        async move { Ok(value as f64) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// 60 s of the clock at 5,000 rows per second, by pages of any size that take any time and rest
    /// after it, as long as they leave the rate room; a failing seed is printed and kept by proptest.
    #[test]
    fn a_fixed_rate_is_kept_within_three_percent(
        page in 100_u32..2_000,
        micros in proptest::collection::vec(1_u64..100, 1..50),
        stall in 0_u64..500,
    ) {
        let rows = paused_clock().block_on(async {
            let pacer = Pacer::new(fixed(5_000), page, Signals::default());
            let (begun, mut rows) = (Instant::now(), 0);
            for (number, micros) in micros.iter().cycle().enumerate() {
                pacer.turn(|_| ()).await;
                if begun.elapsed() >= SECOND * 60 {
                    break;
                }
                let read = u64::from(pacer.page());
                pacer.spend(read, read * 100);
                // Now and then the database is busy with something else.
                let stall = Duration::from_millis(if number % 97 == 50 { stall } else { 0 });
                let took = Duration::from_micros(read * micros);
                tokio::time::sleep(took + stall).await;
                pacer.passed(read, read * 100, took);
                rows += read;
            }
            rows as f64
        });
        let error = rows / 300_000.0 - 1.0;
        prop_assert!(error.abs() < 0.03, "{:.1} % off", error * 100.0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_slowest_rule_wins_and_says_so() {
    let pacing = Pacing {
        bytes_per_second: BytesPerSecond::new(1_000),
        duty: Duty::percent(75),
        ..fixed(100)
    };
    let pacer = Pacer::new(pacing, 100, Signals::default());
    assert_eq!(pacer.held(), None);
    let mut reasons = Vec::new();
    for (rows, bytes, millis) in [(100, 100, 10), (1, 5_000, 10), (1, 1, 60_000)] {
        pacer.spend(rows, bytes);
        pacer.passed(rows, bytes, Duration::from_millis(millis));
        let waited = pacer
            .turn(|held| reasons.extend(held.map(|held| held.reason.label().to_owned())))
            .await;
        reasons.push(format!("{:.1}", waited.as_secs_f64()));
    }
    assert_eq!(reasons, ["rows", "1.0", "bytes", "4.1", "duty", "20.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_share_is_kept_unless_a_rate_is_set() {
    let pacer = Pacer::new(Pacing::default(), 100, Signals::default());
    let mut waits = Vec::new();
    for rate in [None, RowsPerSecond::new(1_000_000), None] {
        pacer.passed(100, 100, Duration::from_millis(120));
        // Whoever rests already goes by it, too.
        pacer.set_rate(rate);
        waits.push(pacer.turn(|_| ()).await.as_millis());
    }
    assert_eq!(waits, [1_380, 0, 1_380]);
}

#[tokio::test(start_paused = true)]
async fn a_change_wakes_whoever_waits() {
    let pacer = Pacer::new(fixed(1), 10, Signals::default());
    pacer.spend(86_400, 0);
    let wait = pacer.turn(|_| ());
    let change = async {
        tokio::time::sleep(SECOND * 5).await;
        pacer.pause();
        pacer.set_rate(None);
        tokio::time::sleep(SECOND * 5).await;
        assert_eq!(pacer.held().map(|held| held.reason), Some(Reason::Paused));
        pacer.resume();
    };
    let (waited, ()) = tokio::join!(wait, change);
    assert_eq!(waited, SECOND * 10);
}

#[tokio::test(start_paused = true)]
async fn a_signal_holds_with_its_reason_until_it_is_well_below_its_limit() {
    let lag = Arc::new(AtomicU64::new(0));
    let signals = Signals::default().watch("lag", number(&lag), limit(10.0), SECOND);
    let pacer = Pacer::new(Pacing::UNLIMITED, 10, signals);
    let work = async {
        assert!(pacer.turn(|_| ()).await < SECOND, "the first reading");
        lag.store(11, Ordering::SeqCst);
        tokio::time::sleep(SECOND + SECOND / 2).await;
        let falls = async {
            for value in [10, 9] {
                tokio::time::sleep(SECOND * 60).await;
                lag.store(value, Ordering::SeqCst);
            }
        };
        let mut said = Vec::new();
        let held = pacer.turn(|held| {
            let held = held.map(|held| held.reason.to_string());
            said.push(held.unwrap_or_default());
            said.dedup();
        });
        let (waited, ()) = tokio::join!(held, falls);
        assert!(waited > SECOND * 119 && waited < SECOND * 121, "{waited:?}");
        let above = "signal lag is 11, above its limit 10";
        let back = "signal lag is 10 after it was above its limit 10, and has to fall to 9";
        assert_eq!(said, [above, back, ""]);
    };
    tokio::select! {
        () = work => {}
        never = pacer.sample() => match never {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_hangs_fails_or_panics_stops_the_worker_and_the_others_go_on() {
    let reads = Arc::new(AtomicU64::new(0));
    let moody = {
        let reads = Arc::clone(&reads);
        move || {
            let read = reads.fetch_add(1, Ordering::SeqCst);
            async move {
                match read {
                    0 | 5.. => Ok(1.0),
                    1 => Err("it is away".into()),
                    2 => panic!("a panic of the test's own"),
                    _ => std::future::pending().await,
                }
            }
        }
    };
    let others = Arc::new(AtomicU64::new(0));
    let counting = {
        let others = Arc::clone(&others);
        move || {
            others.fetch_add(1, Ordering::SeqCst);
            async { Ok(0.0) }
        }
    };
    let signals = Signals::default()
        .watch("moody", moody, limit(2.0), SECOND)
        .watch("other", counting, limit(2.0), SECOND);
    let pacer = Pacer::new(Pacing::UNLIMITED, 10, signals);
    let begun = Instant::now();
    let work = async {
        pacer.turn(|_| ()).await;
        tokio::time::sleep_until(begun + SECOND * 4).await;
        assert_eq!(pacer.held(), None, "what was read is fresh enough");
        tokio::time::sleep_until(begun + SECOND * 6).await;
        let mut said = Vec::new();
        pacer
            .turn(|held| said.extend(held.map(|held| held.reason.to_string())))
            .await;
        let said = said.join("\n");
        for part in ["may be 5 s old: it panicked", "no answer within 5 s"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(reads.load(Ordering::SeqCst), 6);
        let others = others.load(Ordering::SeqCst);
        assert!((13..=15).contains(&others), "{others}");
    };
    tokio::select! {
        () = work => {}
        never = pacer.sample() => match never {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_on_its_way_to_its_limit_makes_the_rests_longer() {
    let load = Arc::new(AtomicU64::new(0));
    let patient = Limit {
        older_than: SECOND * 60,
        ..limit(100.0)
    };
    let signals = Signals::default().watch("load", number(&load), patient, SECOND);
    let pacing = Pacing {
        duty: Duty::percent(75),
        ..Pacing::default()
    };
    let pacer = Pacer::new(pacing, 10, signals);
    let mut waits = Vec::new();
    for value in [10, 70, 85, 99] {
        load.store(value, Ordering::SeqCst);
        pacer.signals().read_once().await;
        pacer.passed(10, 10, Duration::from_millis(300));
        waits.push(pacer.turn(|_| ()).await.as_millis());
    }
    assert_eq!(waits, [100, 100, 500, 7_700]);
}

#[tokio::test(start_paused = true)]
async fn every_rule_can_be_changed_on_the_way() {
    let pacer = Pacer::new(Pacing::UNLIMITED, 1_000, Signals::default());
    let pass = || {
        pacer.spend(100, 10_000);
        pacer.passed(100, 10_000, SECOND);
    };
    pass();
    assert_eq!(
        (pacer.turn(|_| ()).await, pacer.page()),
        (Duration::ZERO, 1_000)
    );
    pacer.set_pacing(Pacing {
        bytes_per_second: BytesPerSecond::new(5_000),
        statement_time: Some(SECOND / 10),
        ..Pacing::UNLIMITED
    });
    assert!(pacer.is_metered());
    pass();
    assert_eq!(pacer.turn(|_| ()).await, SECOND * 2, "by its bytes");
    assert!(pacer.page() < 1_000, "{}", pacer.page());
    pacer.set_pacing(Pacing {
        duty: Duty::percent(50),
        ..Pacing::UNLIMITED
    });
    pass();
    assert_eq!(pacer.turn(|_| ()).await, SECOND, "by its share of the time");
    assert_eq!(pacer.page(), 1_000);
}
