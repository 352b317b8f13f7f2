//! What shadow reads found, told one by one to [`Report`], and as a whole in a [`ShadowReport`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::{Class, Evidence, Noise, Quantiles, Samples, Totals};

/// The application's own sink for shadow reads. Implemented by closures `Fn(&Compared<'_>)`.
///
/// Called once for each shadow read for which the other side was asked, in its background task, after it was
/// counted; the caller has long had its answer. Its class may be that nothing was compared (a timeout, a list that is
/// too long). One that was shed before the other side was asked, or abandoned, is told to nobody: it is counted
/// alone. It must not block: hand over what takes time, and bound what
/// waits. A panic is contained. What it is given is redacted already.
pub trait Report: Send + Sync {
    /// One shadow read is over.
    fn compared(&self, compared: &Compared<'_>);
}

impl<F: Fn(&Compared<'_>) + Send + Sync> Report for F {
    fn compared(&self, compared: &Compared<'_>) {
        self(compared);
    }
}

/// One shadow read that is over.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    /// The entity.
    pub entity: &'a str,
    /// The operation's name.
    pub operation: &'a str,
    /// How it ended.
    pub class: Class,
    /// What differs, redacted; empty unless it is confirmed.
    pub evidence: &'a [Evidence],
    /// What the legacy side took for its first answer, if it was asked and timed: of the callers' own answers
    /// that were there at once, a share is. So these are not to be added up; [`ShadowReport::legacy`] is weighted.
    pub legacy: Option<Duration>,
    /// The same of the new side.
    pub new: Option<Duration>,
}

/// Whether the comparison itself works: a difference that is put before it must be seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CanaryReport {
    /// How often it was seen.
    pub seen: u64,
    /// How often it was not.
    pub missed: u64,
    /// How long ago it was last seen, in seconds; `None` for never.
    pub last_seen_seconds: Option<f64>,
    /// Whether the last one was not seen.
    pub blind: bool,
}

/// Everything that shadow reads of one entity found, in this process, since it started.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShadowReport {
    /// The entity.
    pub entity: String,
    /// Whether a gate may pass: something was compared, nothing confirmed differs, and the canary was
    /// seen, the last time too.
    pub clean: bool,
    /// Why it is not clean.
    pub because: Vec<String>,
    /// Reads that started.
    pub started: u64,
    /// Reads that ended, by class.
    pub classes: BTreeMap<&'static str, u64>,
    /// Reads that settled something. Those in which neither side had a row are class `neither`.
    pub compared: u64,
    /// Of these, confirmed differences.
    pub confirmed: u64,
    /// Confirmed out of compared, from 0 to 1; `None` without any.
    pub mismatch_ratio: Option<f64>,
    /// With nothing confirmed in n, the true ratio is below this with 95 % confidence: 3 / n, where
    /// reads are independent.
    pub mismatch_ratio_below: Option<f64>,
    /// The canary.
    pub canary: CanaryReport,
    /// Fields in which the authority differs from itself.
    pub noise: Noise,
    /// Fields that rules leave out.
    pub ignored: Vec<String>,
    /// What the legacy side took for the first answers that were compared: of callers' own answers that were there at
    /// once a share is timed, and stands for all of them.
    pub legacy: Quantiles,
    /// The same for the new side.
    pub new: Quantiles,
    /// What differs, by field, with redacted samples.
    pub differences: Samples,
}

/// What a [`ShadowReport`] is made of.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the report's fields say it")]
pub struct Findings {
    pub entity: String,
    pub totals: Totals,
    pub canary: CanaryReport,
    pub noise: Noise,
    pub ignored: Vec<String>,
    pub legacy: Quantiles,
    pub new: Quantiles,
    pub differences: Samples,
}

impl From<Findings> for ShadowReport {
    fn from(found: Findings) -> ShadowReport {
        let totals = found.totals;
        let because = reasons(&totals, &found.canary);
        let compared = totals.compared();
        ShadowReport {
            entity: found.entity,
            clean: because.is_empty(),
            because,
            started: totals.started,
            classes: totals
                .by_class()
                .map(|(class, count)| (class.as_str(), count))
                .collect(),
            compared,
            confirmed: totals.confirmed(),
            mismatch_ratio: totals.mismatch_ratio(),
            mismatch_ratio_below: (totals.confirmed() == 0 && compared > 0)
                .then(|| (3.0 / compared as f64).min(1.0)),
            canary: found.canary,
            noise: found.noise,
            ignored: found.ignored,
            legacy: found.legacy,
            new: found.new,
            differences: found.differences,
        }
    }
}

