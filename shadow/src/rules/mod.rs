//! What counts as equal although it is not the same: [`Rules`].
//!
//! Without a rule a field is equal if it is the same on both sides, kind and bits. A rule names
//! fields by a path and adds to that; the names are the same in code and in TOML.
//!
//! | rule | speaks of | equal as well is |
//! | --- | --- | --- |
//! | `rename` | fields of records | nothing; the legacy field is compared with the new one of another name or place |
//! | `ignore` | anything, with all that it holds | everything |
//! | `null_is_absent` | null | a field that one side lacks |
//! | `fold_case` | texts | what differs in case: each character in upper, then in lower case by Unicode's tables, in no language (`ß` is `ss`, `ı` is `i`); nothing is normalised (`é` in one character or two) |
//! | `fold_space` | texts | what differs in white space at the ends, and in how much and which stands between words; with `fold_case`, in both |
//! | `tolerate`, `absolute` | integers, floats, decimals | a number that is at most so far away |
//! | `tolerate`, `relative` | the same | one that is at most this share of the larger one away |
//! | `tolerate`, `time` | texts that are instants | one that is at most so long before or after |
//! | `unordered` | lists | a list of the same items in another order, as often |
//! | `allow` | scalars | this new value for this legacy value, kinds included |
//! | `equal_if` | anything, absent fields too | what the application's closure says; in code alone |
//!
//! Several rules may name one field: it is equal if any of them says so.
//!
//! **Numbers.** Under `tolerate` the kinds of number are compared by what they mean, digit by digit and
//! without rounding: a float is the shortest decimal that reads back as it (what JSON prints), so `0.1`,
//! the decimal `0.10` and `1e-1` are one number and `0.1 + 0.2` is not `0.3`. `-0.0` is `0`. `NaN` is near
//! `NaN` of any bits, and an infinity near itself, as float or as decimal text; neither is near anything
//! else. A number of more than 2,000 digits is equal to the same alone, and a text is no number. *Without*
//! `tolerate`, kinds and bits count: `-0.0` differs from `0.0`, `1` from `1.0`, and a `NaN` is equal to
//! the `NaN` of its bits.
//!
//! **Instants.** `2026-03-01T10:00:00.25Z`, `2026-03-01 10:00:00+02` (a date, `T` or a space, hours and
//! minutes, seconds with up to nine digits after the point, an offset), and a date alone, which is its
//! midnight. Without an offset it is UTC. Numbers are no instants: nobody says in what unit.
//!
//! **Unordered lists.** What is the same is paired first, then as many of the rest as can be at once, each
//! pair equal under the rules of its items (up to [`MAX_PAIRS`] pairs tried in one comparison; beyond,
//! the rest counts as different). If one item is left over on either side, the two are taken for each
//! other and compared by field; else each is reported as missing on the other side. A pair's number
//! is the lower of its two.
//!
//! **Symmetric.** Every rule but `rename`, `allow` and `equal_if`, which tell the sides apart.
//!
//! # Paths
//!
//! Names joined by `.`; `*` is any one name or list item, `**` any number of them, none included:
//! `lines.*.price`, `**.updated_at`. A name's own `.`, `*` or `\` is written with a `\` before it, the empty
//! name `\e`. Paths are by new names, those of `rename` apart. What has no name, an answer that is a
//! number, say, is named by `**` alone.
//!
//! # In TOML
//!
//! ```
//! use changeover_shadow::{Rules, Tolerance};
//! let rules: Rules = r#"
//!     ignore = ["**.updated_at"]
//!     null_is_absent = ["note"]
//!     fold_case = ["email"]
//!     fold_space = ["title"]
//!     unordered = ["tags"]
//!
//!     [rename]
//!     tenant_id = "provider_id"
//!
//!     [tolerate]
//!     "lines.*.price" = { absolute = 0.005 }
//!     weight = { relative = 0.001 }
//!     created_at = { time = "1ms" }
//!
//!     [allow]
//!     state = [["ACTIVE", "live"], ["GONE", { null = true }]]
//! "#.parse()?;
//! let same = Rules::new()
//!     .ignore("**.updated_at")
//!     .null_is_absent("note")
//!     .fold_case("email")
//!     .fold_space("title")
//!     .unordered("tags")
//!     .rename("tenant_id", "provider_id")
//!     .tolerate("lines.*.price", Tolerance::Absolute(0.005))
//!     .tolerate("weight", Tolerance::Relative(0.001))
//!     .tolerate("created_at", Tolerance::Time(std::time::Duration::from_millis(1)))
//!     .allow("state", "ACTIVE", "live")
//!     .allow("state", "GONE", ());
//! assert_eq!(rules.to_toml(), same.to_toml());
//! # Ok::<(), changeover_shadow::BadRule>(())
//! ```
//!
//! In `allow`, `{ null = true }` is null and `{ decimal = "1.50" }` a decimal; units of `time` are `ns`,
//! `us`, `ms`, `s`, `m`, `h`. An unknown name is an error.
//!
//! # What it does not promise
//!
//! A rule that is wider than it need be hides what it should show. Test rules with
//! a difference that they must not excuse.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::Value;
use crate::path::{Pattern, Segment};

