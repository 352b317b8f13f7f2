//! What the environment fixes of an entity's flags.
//!
//! | variable | value | |
//! | --- | --- | --- |
//! | `CHANGEOVER_<ENTITY>_READ_NEW` | `25`, `12.5` | percent of keys whose reads the new side answers |
//! | `CHANGEOVER_<ENTITY>_SAMPLE` | `1` | percent of reads that are also compared |
//! | `CHANGEOVER_<ENTITY>_KILL` | `true`, `false`, or a reason | every read to the authority |
//! | `CHANGEOVER_<ENTITY>_ALWAYS_NEW` | `{ keys = ["42"], routed_by = ["test"] }` | keys that are read from new at any percentage |
//! | `CHANGEOVER_<ENTITY>_NEVER_NEW` | the same | keys that are not |
//!
//! `<ENTITY>` is the entity's name in upper case: `CHANGEOVER_LISTINGS_KILL`.
//!
//! 1. They are read once, at the start: the environment of a running process does not change.
//! 2. What a variable sets, nothing else changes until the process ends: not the stored flags, not
//!    a call. Both keep their own value, which counts again once the variable is gone. A call that
//!    would have no effect is refused and names the variable; an edit is logged.
//! 3. The kill switch only adds: it is thrown if the environment *or* anything else throws it.
//!    `false` throws nothing and clears nothing.
//! 4. A percentage above zero waits for the same evidence as any other: until the new side is known
//!    to be ready it is 0, and [`Flags::troubles`](crate::Flags::troubles) says so. If the new side
//!    stops being ready afterwards, the percentage falls to 0 and stays there until the next start.
//!    So does the list of keys that are always read from new.
//! 5. A percentage stands above those of single operations, too: they do not count while it is set.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use thiserror::Error;

use crate::{Entity, Exceptions, KeyList, Kill, Percent, Shares};

/// The flags of one entity that the environment fixes. The default fixes none.
///
/// ```
/// use changeover_flags::{Entity, Environment, Flags};
/// let listings = Entity::new("listings")?;
/// let variables = |name: &str| (name == "CHANGEOVER_LISTINGS_SAMPLE").then(|| "2.5".into());
/// let environment = Environment::read_from(&listings, variables)?;
/// let flags = Flags::memory(listings).fixed_by(environment);
/// assert_eq!(flags.load().sample.to_string(), "2.5%");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// The read percentage.
    pub read_new: Option<Percent>,
    /// The share of reads that are compared.
    pub sample: Option<Percent>,
    /// A thrown kill switch.
    pub kill: Option<Kill>,
    /// The keys that are read from the new side at any percentage.
    pub always_new: Option<KeyList>,
    /// The keys that are not.
    pub never_new: Option<KeyList>,
}

/// A flag that a variable can fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fixable {
    /// `…_READ_NEW`.
    ReadNew,
    /// `…_SAMPLE`.
    Sample,
    /// `…_KILL`.
    Kill,
    /// `…_ALWAYS_NEW`.
    AlwaysNew,
    /// `…_NEVER_NEW`.
    NeverNew,
}

impl Fixable {
    /// The name of its variable.
    #[must_use]
    pub fn variable(self, entity: &Entity) -> String {
        let flag = match self {
            Fixable::ReadNew => "READ_NEW",
            Fixable::Sample => "SAMPLE",
            Fixable::Kill => "KILL",
            Fixable::AlwaysNew => "ALWAYS_NEW",
            Fixable::NeverNew => "NEVER_NEW",
        };
        format!("CHANGEOVER_{}_{flag}", entity.as_str().to_ascii_uppercase())
    }
}

/// A variable whose value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the environment variable {variable} is {found:?}: set it to {expected}, or unset it")]
pub struct BadVariable {
    variable: String,
    found: OsString,
    expected: &'static str,
}

impl Environment {
    /// What the environment of this process fixes of `entity`.
    ///
    /// # Errors
    ///
    /// [`BadVariable`] names the variable and what it may be.
    pub fn read(entity: &Entity) -> Result<Environment, BadVariable> {
        Environment::read_from(entity, |name| std::env::var_os(name))
    }

    /// The same from variables that `value` looks up.
    ///
    /// # Errors
    ///
    /// As [`read`](Environment::read).
    pub fn read_from(
        entity: &Entity,
        value: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Environment, BadVariable> {
        let found = |flag: Fixable| {
            let variable = flag.variable(entity);
            value(&variable).map(|found| Variable { variable, found })
        };
        let percent = |flag| found(flag).map(Variable::percent).transpose();
        let list = |flag| found(flag).map(Variable::list).transpose();
        Ok(Environment {
            read_new: percent(Fixable::ReadNew)?,
            sample: percent(Fixable::Sample)?,
            kill: match found(Fixable::Kill) {
                Some(kill) => kill.kill()?,
                None => None,
            },
            always_new: list(Fixable::AlwaysNew)?,
            never_new: list(Fixable::NeverNew)?,
        })
    }

    /// Puts what is fixed above `exceptions`; `proved` says whether reads may go to the new side.
    pub(crate) fn except(&self, exceptions: &mut Arc<Exceptions>, proved: bool) {
        if let Some(list) = &self.always_new {
            let list = if proved {
                list.clone()
            } else {
                KeyList::default()
            };
            Arc::make_mut(exceptions).always_new = list;
        }
        if let Some(list) = &self.never_new {
            Arc::make_mut(exceptions).never_new = list.clone();
        }
        let (read_new, sample) = (self.read_new.is_none(), self.sample.is_none());
        let fixes = !read_new || !sample;
        if fixes && !exceptions.operations.is_empty() {
            let operations = &mut Arc::make_mut(exceptions).operations;
            for shares in operations.values_mut() {
                shares.read_new = shares.read_new.filter(|_| read_new);
                shares.sample = shares.sample.filter(|_| sample);
            }
            operations.retain(|_, shares| *shares != Shares::default());
        }
    }
}

const LIST: &str =
    "at most 1,000 short texts, such as { keys = [\"42\"], routed_by = [\"test-tenant\"] }";

struct Variable {
    variable: String,
    found: OsString,
}

impl Variable {
    fn percent(self) -> Result<Percent, BadVariable> {
        let number = self
            .found
            .to_str()
            .and_then(|text| text.trim().parse().ok());
        let percent = number.and_then(|number| Percent::new(number).ok());
        percent.ok_or_else(|| self.bad("a number from 0 to 100 with at most two decimals"))
    }

