//! Compares what two stores answered, and says what the difference means.
//!
//! While an application moves from its legacy tables to new ones, some reads are also made on the other
//! side, in the shadow, and thrown away after they were compared. This crate is that comparison:
//! [`Observe`] makes a [`Value`] of each answer, [`diff`] finds the fields that differ under [`Rules`],
//! [`judge`] turns two looks into one [`Verdict`], [`Tally`] counts it, and [`Redaction`] with
//! [`Reservoir`] keep evidence that is safe to show. It calls nothing: no store, no clock, no runtime.
//!
//! 1. A difference is reported only if a second look shows one too; what lag can explain is
//!    [`Verdict::Lagging`], and what went away is [`Verdict::Healed`]. [`judge`] has the whole table.
//!    Lists are compared by the keys of their elements, and so are their versions: [`judge_lists`].
//! 2. What did not answer was not compared. A failed or slow side is never an absent row, two failed sides
//!    and two sides without a row are never a match, and a tally without comparisons has no mismatch ratio at all.
//! 3. Values are equal when they are the same, kind and bits, except where a rule says otherwise. A rule that
//!    cannot be used leaves differences in, and [`Rules::check`] names it.
//! 4. Every shadow read that starts ends in exactly one [`Class`]; the classes sum to the total.
//! 5. Nothing this crate makes of values prints their contents ([`Value`] itself does), until a field is
//!    [shown](Redaction::show) by name.
//! 6. Everything kept is bounded, and what is not kept is counted.
//!
//! Places, not roles: `legacy` and `new` mean the same before and after the write cutover, whichever of them
//! answers the caller.
//!
//! # What it does not promise
//!
//! - Without versions a confirmed difference is one that outlived the pause between two looks; lag longer
//!   than the pause looks the same. With versions, a key that is written all the time may stay
//!   [`Verdict::Lagging`] while it is: comparing keys at rest is for a verify of the whole table.
//! - Equal answers prove that these two answers are equal, not that the tables are.
//! - Names of fields are not redacted.
//! - Deeper than [`MAX_DEPTH`] nothing is compared: it is reported as different. Making and dropping values
//!   of any greater depth is the caller's to mind.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use changeover_shadow::{
//!     Answer, Class, Json, Judgement, Look, Observe, Redaction, Reservoir, Rules, Tally, Verdict, judge,
//! };
//! use serde_json::json;
//!
//! let rules = Rules::new().rename("tenant_id", "provider_id").ignore("updated_at");
//! rules.check()?;
//! let (tally, reservoir) = (Arc::new(Tally::new()), Reservoir::new());
//!
//! let ticket = tally.start();
//! let legacy = json!({"tenant_id": 7, "title": "chair", "updated_at": 1});
//! let new = json!({"provider_id": 7, "title": "Chair", "updated_at": 2});
//! let look = || Look {
//!     legacy: Answer::from(Json.observe(&legacy)),
//!     new: Answer::from(Json.observe(&new)),
//!     versions: Some((3, 3)),
//! };
//! let first = look();
//! assert_eq!(judge(&first, None, &rules), Judgement::LookAgain);
//! let Judgement::Final(verdict) = judge(&first, Some(&look()), &rules) else {
//!     unreachable!("a second look is the last")
//! };
//! for evidence in Redaction::new().evidence(&verdict, Some("chair-1")) {
//!     reservoir.offer(evidence);
//! }
//! ticket.finish(verdict.class());
//!
//! assert_eq!(verdict.class(), Class::Mismatch);
//! assert_eq!(tally.snapshot().mismatch_ratio(), Some(1.0));
//! let samples = reservoir.samples();
//! assert_eq!(samples.fields[0].path, "title");
//! assert!(!format!("{verdict:?} {samples:?}").contains("chair"));
//! # Ok::<(), changeover_shadow::BadRule>(())
//! ```

mod fields;
mod observe;
mod value;

mod path;
pub mod rules;

mod diff;

mod judge;
mod list;
mod verdict;

mod canary;
mod noise;

mod redact;
mod reservoir;
mod tally;

mod latency;
mod report;

#[cfg(test)]
mod tests;

pub use canary::altered;
pub use diff::{FieldDiff, MAX_DEPTH, SetDiff, diff, diff_legacy, diff_new, diff_sets};
pub use fields::Fields;
pub use judge::{Answer, Judgement, Look, judge};
pub use latency::{Latency, LatencyCounts, Quantiles};
pub use list::{Elements, ListDiff, ListLook, judge_lists};
pub use noise::{Noise, NoiseFloor, NoisyField};
pub use observe::{Json, Observe};
pub use redact::{Evidence, Redaction};
pub use report::{CanaryReport, Compared, Findings, Report, ShadowReport};
pub use reservoir::{FieldSample, Reservoir, Samples};
pub use rules::{BadRule, Rules, Tolerance};
pub use tally::{Tally, Ticket, Totals};
pub use value::Value;
pub use verdict::{Class, Verdict};