mod bad;
mod instant;
mod number;
mod rename;
mod text;
mod tolerance;
mod toml;
mod unordered;

pub use bad::BadRule;
pub(crate) use rename::{Rename, cut, rename};
pub use tolerance::Tolerance;
pub(crate) use unordered::{Left, without_alike, without_same};

/// How many pairs of items of unordered lists one comparison tries, lists inside lists included.
pub const MAX_PAIRS: usize = 250_000;

/// The rules of one comparison. Without any, every field must be the same on both sides. The
/// [module page](self) says what each does.
///
/// A rule that cannot be used does nothing, so that its differences show, and [`check`](Rules::check)
/// says what is wrong with it. Check where rules are made.
///
/// ```
/// use changeover_shadow::{Rules, Value, diff};
/// let rules = Rules::new().rename("tenant_id", "provider_id").ignore("updated_at");
/// rules.check()?;
/// let legacy = Value::record([("tenant_id", 7), ("updated_at", 1)]);
/// let new = Value::record([("provider_id", 7), ("updated_at", 2)]);
/// assert!(diff(&legacy, &new, &rules).is_empty());
/// # Ok::<(), changeover_shadow::BadRule>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Deepest legacy path first: what moves out of a field that moves too has to leave before it.
    renames: Vec<Rename>,
    fields: Vec<(Pattern, Rule)>,
    bad: Option<BadRule>,
}

/// What is said of a field instead of asking for the same value on both sides.
#[derive(Debug, Clone)]
enum Rule {
    Ignore,
    NullIsAbsent,
    FoldCase,
    FoldSpace,
    Tolerate(Tolerance),
    Unordered,
    Allow(Value, Value),
    EqualIf(EqualIf),
}

/// The application's own rule.
#[derive(Clone)]
struct EqualIf(Arc<Asked>);

type Asked = dyn Fn(Option<&Value>, Option<&Value>) -> bool + Send + Sync;

impl fmt::Debug for EqualIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EqualIf")
    }
}

/// What the rules say of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// Equal, whatever it holds.
    Equal,
    /// Nothing.
    Nothing,
    /// If it is a list, its order does not matter.
    Unordered,
}

impl Rules {
    /// No rules: everything is compared as it is.
    #[must_use]
    pub fn new() -> Rules {
        Rules::default()
    }

    /// Leaves out the field at `path`, with all that it holds. A path that names no field, such as
    /// `**`, is refused.
    #[must_use]
    pub fn ignore(mut self, path: &str) -> Rules {
        match Pattern::parse(path) {
            Ok(pattern) if !pattern.names_a_field() => {
                self.reject(BadRule::IgnoresEverything {
                    path: path.to_owned(),
                });
            }
            _ => self.add(path, Rule::Ignore),
        }
        self
    }

