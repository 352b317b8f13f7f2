use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use changeover_flags::{Percent, Version};

use super::*;
use crate::backfill::{Backfill, BackfillOptions};
use crate::drain::{Drain, DrainOptions};
use crate::memory::{Fault, Memory, Op, Row, key, watching};

async fn verify_by(memory: &Memory, page: u32, range: u32) -> Result<VerifyReport, StoreError> {
    let options = VerifyOptions {
        page,
        range,
        ..VerifyOptions::default()
    };
    Verify::new(memory.copier(), options).run().await
}

/// What comparing key by key finds, and sums over spans of any size, too.
async fn verify(memory: &Memory) -> Result<VerifyReport, StoreError> {
    let single = verify_by(memory, 3, 0).await?;
    assert_eq!(single.sums.ranges, 0);
    for (page, range) in [(3, 6), (1, 4), (2, 3), (3, 100)] {
        let summed = verify_by(memory, page, range).await?;
        assert!(summed.sums.ranges > 0 && summed.unsummed.is_empty());
        assert_eq!(summed.classes, single.classes, "{page} {range}: {summed:?}");
        let keys = |report: &VerifyReport| {
            let samples = report.samples.iter();
            let keys = samples.map(|one| (one.class, one.key.clone(), format!("{:?}", one.fields)));
            keys.collect::<BTreeSet<_>>()
        };
        if single.samples.len() < 20 {
            assert_eq!(keys(&summed), keys(&single));
        }
    }
    Ok(single)
}

/// Seven rows of history, backfilled, then one written and one deleted, drained.
async fn settled() -> Result<Memory, StoreError> {
    let memory = Memory::default();
    (1..=7).for_each(|id| memory.history(id, "row"));
    Backfill::new(memory.copier(), BackfillOptions::default())
        .run(|_| ())
        .await?;
    memory.write(1, "written");
    memory.delete(7);
    Drain::new(memory.copier(), DrainOptions::default())
        .once()
        .await?;
    Ok(memory)
}

fn tamper(memory: &Memory, id: i64, text: &str) {
    let row = Row {
        text: text.into(),
        unique: None,
    };
    memory.state().held.insert(key(id), row);
}

async fn only(memory: &Memory, class: Class) -> Result<VerifyReport, StoreError> {
    let report = verify(memory).await?;
    assert_eq!(report.compared, report.classes.values().sum::<u64>());
    let others = report.compared - report.count(Class::Equal);
    assert_eq!((others, report.count(class)), (1, 1), "{report:?}");
    assert_eq!(report.clean(), class.is_clean());
    Ok(report)
}

#[tokio::test]
async fn two_sides_that_agree_are_clean_and_nothing_compared_is_not() -> Result<(), StoreError> {
    let memory = settled().await?;
    let report = verify(&memory).await?;
    assert!(report.clean(), "{report:?}");
    assert_eq!((report.compared, report.count(Class::Equal)), (7, 7));
    assert!(
        verify(&Memory::default()).await?.clean(),
        "both sides are empty"
    );
    assert!(
        !VerifyReport::default().clean(),
        "a blind verify is never clean"
    );
    Ok(())
}

#[tokio::test]
async fn each_defect_is_told_by_its_class() -> Result<(), StoreError> {
    let memory = settled().await?;
    tamper(&memory, 2, "other");
    let report = only(&memory, Class::Divergent).await?;
    assert_eq!(report.samples[0].key, key(2).as_str());
    assert!(!report.samples[0].fields.is_empty());
    assert!(!serde_json::to_string(&report).is_ok_and(|text| text.contains("other")));

    let memory = settled().await?;
    memory.state().held.remove(&key(3));
    only(&memory, Class::Missing).await?;

    let memory = settled().await?;
    tamper(&memory, 7, "resurrected");
    only(&memory, Class::Extra).await?;

    let memory = settled().await?;
    tamper(&memory, 99, "nobody's");
    only(&memory, Class::Extra).await?;

    let memory = settled().await?;
    memory.state().fences.insert(key(4), Version(9));
    only(&memory, Class::FollowerAhead).await?;

    let memory = settled().await?;
    memory.state().fences.insert(key(1), Version(0));
    only(&memory, Class::Unrecorded).await?;

    let memory = settled().await?;
    memory.state().fences.insert(key(7), Version(0));
    only(&memory, Class::Unrecorded).await?;

    let memory = settled().await?;
    memory.state().held.remove(&key(5));
    memory.state().fences.remove(&key(5));
    only(&memory, Class::Missing).await?;
    Ok(())
}

