//! What the checks of a contract found: [`Report`].

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// One rule that a mapping, or the repositories beside it, must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Two readings of one version are one image.
    Deterministic,
    /// Every key has an image, and the new tables accept it.
    Total,
    /// What was copied is found again as it was meant.
    RoundTrip,
    /// A key that is deleted leaves nothing, and comes back as it was.
    Deletes,
    /// Whatever changes an image stamps its key.
    Stamps,
    /// Both repositories answer a read alike.
    Reads,
    /// A write that is dropped half-way happens or does not, and leaves nothing open.
    Cancelled,
    /// Of two writes on one key, in either order, both sides keep the same result.
    Interleaved,
    /// A write whose answer is lost reaches the new side.
    LostAnswers,
}

impl Rule {
    /// Every rule, in the order in which they are checked.
    pub const ALL: [Rule; 9] = [
        Rule::Deterministic,
        Rule::Total,
        Rule::RoundTrip,
        Rule::Deletes,
        Rule::Stamps,
        Rule::Reads,
        Rule::Cancelled,
        Rule::Interleaved,
        Rule::LostAnswers,
    ];

    /// The name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Rule::Deterministic => "deterministic",
            Rule::Total => "total",
            Rule::RoundTrip => "round trip",
            Rule::Deletes => "deletes",
            Rule::Stamps => "stamps",
            Rule::Reads => "reads agree",
            Rule::Cancelled => "cancelled",
            Rule::Interleaved => "interleaved",
            Rule::LostAnswers => "lost answers",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A rule that is broken: where, how, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// The key that shows it; `None` when it is no one key's.
    pub key: Option<String>,
    /// What was seen.
    pub found: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "[{}] key {key}: {}", self.rule, self.found)?,
            None => write!(f, "[{}] {}", self.rule, self.found)?,
        }
        write!(f, "\n    remedy: {}", self.remedy)
    }
}

/// What a check could not try. It is neither kept nor broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotTried {
    /// The rule.
    pub rule: Rule,
    /// What was to be tried.
    pub what: String,
    /// Why it was not.
    pub why: String,
}

/// What the checks found.
///
/// `Display` prints all of it, for the log of a test.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    tried: BTreeMap<Rule, u64>,
    found: BTreeMap<Rule, u64>,
    findings: Vec<Finding>,
    not_tried: Vec<NotTried>,
}

impl Report {
    /// The most findings that are kept for one rule; the others are counted.
    pub const MAX_FINDINGS: u64 = 20;

    /// Whether every rule that was tried is kept, and something was tried at all. What was
    /// [not tried](Report::not_tried) is no part of it.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.findings.is_empty() && self.tried.values().any(|&tried| tried > 0)
    }

    /// Every rule that is broken, at most [`MAX_FINDINGS`](Report::MAX_FINDINGS) times each.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What could not be tried, and why.
    #[must_use]
    pub fn not_tried(&self) -> &[NotTried] {
        &self.not_tried
    }

    /// How many keys, changes, reads or writes a rule was tried on.
    #[must_use]
    pub fn tried(&self, rule: Rule) -> u64 {
        self.tried.get(&rule).copied().unwrap_or(0)
    }

    /// Says that the rules hold.
    ///
    /// # Panics
    ///
    /// With the whole report, when [`holds`](Report::holds) is false.
    pub fn assert_holds(&self) {
        assert!(self.holds(), "the contract does not hold\n{self}");
    }

    /// Counts what a rule was tried on.
    pub fn try_on(&mut self, rule: Rule, count: usize) {
        *self.tried.entry(rule).or_default() += count as u64;
    }

    /// Adds a broken rule.
    pub fn add(&mut self, finding: Finding) {
        let count = self.found.entry(finding.rule).or_default();
        *count += 1;
        if *count <= Self::MAX_FINDINGS {
            self.findings.push(finding);
        }
    }

    /// Adds what could not be tried.
    pub fn add_not_tried(&mut self, rule: Rule, what: impl Into<String>, why: impl Into<String>) {
        self.not_tried.push(NotTried {
            rule,
            what: what.into(),
            why: why.into(),
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in Rule::ALL {
            let (tried, found) = (self.tried(rule), self.found.get(&rule).copied());
            let word = match (tried, found) {
                (_, Some(_)) => "BROKEN",
                (0, None) => "not tried",
                (_, None) => "kept",
            };
            writeln!(f, "{:<14} {word:<10} tried on {tried}", rule.as_str())?;
        }
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        for (rule, found) in &self.found {
            if *found > Self::MAX_FINDINGS {
                let more = found - Self::MAX_FINDINGS;
                writeln!(f, "[{rule}] and {more} more")?;
            }
        }
        for one in &self.not_tried {
            writeln!(f, "[{}] not tried: {}: {}", one.rule, one.what, one.why)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_tried_holds_nothing_and_findings_are_counted_past_their_limit() {
        let mut report = Report::default();
        report.add_not_tried(Rule::Reads, "reads", "none was given");
        assert!(!report.holds(), "a blind check reads zero, too");
        report.try_on(Rule::Total, 3);
        assert!(report.holds());
        for key in 0..22 {
            report.add(Finding {
                rule: Rule::Total,
                key: Some(key.to_string()),
                found: "no image".into(),
                remedy: "mend it".into(),
            });
        }
        assert!(!report.holds());
        assert_eq!(report.findings().len(), 20);
        let text = report.to_string();
        assert!(text.contains("total          BROKEN"), "{text}");
        assert!(text.contains("[total] and 2 more"), "{text}");
        assert!(
            text.contains("[reads agree] not tried: reads: none was given"),
            "{text}"
        );
    }
}
