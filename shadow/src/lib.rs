//! shadow

mod diff;
mod judge;
mod observe;
mod path;
mod redact;
mod rename;
mod reservoir;
mod rules;
mod tally;
mod value;
mod verdict;

pub use diff::{FieldDiff, MAX_DEPTH, SetDiff, diff, diff_sets};
pub use judge::{Answer, Judgement, Look, judge};
pub use observe::{Json, Observe};
pub use redact::{Evidence, Redaction};
pub use reservoir::{FieldSample, Reservoir, Samples};
pub use rules::{BadRule, Rules};
pub use tally::{Tally, Ticket, Totals};
pub use value::Value;
pub use verdict::{Class, Verdict};