#[tokio::test]
async fn lag_is_told_from_defects() -> Result<(), StoreError> {
    let memory = settled().await?;
    memory.write(2, "newer");
    only(&memory, Class::Lagging).await?;

    let memory = settled().await?;
    memory.write(2, "refused");
    Drain::new(memory.copier(), DrainOptions::default())
        .once()
        .await?;
    let report = only(&memory, Class::Blocked).await?;
    assert!(report.samples[0].reason.is_some());

    let memory = settled().await?;
    memory.write(2, "unmappable");
    Drain::new(memory.copier(), DrainOptions::default())
        .once()
        .await?;
    only(&memory, Class::Blocked).await?;

    let memory = settled().await?;
    memory.history(8, "row");
    memory.state().cursor.done = false;
    only(&memory, Class::Pending).await?;
    Ok(())
}

#[tokio::test]
async fn a_key_that_never_was_is_equal_under_every_base() -> Result<(), StoreError> {
    let memory = settled().await?;
    memory
        .copier()
        .copy(&[key(50)], crate::copy::CopySource::Inline)
        .await?;
    let base = Version::base(1);
    memory.state().base = base;
    memory.state().follower_base = base;
    memory.state().cursor = crate::store::Cursor::default();
    Backfill::new(memory.copier(), BackfillOptions::default())
        .run(|_| ())
        .await?;
    Drain::new(memory.copier(), DrainOptions::default())
        .once()
        .await?;
    let report = verify(&memory).await?;
    assert_eq!(
        (report.compared, report.count(Class::Equal)),
        (8, 8),
        "{report:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_no_verdict() -> Result<(), StoreError> {
    let memory = settled().await?;
    memory.fault(Op::Observe, Fault::Lost);
    assert!(verify(&memory).await.is_err());
    memory.fault(Op::Sum, Fault::Lost);
    assert!(verify_by(&memory, 3, 6).await.is_err());
    Ok(())
}

#[tokio::test]
async fn what_agrees_is_summed_and_what_does_not_is_divided() -> Result<(), StoreError> {
    let memory = Memory::default();
    (1..=64).for_each(|id| memory.history(id, "row"));
    Backfill::new(memory.copier(), BackfillOptions::default())
        .run(|_| ())
        .await?;
    let report = verify_by(&memory, 2, 64).await?;
    let (ranges, bisected, singly) = (32, 0, 0);
    // The parts of a full range are followed by the open one behind it.
    let sums = SumsReport {
        ranges: ranges + 1,
        bisected,
        singly,
    };
    assert_eq!((report.sums, report.compared), (sums, 64));
    assert!(report.conclusive() && report.clean());
    tamper(&memory, 40, "other");
    let report = verify_by(&memory, 2, 64).await?;
    // Of 32 parts of 2 one, of its 2 parts of 1 one.
    let sums = SumsReport {
        ranges: 32 + 1 + 2,
        bisected: 2,
        singly: 1,
    };
    assert_eq!((report.sums, report.compared), (sums, 64));
    assert_eq!(report.count(Class::Divergent), 1);
    Ok(())
}

#[tokio::test]
async fn rows_that_exchange_their_places_are_seen() -> Result<(), StoreError> {
    let memory = settled().await?;
    memory.write(2, "two");
    memory.write(3, "three");
    Drain::new(memory.copier(), DrainOptions::default())
        .once()
        .await?;
    tamper(&memory, 2, "three");
    tamper(&memory, 3, "two");
    let report = verify(&memory).await?;
    assert_eq!(report.count(Class::Divergent), 2, "{report:?}");
    Ok(())
}

/// Not one of its rows can be summed with this one among them: it is found, and so is what is wrong
/// beside it.
#[tokio::test]
async fn a_row_that_cannot_be_summed_hides_no_other() -> Result<(), StoreError> {
    let memory = settled().await?;
    memory.write(2, "unmappable");
    tamper(&memory, 4, "other");
    let report = verify(&memory).await?;
    let found = (report.count(Class::Blocked), report.count(Class::Divergent));
    assert_eq!(found, (1, 1), "{report:?}");
    Ok(())
}

#[tokio::test]
async fn samples_are_bounded_and_the_count_is_not() -> Result<(), StoreError> {
    let memory = settled().await?;
    (100..150).for_each(|id| tamper(&memory, id, "nobody's"));
    let report = verify(&memory).await?;
    assert_eq!((report.count(Class::Extra), report.samples.len()), (50, 20));
    Ok(())
}

async fn a_hundred() -> Result<Memory, StoreError> {
    let memory = Memory::default();
    (1..=100).for_each(|id| memory.history(id, "row"));
    Backfill::new(memory.copier(), BackfillOptions::default())
        .run(|_| ())
        .await?;
    Ok(memory)
}

/// What went since keys were counted off agrees no more than what lags.
#[tokio::test(start_paused = true)]
async fn keys_that_go_while_it_waits_are_not_equal() -> Result<(), StoreError> {
    let memory = a_hundred().await?;
    let options = VerifyOptions {
        page: 4,
        range: 50,
        pacing: Pacing {
            rows_per_second: RowsPerSecond::new(50),
            ..Pacing::UNLIMITED
        },
        ..VerifyOptions::default()
    };
    let verify = Verify::new(memory.copier(), options);
    let deletes = async {
        // Both ranges are counted off, and one is summed.
        tokio::time::sleep(Duration::from_millis(500)).await;
        (51..=100).step_by(2).for_each(|id| memory.delete(id));
    };
    let (report, ()) = tokio::join!(verify.run(), deletes);
    let report = report?;
    let counts = (report.count(Class::Equal), report.count(Class::Lagging));
    assert_eq!(counts, (75, 25), "{report:?}");
    Ok(())
}

fn keys_of(report: &VerifyReport) -> BTreeSet<String> {
    report.samples.iter().map(|one| one.key.clone()).collect()
}

#[tokio::test]
async fn a_sample_looks_at_the_spans_that_its_seed_draws_and_at_no_others() -> Result<(), StoreError>
{
    let memory = a_hundred().await?;
    (1..=100).for_each(|id| tamper(&memory, id, "other"));
    for range in [0, 10] {
        let sample = async |sampled, seed| {
            let options = VerifyOptions {
                page: 10,
                range,
                samples: 1_000,
                part: Part::Sample(sampled),
                seed,
                ..VerifyOptions::default()
            };
            Verify::new(memory.copier(), options).run().await
        };
        let few = sample(Sampled::Ranges(3), 7).await?;
        let part = PartReport::Sample {
            ranges: 3,
            of: 11,
            seed: 7,
        };
        assert_eq!(few.part, Some(part));
        // Ten keys in each, and none behind the last.
        assert!([20, 30].contains(&few.compared), "{few:?}");
        assert_eq!(few.count(Class::Divergent), few.compared);
        assert_eq!(
            keys_of(&sample(Sampled::Ranges(3), 7).await?),
            keys_of(&few)
        );
        let mut drawn = BTreeSet::new();
        for seed in 0..50 {
            drawn.extend(keys_of(&sample(Sampled::Ranges(2), seed).await?));
        }
        assert_eq!(drawn.len(), 100, "each span is drawn some time");
        let all = Percent::HUNDRED;
        assert_eq!(sample(Sampled::Share(all), 1).await?.compared, 100);
    }
    Ok(())
}

#[tokio::test]
async fn one_that_was_broken_off_goes_on_behind_the_key_it_reached() -> Result<(), StoreError> {
    let memory = a_hundred().await?;
    memory.delete(100);
    Drain::new(memory.copier(), DrainOptions::default())
        .once()
        .await?;
    for id in [5, 35, 95] {
        tamper(&memory, id, "other");
    }
    memory.state().fences.insert(key(100), Version(0));
    for range in [0, 10] {
        let run = async |part, broken: bool| {
            let options = VerifyOptions {
                page: 10,
                range,
                part,
                ..VerifyOptions::default()
            };
            let mut heard = Vec::new();
            let told = |progress: VerifyProgress| {
                // Nothing is read any more once the third page or span is done.
                if broken && progress.reached == Some(key(30)) {
                    let op = if range == 0 { Op::Page } else { Op::Sum };
                    memory.fault(op, Fault::Lost);
                }
                heard.push(progress);
            };
            let verify = Verify::new(memory.copier(), options);
            let report = verify.run_telling(told).await;
            (report, heard)
        };
        let (broken, heard) = run(Part::All, true).await;
        assert!(broken.is_err());
        let last = heard.last().cloned().unwrap_or_default();
        assert_eq!((last.compared >= 30, last.unclean), (true, 1), "{last:?}");
        let reached = last.reached.expect("it compared some");
        assert!(reached >= key(30), "{reached}");
        memory.state().faults.clear();
        let (rest, heard) = run(Part::Above(reached.clone()), false).await;
        let rest = rest?;
        assert_eq!(rest.part, Some(PartReport::Above(reached.to_string())));
        let differ = [key(35), key(95), key(100)].map(|key| key.to_string());
        assert_eq!(keys_of(&rest), differ.into_iter().collect());
        let mut before = None;
        for progress in heard {
            assert!(progress.reached >= before);
            before = progress.reached;
        }
    }
    Ok(())
}

/// A pace alone changes when it looks, and not what it finds; nobody is asked while it is held back.
#[tokio::test(start_paused = true)]
async fn it_keeps_its_pace_and_stops_for_signals() -> Result<(), StoreError> {
    let memory = Memory::default();
    (1..=100).for_each(|id| memory.write(id, "row"));
    Drain::new(memory.copier(), DrainOptions::default())
        .once()
        .await?;
    let options = |range| VerifyOptions {
        page: 10,
        range,
        pacing: Pacing {
            rows_per_second: RowsPerSecond::new(10),
            ..Pacing::UNLIMITED
        },
        ..VerifyOptions::default()
    };
    for (range, least, most) in [(0, 8.0, 11.0), (20, 8.0, 11.0)] {
        let began = Instant::now();
        let report = Verify::new(memory.copier(), options(range)).run().await?;
        let took = began.elapsed().as_secs_f64();
        assert!(report.clean() && report.compared == 100, "{report:?}");
        assert!((least..most).contains(&took), "{range}: {took}");
    }
    let level = Arc::new(AtomicU64::new(9));
    let options = VerifyOptions {
        signals: watching(&level),
        ..VerifyOptions::default()
    };
    let verify = Verify::new(memory.copier(), options);
    let mut said = Vec::new();
    let told = |progress: VerifyProgress| {
        let is_held = level.load(Ordering::Relaxed) > 5;
        assert!(!is_held || progress.compared == 0, "{progress:?}");
        said.extend(progress.held_back_by.map(|reason| reason.to_string()));
    };
    let mut run = Box::pin(verify.run_telling(told));
    let early = tokio::time::timeout(Duration::from_secs(60), &mut run).await;
    assert!(early.is_err(), "it was not held back");
    level.store(1, Ordering::Relaxed);
    assert_eq!(run.await?.compared, 100);
    let over = said
        .iter()
        .any(|why| why == "signal load is 9, above its limit 5");
    assert!(over, "{said:?}");
    Ok(())
}