    /// Compares the legacy field at `legacy_path` with the new field at `new_path`.
    ///
    /// Both paths end in a field's name, and have equally many `*`. Records that the new path needs
    /// are made, and a record whose last field moved away is gone with it. Where there is something
    /// else at the new path already, nothing is overwritten: the field is reported as missing on the
    /// new side, under its legacy path.
    #[must_use]
    pub fn rename(mut self, legacy_path: &str, new_path: &str) -> Rules {
        match self.checked_rename(legacy_path, new_path) {
            Ok(rename) => {
                let depth = rename.from.steps().len();
                let at = self
                    .renames
                    .partition_point(|other| other.from.steps().len() >= depth);
                self.renames.insert(at, rename);
            }
            Err(bad) => self.reject(bad),
        }
        self
    }

    /// Takes null for a field that is not there, and the other way round.
    #[must_use]
    pub fn null_is_absent(mut self, path: &str) -> Rules {
        self.add(path, Rule::NullIsAbsent);
        self
    }

    /// Does not tell upper case from lower case.
    #[must_use]
    pub fn fold_case(mut self, path: &str) -> Rules {
        self.add(path, Rule::FoldCase);
        self
    }

    /// Does not tell one white space from another, nor from more of it, nor looks at the ends.
    #[must_use]
    pub fn fold_space(mut self, path: &str) -> Rules {
        self.add(path, Rule::FoldSpace);
        self
    }

    /// Takes what is near enough for equal. Of two tolerances of one field, either is enough.
    #[must_use]
    pub fn tolerate(mut self, path: &str, tolerance: Tolerance) -> Rules {
        match tolerance.problem() {
            Some(problem) => self.reject(BadRule::Tolerance {
                path: path.to_owned(),
                problem,
            }),
            None => self.add(path, Rule::Tolerate(tolerance)),
        }
        self
    }

    /// Compares the list at `path` without its order; how often an item stands in it counts.
    #[must_use]
    pub fn unordered(mut self, path: &str) -> Rules {
        self.add(path, Rule::Unordered);
        self
    }

    /// Takes `new` for equal to `legacy`, in this direction. Both are scalars; `()` is null.
    #[must_use]
    pub fn allow(mut self, path: &str, legacy: impl Into<Value>, new: impl Into<Value>) -> Rules {
        let (legacy, new) = (legacy.into(), new.into());
        let inner = [&legacy, &new]
            .into_iter()
            .find(|value| matches!(value, Value::Bytes(_) | Value::List(_) | Value::Record(_)));
        match inner.map(Value::kind) {
            Some(kind) => self.reject(BadRule::NotAScalar {
                path: path.to_owned(),
                kind,
            }),
            None => self.add(path, Rule::Allow(legacy, new)),
        }
        self
    }

    /// Asks the application, for what is not the same anyway: `equal(legacy, new)`, of which `None` is
    /// an absent field. It must say the same each time it is asked, and not block; if it panics, the
    /// field is not equal.
    #[must_use]
    pub fn equal_if(
        mut self,
        path: &str,
        equal: impl Fn(Option<&Value>, Option<&Value>) -> bool + Send + Sync + 'static,
    ) -> Rules {
        self.add(path, Rule::EqualIf(EqualIf(Arc::new(equal))));
        self
    }

    /// Says what is wrong with the first rule that cannot be used.
    ///
    /// # Errors
    ///
    /// [`BadRule`], naming the path and the remedy.
    pub fn check(&self) -> Result<(), BadRule> {
        self.bad.clone().map_or(Ok(()), Err)
    }

    /// The paths that [`ignore`](Rules::ignore) leaves out.
    #[must_use]
    pub fn ignored(&self) -> Vec<String> {
        let rules = self.fields.iter();
        let ignored = rules.filter(|(_, rule)| matches!(rule, Rule::Ignore));
        ignored.map(|(pattern, _)| pattern.to_string()).collect()
    }

    pub(crate) fn renames(&self) -> &[Rename] {
        &self.renames
    }

