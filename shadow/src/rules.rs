//! [`Rules`]: what counts as equal.
use thiserror::Error;
/// Compare rules.
#[derive(Debug, Clone, Default)]
pub struct Rules {}
impl Rules {
    /// No rules.
    #[must_use]
    pub fn new() -> Rules {
        Rules::default()
    }
    /// Leaves out a field.
    #[must_use]
    pub fn ignore(self, _path: &str) -> Rules {
        self
    }
    /// Renames a legacy field.
    #[must_use]
    pub fn rename(self, _legacy: &str, _new: &str) -> Rules {
        self
    }
    /// Checks the rules.
    ///
    /// # Errors
    /// [`BadRule`]
    pub fn check(&self) -> Result<(), BadRule> {
        Ok(())
    }
}
/// A rule that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadRule {
    /// The path is empty.
    #[error("empty path")]
    EmptyPath,
}