    fn list(self) -> Result<KeyList, BadVariable> {
        let text = self.found.to_str();
        let table = text.map(|text| toml::from_str(&format!("list = {text}")));
        let list = table.and_then(|table: Result<BTreeMap<String, KeyList>, _>| table.ok());
        // A line break in the value could have smuggled in other keys.
        let list = list.filter(|table| table.len() == 1);
        let list = list.and_then(|mut table| table.remove("list"));
        list.ok_or_else(|| self.bad(LIST))
    }

    /// An empty text is neither: in a template it is what is left of a value that is missing.
    fn kill(self) -> Result<Option<Kill>, BadVariable> {
        let Some(text) = self.found.to_str() else {
            return Err(self.bad("true, false, or a reason"));
        };
        match text.trim().to_ascii_lowercase().as_str() {
            "" => Err(self.bad("true, false, or a reason")),
            "false" | "0" | "no" | "off" => Ok(None),
            "true" | "1" | "yes" | "on" => {
                Ok(Some(Kill::new(&format!("{} is set", self.variable))))
            }
            _ => Ok(Some(Kill::new(text.trim()))),
        }
    }

    fn bad(self, expected: &'static str) -> BadVariable {
        BadVariable {
            variable: self.variable,
            found: self.found,
            expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<Environment, BadVariable> {
        let entity = Entity::new("order_lines").expect("valid");
        Environment::read_from(&entity, |asked| {
            (asked == format!("CHANGEOVER_ORDER_LINES_{name}")).then(|| value.into())
        })
    }

    #[test]
    fn each_variable_fixes_its_flag() {
        let percent = |percent| Percent::new(percent).ok();
        let none = Environment::default();
        assert_eq!(read("OTHER", "1"), Ok(none.clone()));
        for (text, number) in [("25", 25.0), (" 12.5 ", 12.5), ("0", 0.0), ("1e2", 100.0)] {
            let fixed = read("READ_NEW", text).expect("valid");
            assert_eq!(fixed.read_new, percent(number), "{text}");
            let fixed = read("SAMPLE", text).expect("valid");
            assert_eq!((fixed.sample, fixed.read_new), (percent(number), None));
        }
        let list = KeyList::new(["42", "a\"b"], ["test"]).ok();
        let text = r#" { keys = ["42", 'a"b'], routed_by = ["test"] } "#;
        assert_eq!(read("ALWAYS_NEW", text).expect("valid").always_new, list);
        assert_eq!(read("NEVER_NEW", text).expect("valid").never_new, list);
        assert_eq!(
            read("NEVER_NEW", "{}").expect("valid").never_new,
            Some(KeyList::default())
        );
        for text in ["false", "0", "No", "OFF"] {
            assert_eq!(read("KILL", text), Ok(none.clone()), "{text}");
        }
        for (text, reason) in [
            ("true", "CHANGEOVER_ORDER_LINES_KILL is set"),
            ("1", "CHANGEOVER_ORDER_LINES_KILL is set"),
            (" new is slow ", "new is slow"),
        ] {
            let kill = read("KILL", text).expect("valid").kill;
            assert_eq!(kill, Some(Kill::new(reason)), "{text}");
        }
    }

    #[test]
    fn a_bad_value_names_the_variable_and_the_remedy() {
        for (name, value) in [
            ("READ_NEW", ""),
            ("READ_NEW", "25%"),
            ("READ_NEW", "101"),
            ("READ_NEW", "-1"),
            ("SAMPLE", "NaN"),
            ("SAMPLE", "0.001"),
            ("KILL", ""),
            ("KILL", "  "),
            ("ALWAYS_NEW", ""),
            ("ALWAYS_NEW", "42"),
            ("ALWAYS_NEW", "{ keys = [42] }"),
            ("ALWAYS_NEW", "{ keys = [''] }"),
            ("NEVER_NEW", "{ key = ['42'] }"),
            ("NEVER_NEW", "{}\nother = {}"),
        ] {
            let error = read(name, value).expect_err(value).to_string();
            let variable = format!("CHANGEOVER_ORDER_LINES_{name}");
            assert!(error.contains(&variable), "{error}");
            assert!(
                error.contains("set it to") && error.contains("or unset it"),
                "{error}"
            );
        }
    }
}
