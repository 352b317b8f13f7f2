//! The class of one key, from one certain look at it.

use changeover_flags::Version;
use changeover_shadow::{FieldDiff, Value};

use super::Class;
use crate::store::{Dirt, Observed, Stamped};

/// The class of a key whose authority version did not move while it was looked at.
pub(super) fn judge(
    one: &Stamped,
    seen: Option<&Observed>,
    fields: &[FieldDiff],
    dirt: Option<Dirt>,
    backfilled: bool,
) -> Class {
    let Some((seen, expected)) = seen.and_then(|seen| Some((seen, seen.expected.as_ref().ok()?)))
    else {
        // It has no image, or one that the follower's columns cannot hold: no copy will settle it.
        let copied = seen.is_some_and(|seen| seen.version == Some(one.version));
        return match (dirt, backfilled) {
            (Some(_), _) => Class::Blocked,
            (None, _) if copied => Class::Divergent,
            (None, false) => Class::Pending,
            (None, true) => Class::Unrecorded,
        };
    };
    match seen.version {
        Some(version) if version > one.version => Class::FollowerAhead,
        _ if dirt == Some(Dirt::Noted) && !fields.is_empty() => Class::Lagging,
        Some(version) if version == one.version => differing(seen, expected, fields),
        _ if dirt.is_some() => Class::Lagging,
        // Copied once, and never stamped since the base was raised. Without rows on either side
        // there is nothing to copy again; rows of the follower's alone are of a write that the
        // authority has lost, since every delete is stamped.
        Some(_) if is_base(one.version) && is_blank(expected) => match is_blank(&seen.actual) {
            true => Class::Equal,
            false => Class::Extra,
        },
        Some(_) if is_base(one.version) && !backfilled => Class::Pending,
        Some(_) => Class::Unrecorded,
        // Never copied, and clean.
        None if fields.is_empty() && is_blank(expected) => Class::Equal,
        None if !is_blank(expected) && !backfilled => Class::Pending,
        None => differing(seen, expected, fields),
    }
}

/// The class of a key at equal versions.
fn differing(seen: &Observed, expected: &Value, fields: &[FieldDiff]) -> Class {
    match (is_blank(expected), is_blank(&seen.actual)) {
        _ if fields.is_empty() && seen.version.is_some() => Class::Equal,
        (false, true) => Class::Missing,
        (true, false) => Class::Extra,
        _ if seen.version.is_none() => Class::Missing,
        _ => Class::Divergent,
    }
}

/// Whether no write of this incarnation gave the version.
fn is_base(version: Version) -> bool {
    version.0 % (1 << Version::COUNTER_BITS) == 0
}

/// Whether a record by target holds no row.
fn is_blank(value: &Value) -> bool {
    let empty = |rows: &Value| match rows {
        Value::Null => true,
        Value::List(rows) => rows.is_empty(),
        Value::Record(rows) => rows.is_empty(),
        _ => false,
    };
    match value {
        Value::Record(targets) => targets.values().all(empty),
        other => empty(other),
    }
}
