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
//! 5. A name that begins as an entity's and is none of the five is refused: a flag that somebody
//!    misspelt would fix nothing, and say nothing. But for three kinds:
//!    - What ends as one of the five is taken for an entity of a longer name (`CHANGEOVER_LISTINGS_OLD_KILL` for
//!      `listings_old`). Nobody here knows whether there is one, so the log says so, as a warning.
//!    - What Kubernetes sets for a service whose name begins like that (`changeover-listings`,
//!      `changeover-listings-api`) is nobody's: `…_SERVICE_HOST`, `…_SERVICE_PORT`, `…_SERVICE_PORT_HTTP`, `…_PORT`,
//!      `…_PORT_80_TCP`, `…_PORT_80_TCP_ADDR`.
//!    - So is what ends as `url_from`'s variables mostly do (`…_URL`).
//! 6. A percentage stands above those of single operations, too: they do not count while it is set.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use thiserror::Error;

use crate::{Entity, Exceptions, KeyList, Kill, Percent, Shares};

/// The flags of one entity that the environment fixes. The default fixes none.
///
/// ```
/// use changeover_flags::{Entity, Environment, Flags};
/// let listings = Entity::new("listings")?;
/// let environment = Environment::read_from(&listings, [("CHANGEOVER_LISTINGS_SAMPLE", "2.5")])?;
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
    const ALL: [Fixable; 5] = [
        Fixable::ReadNew,
        Fixable::Sample,
        Fixable::Kill,
        Fixable::AlwaysNew,
        Fixable::NeverNew,
    ];

    /// The name of its variable.
    #[must_use]
    pub fn variable(self, entity: &Entity) -> String {
        prefix(entity) + self.suffix()
    }

    const fn suffix(self) -> &'static str {
        match self {
            Fixable::ReadNew => "READ_NEW",
            Fixable::Sample => "SAMPLE",
            Fixable::Kill => "KILL",
            Fixable::AlwaysNew => "ALWAYS_NEW",
            Fixable::NeverNew => "NEVER_NEW",
        }
    }
}

/// How the names of an entity's variables begin.
fn prefix(entity: &Entity) -> String {
    format!("CHANGEOVER_{}_", entity.as_str().to_ascii_uppercase())
}

/// A variable that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the environment variable {variable} {problem}, or unset it")]
pub struct BadVariable {
    variable: String,
    problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
enum Problem {
    #[error("is {found:?}: set it to {expected}")]
    Value {
        found: OsString,
        expected: &'static str,
    },
    /// Without what it is: keys are of no use to who reads a log.
    #[error("is no list of keys: set it to {LIST}")]
    List,
    #[error("fixes no flag of {entity}: {nearest} does, if that is meant")]
    Unknown { entity: Entity, nearest: String },
}

impl Environment {
    /// What the environment of this process fixes of `entity`.
    ///
    /// # Errors
    ///
    /// [`BadVariable`] names the variable, and what it may be, or the nearest name that there is.
    pub fn read(entity: &Entity) -> Result<Environment, BadVariable> {
        Environment::read_from(entity, std::env::vars_os())
    }

