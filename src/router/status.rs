//! What the router shows.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use changeover_flags::{Fixable, Flags, InForce, Percent, Place, Shares, Snapshot, Stage};
use changeover_proxy::Handle;
use changeover_shadow::{CanaryReport, FieldSample, Quantiles};
use serde::Serialize;

use super::Subject;
use super::checks::Checks;
use crate::wiring::LastVerify;

/// Where an entity stands in this process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Its name.
    pub entity: String,
    /// The stage; `null` while it was never learnt.
    pub stage: Option<Stage>,
    /// The number of the epoch.
    pub epoch: i64,
    /// Who takes writes.
    pub authority: Option<Place>,
    /// Who answers reads at the moment, in words.
    pub reads: String,
    /// Percent of keys whose reads the new side answers in `dual-write`. A kill leaves it as it is.
    pub read_new: Percent,
    /// Percent of reads that are also compared.
    pub sample: Percent,
    /// What differs from these percentages.
    #[serde(flatten)]
    pub exceptions: Exceptions,
    /// Why the kill switch is thrown; `null` if it is not.
    pub kill: Option<String>,
    /// Whether a backfill and one clean verify are recorded.
    pub ready: bool,
    /// The environment variables that set one of these flags.
    pub fixed_by: Vec<String>,
    /// Why the flags in force are not those that were asked for.
    pub troubles: Vec<String>,
    /// Keys, and scopes, that this process reads from the authority until they are copied.
    pub pinned: usize,
    /// How far the follower is behind; `null` if the authority never told.
    pub lag: Option<Lag>,
    /// What holds back the backfill that this process makes, in words; `null` if nothing does, or if it
    /// makes none.
    pub held_back_by: Option<String>,
    /// The last verify of this process; `null` if it made none. Others may have: see `ready`.
    pub verified: Option<Verified>,
    /// How the consistency checks of this process ended last.
    pub checks: Checks,
    /// What shadow reads found in this process.
    pub compared: Shadowed,
    /// What became of reads in this process, by the side that they were sent to: `legacy`, `new`.
    pub cohorts: BTreeMap<&'static str, Cohort>,
}

/// What differs from an entity's percentages. The listed keys stand in `/entities/{entity}/lists`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Exceptions {
    /// How many keys and routing texts are read from new at any percentage.
    pub always_new: usize,
    /// How many are not.
    pub never_new: usize,
    /// The percentages of single operations, where they differ.
    pub operations: BTreeMap<String, Shares>,
}

/// Keys that are not known to agree.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Lag {
    /// Dirty keys, those held included.
    pub dirty: u64,
    /// Dirty keys that wait for another.
    pub waiting: u64,
    /// Dirty keys that the follower refuses for good.
    pub blocked: u64,
    /// How long ago the authority said so.
    pub seconds_old: f64,
}

/// What became of the reads that were sent to one side, while both could answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cohort {
    /// Answered by it.
    pub ok: u64,
    /// Answered by the authority after all.
    pub fallback: u64,
    /// Answered by an error.
    pub error: u64,
    /// Given up by their callers.
    pub cancelled: u64,
    /// What the callers waited, but for those who gave up.
    pub took: Quantiles,
}

/// What a verify found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// When it ended, in seconds since 1970.
    pub at_unix: u64,
    /// Whether it proved agreement up to recorded lag.
    pub clean: bool,
    /// Keys compared.
    pub keys: u64,
    /// Keys by class.
    pub classes: BTreeMap<&'static str, u64>,
}

/// The tally of shadow reads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shadowed {
    /// Reads that ended in some class.
    pub total: u64,
    /// Reads under way.
    pub in_flight: u64,
    /// Of the reads that `sample` draws, the share that is compared, from 0 to 1: less than 1 while the
    /// target rate is reached.
    pub share: f64,
    /// Reads by class; they sum to `total`.
    pub classes: BTreeMap<&'static str, u64>,
    /// Confirmed differences out of the reads that settled something, from 0 to 1; `null` when
    /// nothing did, which is no pass.
    pub mismatch_ratio: Option<f64>,
    /// Whether and when the comparison last saw a difference that was put before it.
    pub canary: CanaryReport,
}

/// What differs, as far as it may be shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Differences {
    /// The entity.
    pub entity: String,
    /// The tally.
    pub compared: Shadowed,
    /// Redacted examples, by field.
    pub fields: Vec<FieldSample>,
    /// Examples that were not kept because their field had no room.
    pub overflow: u64,
}

