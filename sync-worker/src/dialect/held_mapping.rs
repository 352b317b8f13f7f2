//! Which mapping a side holds: revision and fingerprint, as its epoch row has them.

use changeover_shadow::Value;

use super::authority::integer;
use crate::mapping::{Fingerprint, Shape};
use crate::store::StoreError;

/// The mapping that a side holds. This is the one place that says whether another may work on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldMapping {
    /// Its revision.
    pub revision: i64,
    /// What it answers, if it could tell.
    pub fingerprint: Option<Fingerprint>,
}

impl HeldMapping {
    /// The columns that [`read`](HeldMapping::read) takes.
    pub const COLUMNS: &str = "revision, mapping";

    /// Where the revision alone is known.
    #[must_use]
    pub const fn of_revision(revision: i64) -> HeldMapping {
        HeldMapping {
            revision,
            fingerprint: None,
        }
    }

    /// What these columns answered.
    #[must_use]
    pub fn read(revision: &Value, mapping: &Value) -> HeldMapping {
        HeldMapping {
            revision: integer(revision),
            fingerprint: match mapping {
                Value::Integer(number) => Some(Fingerprint::from_number(*number)),
                _ => None,
            },
        }
    }

    /// Refuses a mapping of another revision, and one that answers something else at the same
    /// revision as far as both can tell.
    ///
    /// # Errors
    ///
    /// [`StoreError::Revision`], [`StoreError::Mapping`].
    pub fn admits(self, shape: &Shape) -> Result<(), StoreError> {
        let (held, mine) = (self.revision, shape.revision);
        if held != mine {
            return Err(StoreError::Revision { held, mine });
        }
        match (self.fingerprint, shape.fingerprint) {
            (Some(held), Some(mine)) if held != mine => Err(StoreError::Mapping {
                revision: shape.revision,
                held,
                mine,
            }),
            _ => Ok(()),
        }
    }
}

/// The value of the column of `shape`'s fingerprint.
#[must_use]
pub fn column(shape: &Shape) -> Value {
    shape.fingerprint.map_or(Value::Null, |fingerprint| {
        Value::Integer(fingerprint.number())
    })
}
