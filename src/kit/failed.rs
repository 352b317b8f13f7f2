//! What a team's own call failed with, as a report may say it.

use std::any::{Any, type_name};
use std::fmt;

use changeover_shadow::{FieldDiff, Redaction, Value};

/// The class of an error, of any type.
type Class = dyn Fn(&dyn Any) -> Option<&'static str> + Send + Sync;

/// What names the classes of errors, and says how much else of them is shown.
#[derive(Default)]
pub(super) struct Errors {
    classes: Vec<Box<Class>>,
}

impl Errors {
    pub(super) fn classed<E: 'static>(
        &mut self,
        class: impl Fn(&E) -> Option<&'static str> + Send + Sync + 'static,
    ) {
        let class = move |error: &dyn Any| error.downcast_ref::<E>().and_then(&class);
        self.classes.push(Box::new(class));
    }

    pub(super) fn class(&self, failed: &Failed) -> Option<&'static str> {
        let Failed::Answered { error, .. } = failed else {
            return None;
        };
        self.classes.iter().find_map(|class| class(&**error))
    }

    /// The class, or the type and as much of the text as may be shown: it may quote a row.
    pub(super) fn told(&self, failed: &Failed, redaction: &Redaction) -> String {
        match (self.class(failed), failed) {
            (Some(class), _) => class.to_owned(),
            (None, Failed::Kit(why)) => (*why).to_owned(),
            (None, Failed::Answered { text, kind, .. }) => {
                let field = FieldDiff {
                    path: "error".to_owned(),
                    legacy: Some(Value::from(text.as_str())),
                    new: None,
                };
                let shown = redaction.field(&field).legacy;
                format!("{kind}: {shown} (Options::redaction shows it as the field \"error\")")
            }
        }
    }
}

/// Why a call has no answer.
pub(super) enum Failed {
    /// It answered an error.
    Answered {
        error: Box<dyn Any + Send>,
        text: String,
        kind: &'static str,
    },
    /// What the kit itself saw of it.
    Kit(&'static str),
}

impl Failed {
    pub(super) fn of<E: fmt::Display + Send + 'static>(error: E) -> Failed {
        Failed::Answered {
            text: error.to_string(),
            kind: type_name::<E>(),
            error: Box::new(error),
        }
    }
}
