//! What must be so in the end, and was all the while.

use std::collections::BTreeMap;
use std::time::Instant;

use super::stand::Stand;
use super::writers::Tally;
use crate::operate::command::Ended;

/// What a run came to.
pub struct Verdict {
    /// Everything that was found wrong.
    pub problems: Vec<String>,
    landed: BTreeMap<&'static str, u64>,
    killed: BTreeMap<&'static str, u64>,
    compared: u64,
    written: u64,
    report: String,
}

impl Verdict {
    /// # Panics
    /// When anything was wrong, when fewer than `strikes` landed, when one of `struck` died less often than
    /// `kills` times, or when next to nothing happened.
    pub fn expect_clean(self, strikes: u64, struck: &[&'static str], kills: u64) {
        println!("{}", self.report);
        // Past the capture of a passing test's output.
        let test = std::thread::current().name().unwrap_or("test").to_owned();
        let counts = format!("{test}: killed {:?} by {strikes} strikes\n", self.killed);
        let _ = std::io::Write::write_all(&mut std::io::stderr(), counts.as_bytes());
        let first = &self.problems[..self.problems.len().min(10)];
        assert!(
            self.problems.is_empty(),
            "{} problems: {first:#?}\n{}",
            self.problems.len(),
            self.report
        );
        let landed: u64 = self.landed.values().sum();
        assert_eq!(landed, strikes, "{}", self.report);
        for one in struck {
            let times = self.killed.get(one).copied().unwrap_or(0);
            assert!(times >= kills, "{one} died {times} times: {}", self.report);
        }
        let at_the_sweep = self.landed.get("sweep").copied().unwrap_or(0);
        assert!(
            at_the_sweep >= strikes / 4 && at_the_sweep < strikes,
            "{}",
            self.report
        );
        assert!(
            self.compared > 100 * strikes && self.written > 10 * strikes,
            "hardly anything happened: {}",
            self.report
        );
    }
}

impl Stand {
    /// Everything is over: history is swept and drained by command, and plain SQL compares.
    pub async fn judge(mut self) -> Verdict {
        self.writers.end().await;
        let tally = self.writers.tally();
        if let Some(mut drain) = self.drain.take() {
            drain.process.kill().await.unwrap();
        }
        let settling = Instant::now();
        let swept = self.desk.run(&format!("{} --json", self.lines.sweep)).await;
        let drained = self.desk.run("drain --within 60").await;
        let verified = self.desk.run("verify --json").await;
        let settling = settling.elapsed();
        for (line, ended) in [
            ("sweep", &swept),
            ("drain", &drained),
            ("verify", &verified),
        ] {
            // A sweep says with 1 that keys wait, which the drain then copies.
            if ended.code != Some(0) && !(line == "sweep" && ended.code == Some(1)) {
                self.problems.push(format!("{line} at the end: {ended:?}"));
            }
        }
        self.look().await;
        self.sane(&swept, &verified, &tally).await;
        self.compare().await;
        let seen = std::mem::take(&mut self.seen);
        self.problems
            .extend(seen.problems.iter().map(|one| format!("sampled: {one}")));
        self.problems.extend(
            tally
                .refused
                .iter()
                .map(|one| format!("a write was refused: {one}")),
        );
        let report = format!(
            "{:?}, {:?} struck: {:?}, {:.1} s; {tally:?}; {} samples, {} compared at equal versions, \
             {} behind, held {:?}; settled in {settling:.1?}",
            self.market.topology,
            self.struck,
            self.figures,
            self.began.elapsed().as_secs_f64(),
            seen.samples,
            seen.compared,
            seen.behind,
            seen.holds,
        );
        Verdict {
            problems: self.problems,
            landed: self.figures.landed,
            killed: self.figures.killed,
            compared: seen.compared,
            written: tally.confirmed(),
            report,
        }
    }

    /// What the commands report is what can be.
    async fn sane(&mut self, swept: &Ended, verified: &Ended, tally: &Tally) {
        let at = self.place().await;
        let rows = u64::try_from(self.rows).unwrap();
        // A key is passed once, however often its page was; one that was deleted before may be missing,
        // one that was inserted meanwhile may be there.
        let possible = rows.saturating_sub(tally.deleted)..=rows + tally.inserted + 3;
        let swept = swept.json();
        let passed = swept["passed"].as_u64().unwrap_or(0);
        if !at.swept || at.dirty > 0 || !possible.contains(&passed) || passed != at.passed as u64 {
            self.problems.push(format!(
                "{passed} passed, possible {possible:?}: {at:?}, {swept}"
            ));
        }
        if swept["recorded"] != true || swept["keys"] != 0 {
            self.problems
                .push(format!("a sweep after the sweep: {swept}"));
        }
        let verified = verified.json();
        let there = self
            .market
            .legacy
            .text("SELECT CAST(count(*) AS text) FROM listings")
            .await;
        let there: u64 = there.parse().unwrap();
        if verified["clean"] != true || verified["compared"].as_u64() < Some(there) {
            self.problems
                .push(format!("verify of {there} rows: {verified}"));
        }
    }

    async fn compare(&mut self) {
        let (legacy, new) = self.market.both().await;
        let problem = format!("{} rows in legacy, {} in new", legacy.len(), new.len());
        let only = |a: &[String], b: &[String]| {
            let b: std::collections::BTreeSet<_> = b.iter().collect();
            a.iter()
                .filter(|row| !b.contains(row))
                .take(3)
                .cloned()
                .collect::<Vec<_>>()
        };
        if legacy != new || (legacy.len() as i64) < self.rows / 2 {
            let (lost, added) = (only(&legacy, &new), only(&new, &legacy));
            self.problems.push(format!(
                "plain SQL: {problem}; in legacy alone {lost:?}, in new alone {added:?}"
            ));
        }
    }
}