    /// What to do with exactly the field at `path`, which holds these.
    pub(crate) fn say(
        &self,
        path: &[Segment<'_>],
        legacy: Option<&Value>,
        new: Option<&Value>,
    ) -> Said {
        let (mut case, mut space, mut said) = (false, false, Said::Nothing);
        for (_, rule) in self
            .fields
            .iter()
            .filter(|(pattern, _)| pattern.matches(path))
        {
            match rule {
                Rule::FoldCase => case = true,
                Rule::FoldSpace => space = true,
                Rule::Unordered => said = Said::Unordered,
                rule if rule.excuses(legacy, new) => return Said::Equal,
                _ => {}
            }
        }
        match (legacy, new) {
            (Some(Value::Text(legacy)), Some(Value::Text(new)))
                if (case || space)
                    && text::folded(legacy, case, space) == text::folded(new, case, space) =>
            {
                Said::Equal
            }
            _ => said,
        }
    }

    /// Whether the field at `path`, or one that holds it, is left out.
    pub(crate) fn ignores(&self, path: &[Segment<'_>]) -> bool {
        let mut rules = self.fields.iter();
        rules.any(|(pattern, rule)| matches!(rule, Rule::Ignore) && pattern.matches_start_of(path))
    }

    fn add(&mut self, path: &str, rule: Rule) {
        match Pattern::parse(path) {
            Ok(pattern) => self.fields.push((pattern, rule)),
            Err(bad) => self.reject(bad),
        }
    }

    fn checked_rename(&self, legacy_path: &str, new_path: &str) -> Result<Rename, BadRule> {
        let (from, to) = (Pattern::parse(legacy_path)?, Pattern::parse(new_path)?);
        for (pattern, path) in [(&from, legacy_path), (&to, new_path)] {
            if pattern.has_any_depth() {
                return Err(BadRule::AnyDepthInRename {
                    path: path.to_owned(),
                });
            }
            if pattern.ends_in_wildcard() {
                return Err(BadRule::WildcardAtEnd {
                    path: path.to_owned(),
                });
            }
        }
        if from.wildcards() != to.wildcards() {
            let (legacy_path, new_path) = (legacy_path.to_owned(), new_path.to_owned());
            return Err(BadRule::WildcardsDiffer {
                legacy_path,
                new_path,
            });
        }
        if from == to {
            return Err(BadRule::RenamedToItself {
                path: legacy_path.to_owned(),
            });
        }
        if self.renames.iter().any(|other| other.from == from) {
            return Err(BadRule::RenamedTwice {
                path: legacy_path.to_owned(),
            });
        }
        if self.renames.iter().any(|other| other.to == to) {
            return Err(BadRule::TargetTwice {
                path: new_path.to_owned(),
            });
        }
        Ok(Rename { from, to })
    }

    fn reject(&mut self, bad: BadRule) {
        self.bad.get_or_insert(bad);
    }
}

impl Rule {
    /// Whether the rule alone makes these equal.
    fn excuses(&self, legacy: Option<&Value>, new: Option<&Value>) -> bool {
        match (self, legacy, new) {
            (Rule::Ignore, _, _) => true,
            (Rule::NullIsAbsent, legacy, new) => {
                let nothing = |value: Option<&Value>| matches!(value, None | Some(Value::Null));
                nothing(legacy) && nothing(new)
            }
            (Rule::Tolerate(tolerance), Some(legacy), Some(new)) => tolerance.holds(legacy, new),
            (Rule::Allow(from, to), Some(legacy), Some(new)) => {
                same_scalar(from, legacy) && same_scalar(to, new)
            }
            (Rule::EqualIf(EqualIf(equal)), legacy, new) => {
                catch_unwind(AssertUnwindSafe(|| equal(legacy, new))).unwrap_or(false)
            }
            _ => false,
        }
    }
}

/// Whether two values that hold no others are the same. Two lists or records never are, here.
pub(crate) fn same_scalar(legacy: &Value, new: &Value) -> bool {
    match (legacy, new) {
        (Value::Null, Value::Null) => true,
        (Value::Boolean(legacy), Value::Boolean(new)) => legacy == new,
        (Value::Integer(legacy), Value::Integer(new)) => legacy == new,
        (Value::Float(legacy), Value::Float(new)) => legacy.to_bits() == new.to_bits(),
        (Value::Decimal(legacy), Value::Decimal(new)) => legacy == new,
        (Value::Text(legacy), Value::Text(new)) => legacy == new,
        (Value::Bytes(legacy), Value::Bytes(new)) => legacy == new,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
