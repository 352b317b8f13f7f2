use super::*;
use crate::backfill::{Backfill, BackfillOptions};
use crate::drain::{Drain, DrainOptions};
use crate::memory::{Fault, Memory, Op, Row, key};

async fn verify(memory: &Memory) -> Result<VerifyReport, StoreError> {
    let options = VerifyOptions {
        page: 3,
        ..VerifyOptions::default()
    };
    Verify::new(memory.copier(), options).run().await
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
