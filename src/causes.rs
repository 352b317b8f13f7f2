//! An error with all its causes, as somebody has to read it.

use std::error::Error;
use std::fmt;

/// The error's text, and below it one line per cause that says something new.
///
/// For the `Debug` of errors that a `main` may return: what to do stands in a cause, and what a
/// program prints of an error that leaves its `main` is its `Debug`.
pub(crate) struct Causes<'a>(pub(crate) &'a dyn Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !said.ends_with(&text) {
                write!(f, "\n  because: {text}")?;
                said = text;
            }
            source = cause.source();
        }
        Ok(())
    }
}
