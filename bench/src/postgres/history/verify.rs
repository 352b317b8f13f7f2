//! A verify, beside reladiff.

use std::process::{Command, Stdio};
use std::time::Instant;

use changeover::worker::migration::Migration;
use changeover::worker::verify::VerifyOptions;

use super::History;
use crate::report::{Limit, Report, Row};

/// What is compared beside the key.
const COMPARED: [&str; 5] = ["name", "email", "amount", "at", "paid"];

/// A verify by sums, against the same key by key, of so many rows that are equal.
pub(super) async fn both_ways(migration: &Migration, rows: u64) -> Row {
    let mut verified = [f64::NAN; 2];
    let ways = [VerifyOptions::default().range, 0];
    for (range, per) in ways.into_iter().zip(&mut verified) {
        let options = VerifyOptions {
            range,
            ..VerifyOptions::default()
        };
        let began = Instant::now();
        let report = migration.verify(options).await.expect("an answer");
        *per = rows as f64 / began.elapsed().as_secs_f64();
        assert!(report.clean() && (report.sums.ranges > 0) == (range > 0));
    }
    let [summed, singly] = verified;
    let what = "  a verify of these / the same key by key";
    Row::orientation("history", what, summed / singly, "×")
        .with("summed_per_s", summed)
        .with("singly_per_s", singly)
}

impl History {
    /// A verify of equal sides, and one of a hundred differences.
    pub(super) async fn verify(&self, report: &mut Report) {
        let migration = self.migration(&self.new).await;
        let every = (self.rows / 100).max(1);
        let began = Instant::now();
        let verified = migration.verify(VerifyOptions::default()).await;
        let equal = self.per_second(began);
        assert!(verified.expect("an answer").clean());
        let equal_peer = self.reladiff(0);
        let forge = format!(
            "BEGIN; SET LOCAL changeover.copy = 'on'; \
             UPDATE new_orders SET name = 'other' WHERE id % {every} = 0; COMMIT"
        );
        self.run(&self.new, &forge).await;
        let began = Instant::now();
        let verified = migration.verify(VerifyOptions::default()).await;
        let other = self.per_second(began);
        assert!(!verified.expect("an answer").clean());
        // It also ends well where it compares nothing: the differences show that it did.
        let other_peer = self.reladiff(self.rows / every);
        let peers = equal_peer.and_then(|equal| Ok((equal, other_peer?)));
        let (equal_peer, other_peer) = peers.unwrap_or_else(|problem| {
            report.note(problem);
            (f64::NAN, f64::NAN)
        });
        for (what, ours, peer, least) in [
            ("verify, equal sides", equal, equal_peer, 1.8),
            ("verify, a hundred differences", other, other_peer, 3.0),
        ] {
            report.push(match peer.is_nan() {
                true => Row::orientation("history", what, ours, "rows/s"),
                false => Row::new(
                    "history",
                    format!("{what} / reladiff"),
                    ours / peer,
                    "×",
                    Limit::AtLeast(least),
                )
                .with("ours_per_s", ours)
                .with("reladiff_per_s", peer),
            });
        }
    }

    /// Rows per second of reladiff, which must name so many rows; or why there are none.
    fn reladiff(&self, differences: u64) -> Result<f64, String> {
        let url = |url: &str| {
            let (bare, _) = url.split_once('?').unwrap_or((url, ""));
            bare.replacen("postgres://", "postgresql://", 1)
        };
        let mut reladiff = Command::new("reladiff");
        reladiff
            .args([&url(&self.legacy), "orders", &url(&self.new), "new_orders"])
            .args(["--key-columns", "id", "--threads", "4", "--json"])
            .args(COMPARED.iter().flat_map(|column| ["--columns", column]))
            .stdin(Stdio::null());
        let began = Instant::now();
        let done = reladiff
            .output()
            .map_err(|problem| format!("reladiff is not measured beside it: {problem}"))?;
        let per_second = self.per_second(began);
        // Either side's row of each; it wraps long lines.
        let said = String::from_utf8_lossy(&done.stdout);
        let rows = said
            .lines()
            .filter(|line| line.starts_with("[\"-\"") || line.starts_with("[\"+\""));
        match rows.count() as u64 {
            named if named == 2 * differences => Ok(per_second),
            named => Err(format!(
                "reladiff named {named} rows and not {differences} twice: {}",
                String::from_utf8_lossy(&done.stderr)
            )),
        }
    }
}