impl Status {
    pub(super) async fn of(subject: &Subject) -> Status {
        let (handle, flags) = (&subject.handle, subject.handle.flags());
        let lag = subject.lag.get().await;
        let in_force = flags.in_force();
        let (now, exceptions) = (in_force.snapshot, Exceptions::of(&in_force));
        let stage = now.serving().ok();
        let verified = subject
            .wiring
            .as_ref()
            .and_then(|wiring| wiring.last_verify());
        let last_checks = subject.wiring.as_ref().map(|wiring| wiring.last_checks());
        let backfill = subject.wiring.as_ref().and_then(|wiring| wiring.backfill());
        let held_back_by = backfill.and_then(|backfill| backfill.held_back_by());
        Status {
            entity: handle.entity().to_string(),
            stage,
            epoch: now.epoch,
            authority: stage.map(Stage::authority),
            reads: reads(&now, &exceptions),
            read_new: now.read_new,
            sample: now.sample,
            exceptions,
            kill: flags.killed().map(|kill| kill.reason),
            ready: now.ready,
            fixed_by: fixed_by(flags),
            troubles: flags.troubles(),
            pinned: handle.pins().total(),
            lag,
            held_back_by: held_back_by.map(|reason| reason.to_string()),
            verified: verified.map(|last| Verified::of(&last)),
            checks: Checks::of(last_checks.unwrap_or_default()),
            compared: Shadowed::of(handle),
            cohorts: cohorts(handle),
        }
    }
}

impl Exceptions {
    pub(super) fn of(flags: &InForce) -> Exceptions {
        let exceptions = flags.exceptions.clone().unwrap_or_default();
        Exceptions {
            always_new: exceptions.always_new.len(),
            never_new: exceptions.never_new.len(),
            operations: exceptions.operations.clone(),
        }
    }

    /// As the end of a sentence.
    fn in_words(&self) -> String {
        let listed = |count: usize, how: &str| {
            (count > 0).then(|| format!("{count} listed keys {how} from new"))
        };
        let lists = [
            listed(self.always_new, "always"),
            listed(self.never_new, "never"),
        ];
        let shares = self.operations.iter().filter_map(|(operation, shares)| {
            let share = shares.read_new?;
            Some(format!("{share} of {operation:?}"))
        });
        let all = lists.into_iter().flatten().chain(shares);
        all.fold(String::new(), |words, word| words + "; " + &word)
    }
}

impl Verified {
    /// Without its samples: those name keys.
    fn of(last: &LastVerify) -> Verified {
        let classes = last.report.classes.iter();
        Verified {
            at_unix: unix(last.at),
            clean: last.report.clean(),
            keys: last.report.compared,
            classes: classes
                .map(|(class, keys)| (class.as_str(), *keys))
                .collect(),
        }
    }
}

impl Shadowed {
    fn of(handle: &Handle) -> Shadowed {
        let totals = handle.compared();
        Shadowed {
            total: totals.total,
            in_flight: totals.in_flight(),
            share: handle.sample_share(),
            classes: totals
                .by_class()
                .map(|(class, reads)| (class.as_str(), reads))
                .collect(),
            mismatch_ratio: totals.mismatch_ratio(),
            canary: handle.canary(),
        }
    }
}

impl Differences {
    pub(super) fn of(handle: &Handle) -> Differences {
        let samples = handle.samples();
        Differences {
            entity: handle.entity().to_string(),
            compared: Shadowed::of(handle),
            fields: samples.fields,
            overflow: samples.overflow,
        }
    }
}

/// Who answers reads, in words: what somebody on call wants to know first.
pub(super) fn reads(now: &Snapshot, exceptions: &Exceptions) -> String {
    let Ok(stage) = now.serving() else {
        return "refused: the stage is not known yet".to_owned();
    };
    let authority = stage.authority();
    match stage {
        Stage::DualWrite | Stage::Cutover if now.kill => {
            format!("all from {authority}, none compared: the kill switch is thrown")
        }
        Stage::DualWrite => {
            let share = match now.read_new {
                Percent::HUNDRED => {
                    "all from new that legacy is not known to be ahead of".to_owned()
                }
                Percent::ZERO => format!("all from {authority}"),
                share => format!("{share} of the keys from new, all others from legacy"),
            };
            share + &exceptions.in_words()
        }
        Stage::Legacy | Stage::Cutover | Stage::Complete => format!("all from {authority}"),
    }
}

fn cohorts(handle: &Handle) -> BTreeMap<&'static str, Cohort> {
    let cohorts = handle.cohorts();
    let sides = [(Place::Legacy, cohorts.legacy), (Place::New, cohorts.new)];
    let shown = sides.map(|(place, cohort)| {
        let shown = Cohort {
            ok: cohort.ok,
            fallback: cohort.fallback,
            error: cohort.error,
            cancelled: cohort.cancelled,
            took: cohort.took,
        };
        (place.as_str(), shown)
    });
    BTreeMap::from(shown)
}

fn fixed_by(flags: &Flags) -> Vec<String> {
    let environment = flags.environment();
    let set = [
        (environment.read_new.is_some(), Fixable::ReadNew),
        (environment.sample.is_some(), Fixable::Sample),
        (environment.kill.is_some(), Fixable::Kill),
        (environment.always_new.is_some(), Fixable::AlwaysNew),
        (environment.never_new.is_some(), Fixable::NeverNew),
    ];
    let set = set.into_iter().filter(|(set, _)| *set);
    set.map(|(_, flag)| flag.variable(flags.entity())).collect()
}

fn unix(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
