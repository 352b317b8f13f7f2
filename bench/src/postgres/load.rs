//! Dual writes and reads for a while, by many callers at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use changeover::flags::Percent;
use changeover::proxy::Changeover;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::shop::{Answer, Call, Failed, ROWS, Shop, Store};
use crate::report::{Limit, Report, Row};

const CALLERS: u64 = 1_000;
/// Five calls a second by each caller, one of them a write.
const EVERY: Duration = Duration::from_millis(200);
const WRITES_IN: u64 = 5;
/// As many dirty keys as are written in this time are a backlog that does not grow.
const BACKLOG: Duration = Duration::from_secs(5);

type Service = Changeover<Store, Store, Call, Answer, Failed>;

/// What one caller saw; times from the moment at which the call was due, in microseconds.
struct Seen {
    reads: Histogram<u64>,
    writes: Histogram<u64>,
}

impl Seen {
    fn new() -> Seen {
        let histogram = || Histogram::new_with_bounds(1, 600_000_000, 3).expect("good bounds");
        Seen {
            reads: histogram(),
            writes: histogram(),
        }
    }
}

pub fn rows(report: &mut Report, seconds: u64) {
    let runtime = crate::multi_thread();
    let length = Duration::from_secs(seconds);
    let (seen, errors, dirty, rest, took, compared) = runtime.block_on(async {
        let shop = Shop::open().await;
        let percent = |share: f64| Percent::new(share).expect("a percentage");
        shop.wiring
            .flags()
            .set_read_new(percent(25.0))
            .expect("it is ready");
        shop.wiring
            .flags()
            .set_sample(percent(10.0))
            .expect("the file can be written");
        let service = shop.layered();
        let errors = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        let mut callers = JoinSet::new();
        for number in 0..CALLERS {
            callers.spawn(caller(number, service.clone(), length, Arc::clone(&errors)));
        }
        let mut dirty = 0;
        while began.elapsed() < length {
            tokio::time::sleep(Duration::from_millis(500)).await;
            dirty = shop.dirty().await.max(dirty);
        }
        let mut all = Seen::new();
        while let Some(seen) = callers.join_next().await {
            let seen = seen.expect("no panic");
            all.reads.add(&seen.reads).expect("the same bounds");
            all.writes.add(&seen.writes).expect("the same bounds");
        }
        let took = began.elapsed();
        let rest = shop.clean(Duration::from_secs(10)).await;
        let compared = service.handle().compared();
        shop.worker.stop().await;
        (
            all,
            errors.load(Ordering::Relaxed),
            dirty,
            rest,
            took,
            compared,
        )
    });
    // The last caller begins one interval after the first.
    let took = took.saturating_sub(EVERY).as_secs_f64();
    let rate = |histogram: &Histogram<u64>| histogram.len() as f64 / took;
    let (writes, reads) = (rate(&seen.writes), rate(&seen.reads));
    let ms = |histogram: &Histogram<u64>, at| histogram.value_at_quantile(at) as f64 / 1_000.0;
    let due = CALLERS as f64 / EVERY.as_secs_f64();
    report.push(
        Row::new(
            "load",
            format!("{CALLERS} callers, {seconds} s: calls due / calls made"),
            due / (writes + reads),
            "×",
            Limit::AtMost(1.02),
        )
        .with("writes_per_s", writes)
        .with("reads_per_s", reads),
    );
    report.push(Row::new(
        "load",
        "  errors",
        errors as f64,
        "",
        Limit::AtMost(0.0),
    ));
    report.push(
        Row::new(
            "load",
            "  reads, p95",
            ms(&seen.reads, 0.95),
            "ms",
            Limit::AtMost(100.0),
        )
        .with("p50_ms", ms(&seen.reads, 0.5))
        .with("p99_ms", ms(&seen.reads, 0.99)),
    );
    report.push(
        Row::orientation("load", "  writes, p95", ms(&seen.writes, 0.95), "ms")
            .with("p50_ms", ms(&seen.writes, 0.5))
            .with("p99_ms", ms(&seen.writes, 0.99)),
    );
    let backlog = due / WRITES_IN as f64 * BACKLOG.as_secs_f64();
    report.push(Row::new(
        "load",
        "  dirty keys, most at once",
        dirty as f64,
        "",
        Limit::AtMost(backlog),
    ));
    report.push(Row::new(
        "load",
        "  dirty keys, at most 10 s after the end",
        rest as f64,
        "",
        Limit::AtMost(0.0),
    ));
    let mut shadows = Row::orientation("load", "  shadow reads", compared.total as f64, "");
    for (class, count) in compared.by_class().filter(|(_, count)| *count > 0) {
        shadows = shadows.with(class.as_str(), count as f64);
    }
    report.push(shadows);
}

async fn caller(number: u64, service: Service, length: Duration, errors: Arc<AtomicU64>) -> Seen {
    let mut seen = Seen::new();
    let first = tokio::time::Instant::now() + EVERY.mul_f64(number as f64 / CALLERS as f64);
    let mut tick = tokio::time::interval_at(first, EVERY);
    let calls = length.as_millis() / EVERY.as_millis();
    for call in 0..calls as u64 {
        let due = tick.tick().await;
        let id = rand::random_range(1..=ROWS);
        let writes = (call + number).is_multiple_of(WRITES_IN);
        let request = if writes {
            Call::Reprice {
                id,
                cents: call as i64,
            }
        } else {
            Call::Get(id)
        };
        if !matches!(service.clone().oneshot(request).await, Ok(Some(_))) {
            errors.fetch_add(1, Ordering::Relaxed);
        }
        let histogram = if writes {
            &mut seen.writes
        } else {
            &mut seen.reads
        };
        histogram.saturating_record(due.elapsed().as_micros() as u64);
    }
    seen
}
