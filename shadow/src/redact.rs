//! [`Redaction`]
use crate::{BadRule, FieldDiff};
use serde::Serialize;
/// What evidence may show.
#[derive(Debug, Clone, Default)]
pub struct Redaction {}
impl Redaction {
    /// Shows nothing.
    #[must_use]
    pub fn new() -> Redaction {
        Redaction::default()
    }
    /// Shows a path.
    #[must_use]
    pub fn show(self, _path: &str) -> Redaction {
        self
    }
    /// Checks.
    ///
    /// # Errors
    /// [`BadRule`]
    pub fn check(&self) -> Result<(), BadRule> {
        Ok(())
    }
    /// Redacts.
    #[must_use]
    pub fn field(&self, field: &FieldDiff) -> Evidence {
        Evidence {
            path: field.path.clone(),
            legacy: String::new(),
            new: String::new(),
        }
    }
}
/// Evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Where.
    pub path: String,
    /// Legacy.
    pub legacy: String,
    /// New.
    pub new: String,
}