    /// The same from `variables`, names and values. Of two with one name the last counts.
    ///
    /// # Errors
    ///
    /// As [`read`](Environment::read).
    pub fn read_from<N, V>(
        entity: &Entity,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Environment, BadVariable>
    where
        N: AsRef<OsStr>,
        V: Into<OsString>,
    {
        let mut set = BTreeMap::new();
        for (name, value) in variables {
            // What is not UTF-8 begins as no entity does, or goes on as no flag.
            let name = name.as_ref().to_string_lossy().into_owned();
            if let Some(rest) = name.strip_prefix(&prefix(entity)) {
                if let Some((longer, meant)) = known(entity, &name, rest)? {
                    tracing::warn!(%entity, variable = name, "a variable is taken for one of the entity {longer}: if that is none of yours, it fixes nothing; then unset it, or call it {meant}");
                }
                set.insert(name, value.into());
            }
        }
        let found = |flag: Fixable| {
            let variable = flag.variable(entity);
            let found = set.get(&variable).cloned();
            found.map(|found| Variable { variable, found })
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

/// Refuses what begins as `entity`'s variables do and belongs to nobody; `rest` is what follows. Of what may
/// belong to an entity of a longer name: that name, and the variable of `entity` that ends so.
fn known(entity: &Entity, name: &str, rest: &str) -> Result<Option<(String, String)>, BadVariable> {
    // What the tests of this product are told begins as the variables of some entities would.
    const OTHERS: [&str; 5] = [
        "CHANGEOVER_KILL_ORDERS",
        "CHANGEOVER_MARIADB_BIN",
        "CHANGEOVER_PG_BIN",
        "CHANGEOVER_SERVERS_IN",
        "CHANGEOVER_SIGNAL_CHILD",
    ];
    if OTHERS.contains(&name) || rest.ends_with("URL") || of_a_service(rest) {
        return Ok(None);
    }
    for flag in Fixable::ALL {
        match rest.strip_suffix(flag.suffix()) {
            Some("") => return Ok(None),
            Some(more) if more.ends_with('_') => {
                let longer = format!("{entity}_{}", more.trim_end_matches('_'));
                return Ok(Some((longer.to_ascii_lowercase(), flag.variable(entity))));
            }
            _ => {}
        }
    }
    let away = |flag: Fixable| distance(&rest.to_ascii_uppercase(), flag.suffix());
    let least = Fixable::ALL.into_iter().map(away).min();
    let nearest = Fixable::ALL
        .into_iter()
        .filter(|flag| Some(away(*flag)) == least)
        .map(|flag| flag.variable(entity));
    Err(BadVariable {
        variable: name.to_owned(),
        problem: Problem::Unknown {
            entity: entity.clone(),
            nearest: nearest.collect::<Vec<_>>().join(" or "),
        },
    })
}

/// Whether Kubernetes names variables of a service so, whose own name may go on in `rest`.
fn of_a_service(rest: &str) -> bool {
    let behind = rest.match_indices('_').map(|(at, mark)| at + mark.len());
    let ends = std::iter::once(0).chain(behind);
    ends.filter_map(|at| rest.get(at..)).any(|end| {
        let port = end.strip_prefix("PORT_").unwrap_or_default();
        matches!(end, "SERVICE_HOST" | "SERVICE_PORT" | "PORT")
            || end.starts_with("SERVICE_PORT_")
            || port.starts_with(|first: char| first.is_ascii_digit())
    })
}

/// How many letters have to be added, left out or changed.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (n, letter) in one.bytes().enumerate() {
        let mut before = std::iter::once(n + 1).collect::<Vec<_>>();
        for (m, counterpart) in other.bytes().enumerate() {
            let changed = row[m] + usize::from(letter != counterpart);
            before.push(changed.min(row[m + 1] + 1).min(before[m] + 1));
        }
        row = before;
    }
    row[other.len()]
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
        list.ok_or(BadVariable {
            variable: self.variable,
            problem: Problem::List,
        })
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
            problem: Problem::Value {
                found: self.found,
                expected,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<Environment, BadVariable> {
        let entity = Entity::new("order_lines").expect("valid");
        Environment::read_from(&entity, [(format!("CHANGEOVER_ORDER_LINES_{name}"), value)])
    }

    #[test]
    fn each_variable_fixes_its_flag() {
        let percent = |percent| Percent::new(percent).ok();
        let none = Environment::default();
        assert_eq!(read("OLD_KILL", "1"), Ok(none.clone()));
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
            ("ALWAYS_NEW", "{ keys = ['42', canary'] }"),
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
            let debugged = format!("{:?}", read(name, value));
            assert!(!(error + &debugged).contains("canary"), "{name}");
        }
    }

    #[test]
    fn a_misspelt_name_is_refused_with_the_nearest_one() {
        for (name, nearest) in [
            ("READNEW", "CHANGEOVER_ORDER_LINES_READ_NEW does"),
            ("read_new", "CHANGEOVER_ORDER_LINES_READ_NEW does"),
            ("SAMPLES", "CHANGEOVER_ORDER_LINES_SAMPLE does"),
            ("KILLED", "CHANGEOVER_ORDER_LINES_KILL does"),
            ("ALWAYSNEW", "CHANGEOVER_ORDER_LINES_ALWAYS_NEW does"),
            ("EVER_NEW", "CHANGEOVER_ORDER_LINES_NEVER_NEW does"),
            ("UNKILL", "CHANGEOVER_ORDER_LINES_KILL does"),
            // Nearly a service's.
            ("READ_NEW_SERVICE", "CHANGEOVER_ORDER_LINES_READ_NEW does"),
            ("KILL_PORTS", "CHANGEOVER_ORDER_LINES_KILL does"),
            ("KILL_PORT_ON", "CHANGEOVER_ORDER_LINES_KILL does"),
            ("", "CHANGEOVER_ORDER_LINES_KILL does"),
        ] {
            let error = read(name, "25").expect_err(name).to_string();
            let variable = format!("CHANGEOVER_ORDER_LINES_{name} fixes no flag of order_lines");
            assert!(
                error.contains(&variable) && error.contains(nearest),
                "{error}"
            );
        }
    }

    #[test]
    fn what_belongs_to_others_is_none_of_an_entitys_business() {
        for (entity, name) in [
            // Of order_lines, order_lines_old and orders.
            ("order", "CHANGEOVER_ORDER_LINES_READ_NEW"),
            ("order_lines", "CHANGEOVER_ORDER_LINES_OLD_ALWAYS_NEW"),
            ("order", "CHANGEOVER_ORDERS_READNEW"),
            ("order", "CHANGEOVER_SEED"),
            ("order", "OTHER_CHANGEOVER_ORDER_READNEW"),
            // Kubernetes' and the tests' own.
            ("order", "CHANGEOVER_ORDER_SERVICE_PORT_HTTP"),
            ("order", "CHANGEOVER_ORDER_PORT"),
            ("order", "CHANGEOVER_ORDER_LEGACY_URL"),
            ("order", "CHANGEOVER_ORDER_PORT_80_TCP_ADDR"),
            // Of changeover-order-api, and of changeover-order-service.
            ("order", "CHANGEOVER_ORDER_API_SERVICE_HOST"),
            ("order", "CHANGEOVER_ORDER_API_SERVICE_PORT"),
            ("order", "CHANGEOVER_ORDER_API_SERVICE_PORT_HTTP"),
            ("order", "CHANGEOVER_ORDER_API_PORT"),
            ("order", "CHANGEOVER_ORDER_API_PORT_8080_TCP"),
            ("order", "CHANGEOVER_ORDER_API_PORT_8080_TCP_ADDR"),
            ("order", "CHANGEOVER_ORDER_API_PORT_8080_TCP_PORT"),
            ("order", "CHANGEOVER_ORDER_API_PORT_8080_TCP_PROTO"),
            ("order", "CHANGEOVER_ORDER_SERVICE_SERVICE_HOST"),
            ("order", "CHANGEOVER_ORDER_SERVICE_PORT_80_TCP"),
            ("pg", "CHANGEOVER_PG_BIN"),
        ] {
            let entity = Entity::new(entity).expect("valid");
            let read = Environment::read_from(&entity, [(name, "1")]);
            assert_eq!(read, Ok(Environment::default()), "{name}");
        }
    }

    /// It may be a flag that somebody misspelt, so the log says whose it is taken for.
    #[test]
    fn what_ends_as_a_flag_is_taken_for_an_entity_of_a_longer_name() {
        let entity = Entity::new("listings").expect("valid");
        let taken = |rest| known(&entity, "CHANGEOVER_LISTINGS_…", rest);
        for (rest, longer, meant) in [
            ("READ_KILL", "listings_read", "CHANGEOVER_LISTINGS_KILL"),
            (
                "OLD_READ_NEW",
                "listings_old",
                "CHANGEOVER_LISTINGS_READ_NEW",
            ),
        ] {
            let expected = Some((longer.to_owned(), meant.to_owned()));
            assert_eq!(taken(rest), Ok(expected), "{rest}");
        }
        for rest in ["KILL", "READ_NEW", "API_PORT", "OLD_URL"] {
            assert_eq!(taken(rest), Ok(None), "{rest}");
        }
    }
}