fn reasons(totals: &Totals, canary: &CanaryReport) -> Vec<String> {
    let mut because = Vec::new();
    if totals.compared() == 0 {
        because.push(match totals.of(Class::Neither) {
            0 => "nothing was compared".to_owned(),
            reads => format!("nothing was compared: neither side had a row in {reads} reads"),
        });
    }
    if totals.confirmed() > 0 {
        because.push(format!("{} confirmed differences", totals.confirmed()));
    }
    if canary.seen == 0 {
        because.push("the canary was never seen: the comparison may be blind".to_owned());
    } else if canary.blind {
        because.push("the last canary was not seen: the rules leave nothing to compare".to_owned());
    }
    because
}

impl ShadowReport {
    /// The report as JSON.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts and finite numbers are JSON")
    }

    /// The report as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("# Shadow reads of {}\n\n", cell(&self.entity));
        line(
            &mut text,
            format_args!("**{}**", if self.clean { "Clean" } else { "Not clean" }),
        );
        for reason in &self.because {
            line(&mut text, format_args!("- {}", cell(reason)));
        }
        self.counts(&mut text);
        self.latencies(&mut text);
        self.fields(&mut text);
        text
    }

    fn counts(&self, text: &mut String) {
        let percent = |ratio: Option<f64>| {
            ratio.map_or_else(
                || "no data".to_owned(),
                |ratio| format!("{:.4} %", ratio * 100.0),
            )
        };
        line(text, format_args!("\n| | |\n| --- | --- |"));
        line(text, format_args!("| compared | {} |", self.compared));
        line(
            text,
            format_args!("| confirmed differences | {} |", self.confirmed),
        );
        line(
            text,
            format_args!("| mismatch ratio | {} |", percent(self.mismatch_ratio)),
        );
        if self.mismatch_ratio_below.is_some() {
            let below = percent(self.mismatch_ratio_below);
            line(
                text,
                format_args!("| with 95 % confidence below | {below} |"),
            );
        }
        let canary = &self.canary;
        let last = canary.last_seen_seconds.map_or_else(
            || "never seen".to_owned(),
            |seconds| format!("last seen {seconds:.0} s ago"),
        );
        let (seen, missed) = (canary.seen, canary.missed);
        line(
            text,
            format_args!("| canary | {last}, {seen} seen, {missed} missed |"),
        );
        line(text, format_args!("\n| class | reads |\n| --- | --- |"));
        for (class, count) in self.classes.iter().filter(|(_, count)| **count > 0) {
            line(text, format_args!("| {class} | {count} |"));
        }
    }

    fn latencies(&self, text: &mut String) {
        let ms = |time: Option<f64>| time.map_or("–".to_owned(), |time| format!("{time:.2} ms"));
        line(
            text,
            format_args!(
                "\n| side | reads, about | p50 | p95 | p99 |\n| --- | --- | --- | --- | --- |"
            ),
        );
        for (side, times) in [("legacy", self.legacy), ("new", self.new)] {
            let (p50, p95, p99) = (ms(times.p50_ms), ms(times.p95_ms), ms(times.p99_ms));
            line(
                text,
                format_args!("| {side} | {} | {p50} | {p95} | {p99} |", times.count),
            );
        }
    }

    fn fields(&self, text: &mut String) {
        if !self.differences.fields.is_empty() {
            line(
                text,
                format_args!("\n| field | differences | for example |\n| --- | --- | --- |"),
            );
        }
        for field in &self.differences.fields {
            let path = if field.path.is_empty() {
                "(whole)"
            } else {
                &field.path
            };
            let sample = field
                .kept
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            line(
                text,
                format_args!("| {} | {} | {} |", cell(path), field.seen, cell(&sample)),
            );
        }
        if self.differences.overflow > 0 {
            line(
                text,
                format_args!(
                    "\nIn more fields than are kept: {}",
                    self.differences.overflow
                ),
            );
        }
        let noisy = self.noise.fields.iter().filter(|field| field.noisy);
        for field in noisy {
            let (differed, controls) = (field.differed, self.noise.controls);
            line(
                text,
                format_args!(
                    "\nNoise: {} differed in {differed} of {controls} control reads",
                    cell(&field.path)
                ),
            );
        }
        for path in &self.ignored {
            line(text, format_args!("\nNot compared: {}", cell(path)));
        }
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a String cannot fail");
}

