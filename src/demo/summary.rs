//! What the demo found, as a table for people and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::ledger::Written;

/// What the demo did and found. Times are in the unit that the name says.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    pub(super) databases: String,
    pub(super) legacy_rows: i64,
    pub(super) seed: u64,
    pub(super) seconds: f64,
    /// The mapping that was wrong at first.
    pub(super) mistake: Mistake,
    pub(super) backfill: Swept,
    pub(super) verifies: Vec<Verified>,
    pub(super) ramp: Vec<Ramped>,
    pub(super) reads: Calls,
    pub(super) reads_answered_by_new: u64,
    pub(super) reads_answered_by_legacy: u64,
    /// Reads that new failed and legacy answered, by reason.
    pub(super) fallbacks: BTreeMap<String, u64>,
    pub(super) own_writes_not_seen: u64,
    pub(super) shadow_reads: BTreeMap<String, u64>,
    pub(super) writes: Calls,
    pub(super) ledger: Option<Written>,
    /// Writes of a copying stage, by what became of their copy at once.
    pub(super) follows: BTreeMap<String, u64>,
    /// Keys that the worker copied, by who asked for it and what became of it: `inline` are those of `follows`, a key
    /// of several writes that ended together once.
    pub(super) copies: BTreeMap<String, u64>,
    pub(super) dirty_keys_at_most: u64,
    pub(super) problems: Vec<String>,
}

/// A wrong field of the mapping, and how shadow reads found it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Mistake {
    pub(super) field: &'static str,
    pub(super) found_after_seconds: f64,
    pub(super) confirmed: u64,
    pub(super) compared: u64,
}

/// A sweep over history.
#[derive(Debug, Default, Serialize)]
pub(super) struct Swept {
    pub(super) rows: u64,
    pub(super) seconds: f64,
    pub(super) rows_per_second: f64,
}

/// A verify.
#[derive(Debug, Serialize)]
pub(super) struct Verified {
    pub(super) when: &'static str,
    pub(super) keys: u64,
    pub(super) classes: BTreeMap<&'static str, u64>,
    pub(super) seconds: f64,
}

/// What routing did at a percentage.
#[derive(Debug, Serialize)]
pub(super) struct Ramped {
    pub(super) step: String,
    pub(super) reads: u64,
    pub(super) percent_answered_by_new: f64,
}

/// Calls and how long callers waited.
#[derive(Debug, Default, Serialize)]
pub(super) struct Calls {
    pub(super) calls: u64,
    pub(super) errors: u64,
    pub(super) p50_ms: f64,
    pub(super) p95_ms: f64,
    pub(super) p99_ms: f64,
}

impl Calls {
    /// Of these times in microseconds.
    pub(super) fn of(mut micros: Vec<u32>, errors: u64) -> Calls {
        micros.sort_unstable();
        let at = |share: f64| {
            let index = (micros.len() as f64 * share) as usize;
            let micros = micros.get(index.min(micros.len().saturating_sub(1)));
            micros.map_or(0.0, |micros| f64::from(*micros) / 1_000.0)
        };
        let (p50_ms, p95_ms, p99_ms) = (at(0.50), at(0.95), at(0.99));
        Calls {
            calls: micros.len() as u64,
            errors,
            p50_ms,
            p95_ms,
            p99_ms,
        }
    }

    fn times(&self) -> String {
        format!(
            "p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms",
            self.p50_ms, self.p95_ms, self.p99_ms
        )
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, text: String| writeln!(f, "{name:<22}{text}");
        line("databases", self.databases.clone())?;
        line(
            "legacy rows",
            format!("{} from seed {}", self.legacy_rows, self.seed),
        )?;
        let mistake = &self.mistake;
        line(
            "wrong mapping",
            format!(
                "{:?} differs in {} of {} shadow reads, found after {:.1} s, mended by revision 2",
                mistake.field, mistake.confirmed, mistake.compared, mistake.found_after_seconds
            ),
        )?;
        let swept = &self.backfill;
        line(
            "backfill",
            format!(
                "{} rows in {:.1} s, {:.0} rows/s",
                swept.rows, swept.seconds, swept.rows_per_second
            ),
        )?;
        for verify in &self.verifies {
            let text = format!(
                "{} keys in {:.1} s: {}",
                verify.keys,
                verify.seconds,
                list(&verify.classes)
            );
            line(&format!("verify {}", verify.when), text)?;
        }
        for step in &self.ramp {
            let text = format!(
                "{:.1} % of {} reads by new",
                step.percent_answered_by_new, step.reads
            );
            line(&step.step, text)?;
        }
        let (new, legacy) = (self.reads_answered_by_new, self.reads_answered_by_legacy);
        line(
            "reads",
            format!(
                "{} ({new} by new, {legacy} by legacy), {} errors",
                self.reads.calls, self.reads.errors
            ),
        )?;
        line("", self.reads.times())?;
        line("fallbacks to legacy", list(&self.fallbacks))?;
        line("own writes not seen", self.own_writes_not_seen.to_string())?;
        line("shadow reads", list(&self.shadow_reads))?;
        line("writes", self.writes.calls.to_string())?;
        line("", self.writes.times())?;
        if let Some(Written {
            acknowledged,
            refused,
            unknown,
        }) = self.ledger
        {
            line(
                "ledger",
                format!(
                    "{acknowledged} acknowledged, {refused} refused or without a row, {unknown} unknown"
                ),
            )?;
        }
        line("copied with the write", list(&self.follows))?;
        line("keys copied", list(&self.copies))?;
        line(
            "dirty keys",
            format!("{} at most, 0 in the end", self.dirty_keys_at_most),
        )?;
        let verdict = if self.problems.is_empty() {
            "nothing lost, no key different".to_owned()
        } else {
            format!("{} problem(s)", self.problems.len())
        };
        line("independent check", verdict)?;
        line("time", format!("{:.1} s", self.seconds))
    }
}

fn list(counts: &BTreeMap<impl fmt::Display, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    counts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let calls = Calls::of((1..=1_000).rev().collect(), 2);
        assert_eq!((calls.calls, calls.errors), (1_000, 2));
        assert!((calls.p50_ms - 0.501).abs() < 1e-9 && (calls.p99_ms - 0.991).abs() < 1e-9);
        assert!(Calls::of(vec![], 0).p99_ms.abs() < 1e-9);
    }
}