/// Text that stays in its cell: names of fields come from the data, and could hold anything.
fn cell(text: &str) -> String {
    let mut cell = String::new();
    for c in text.chars() {
        match c {
            '|' | '<' | '>' | '`' | '*' | '_' | '[' | ']' | '\\' | '#' | '!' => {
                cell.push('\\');
                cell.push(c);
            }
            c if c.is_control() => cell.push(' '),
            c => cell.push(c),
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{FieldDiff, Latency, NoiseFloor, Redaction, Reservoir, Tally};

    /// A report of these classes and of one difference in `path`.
    fn report(classes: &[Class], path: &str, canary: CanaryReport) -> ShadowReport {
        let tally = Arc::new(Tally::new());
        classes.iter().for_each(|class| tally.record(*class));
        let (reservoir, floor, legacy) = (
            Reservoir::seeded(2, 2, 7),
            NoiseFloor::new(),
            Latency::new(),
        );
        let field = FieldDiff {
            path: path.to_owned(),
            legacy: Some("PLANTED".into()),
            new: None,
        };
        reservoir.offer(Redaction::new().field(&field));
        floor.observe(&[field]);
        legacy.record(Duration::from_millis(3));
        ShadowReport::from(Findings {
            entity: "listings".to_owned(),
            totals: tally.snapshot(),
            canary,
            noise: floor.snapshot(),
            ignored: vec!["seen_at".to_owned()],
            legacy: legacy.quantiles(),
            new: Latency::new().quantiles(),
            differences: reservoir.samples(),
        })
    }

    const SEEN: CanaryReport = CanaryReport {
        seen: 3,
        missed: 1,
        last_seen_seconds: Some(12.0),
        blind: false,
    };

    #[test]
    fn clean_needs_something_compared_nothing_confirmed_and_a_canary() {
        let because = |classes: &[Class], canary| report(classes, "a", canary).because.join("; ");
        let never = CanaryReport::default();
        let blind = CanaryReport {
            blind: true,
            ..SEEN
        };
        assert_eq!(because(&[Class::Match], SEEN), "");
        for class in Class::ALL {
            assert_eq!(
                because(&[class], SEEN).is_empty(),
                class == Class::Match,
                "{class}"
            );
            assert_eq!(
                because(&[class, Class::Match], SEEN).is_empty(),
                !class.confirmed(),
                "{class}"
            );
        }
        assert!(because(&[Class::Match], never).contains("never seen"));
        assert!(because(&[Class::Match], blind).contains("last canary"));
        assert!(because(&[], never).contains("nothing was compared;"));
        let empty = report(&[Class::Neither; 3], "a", SEEN);
        assert_eq!(
            empty.because,
            ["nothing was compared: neither side had a row in 3 reads"]
        );
        assert_eq!((empty.compared, empty.mismatch_ratio), (0, None));
        assert!(empty.json().contains("\"neither\": 3"));
        assert!(empty.markdown().contains("| neither | 3 |"));
        let many = report(&[Class::Match; 300], "a", SEEN);
        assert_eq!((many.clean, many.mismatch_ratio_below), (true, Some(0.01)));
        assert_eq!(
            report(&[], "a", SEEN).mismatch_ratio_below,
            None,
            "no data bounds nothing"
        );
    }

    #[test]
    fn both_forms_say_the_same_and_show_no_value() {
        let report = report(&[Class::Mismatch, Class::Match], "lines.3.price", SEEN);
        let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!(json["clean"], false);
        assert_eq!(json["classes"]["mismatch"], 1);
        assert_eq!(json["canary"]["last_seen_seconds"], 12.0);
        assert_eq!(json["differences"]["fields"][0]["path"], "lines.*.price");
        assert_eq!(json["noise"]["fields"][0]["noisy"], true);
        assert_eq!(json["legacy"]["count"], 1);
        let markdown = report.markdown();
        for says in [
            "**Not clean**",
            "- 1 confirmed differences",
            "| mismatch ratio | 50.0000 % |",
            "| canary | last seen 12 s ago, 3 seen, 1 missed |",
            "| mismatch | 1 |",
            "| legacy | 1 | 3.",
            "| new | 0 | – | – | – |",
            "| lines.\\*.price | 1 |",
            "Noise: lines.\\*.price differed in 1 of 1 control reads",
            "Not compared: seen\\_at",
        ] {
            assert!(markdown.contains(says), "{says}: {markdown}");
        }
        assert!(!markdown.contains("PLANTED") && !report.json().contains("PLANTED"));
    }

    #[test]
    fn the_name_of_a_field_cannot_forge_a_line_or_a_cell() {
        let name = "a|b\n# clean\r<b>`x`";
        let markdown = report(&[Class::Mismatch], name, SEEN).markdown();
        assert!(
            !markdown.contains("\n# clean") && !markdown.contains("<b>"),
            "{markdown}"
        );
        let rows = markdown.lines().filter(|line| line.contains("a\\|b"));
        assert!(rows.clone().count() >= 1);
        for row in rows.filter(|row| row.starts_with('|')) {
            let bars = row.replace("\\|", "").matches('|').count();
            assert_eq!(bars, 4, "{row}");
        }
    }
}
