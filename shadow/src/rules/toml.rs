//! Rules as TOML, by the names of the methods.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use toml::Value as Toml;

use super::{BadRule, Rule, Rules, Tolerance};
use crate::Value;

/// Units of a `time`, the longest first, in nanoseconds.
const UNITS: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ignore: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    null_is_absent: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fold_case: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fold_space: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unordered: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    rename: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tolerate: BTreeMap<String, Near>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    allow: BTreeMap<String, Vec<(Toml, Toml)>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Near {
    #[serde(skip_serializing_if = "Option::is_none")]
    absolute: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relative: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
}

impl FromStr for Rules {
    type Err = BadRule;

    /// Reads rules as the [module page](super) shows them.
    fn from_str(text: &str) -> Result<Rules, BadRule> {
        let file: File =
            ::toml::from_str(text).map_err(|error| problem(error.to_string().trim()))?;
        file.rules()
    }
}

/// As [`FromStr`] reads them, as a table of a larger file.
impl<'de> Deserialize<'de> for Rules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rules, D::Error> {
        let rules = File::deserialize(deserializer)?.rules();
        rules.map_err(D::Error::custom)
    }
}

impl File {
    fn rules(self) -> Result<Rules, BadRule> {
        let file = self;
        let each = |rules, paths: &[String], add: fn(Rules, &str) -> Rules| {
            paths.iter().fold(rules, |rules, path| add(rules, path))
        };
        let mut rules = each(Rules::new(), &file.ignore, Rules::ignore);
        rules = each(rules, &file.null_is_absent, Rules::null_is_absent);
        rules = each(rules, &file.fold_case, Rules::fold_case);
        rules = each(rules, &file.fold_space, Rules::fold_space);
        rules = each(rules, &file.unordered, Rules::unordered);
        for (legacy, new) in &file.rename {
            rules = rules.rename(legacy, new);
        }
        for (path, near) in &file.tolerate {
            for tolerance in near.tolerances(path)? {
                rules = rules.tolerate(path, tolerance);
            }
        }
        for (path, pairs) in &file.allow {
            for (legacy, new) in pairs {
                rules = rules.allow(path, scalar(path, legacy)?, scalar(path, new)?);
            }
        }
        rules.check().map(|()| rules)
    }
}

impl Rules {
    /// The rules as TOML that reads as them again; those of [`equal_if`](Rules::equal_if), which no text
    /// can say, as comments.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut file = File::default();
        let mut comments = String::new();
        for (pattern, rule) in &self.fields {
            let path = pattern.to_string();
            match rule {
                Rule::Ignore => file.ignore.push(path),
                Rule::NullIsAbsent => file.null_is_absent.push(path),
                Rule::FoldCase => file.fold_case.push(path),
                Rule::FoldSpace => file.fold_space.push(path),
                Rule::Unordered => file.unordered.push(path),
                Rule::Tolerate(tolerance) => {
                    file.tolerate.entry(path).or_default().widen(*tolerance);
                }
                Rule::Allow(legacy, new) => {
                    let pairs = file.allow.entry(path).or_default();
                    pairs.push((written(legacy), written(new)));
                }
                Rule::EqualIf(_) => comments.push_str(&format!("# equal_if {path:?}: a closure\n")),
            }
        }
        for rename in &self.renames {
            file.rename
                .insert(rename.from.to_string(), rename.to.to_string());
        }
        let text =
            ::toml::to_string(&file).expect("lists, texts and tables with text keys are TOML");
        comments + &text
    }
}

impl Near {
    fn tolerances(&self, path: &str) -> Result<Vec<Tolerance>, BadRule> {
        let mut all = Vec::new();
        all.extend(self.absolute.map(Tolerance::Absolute));
        all.extend(self.relative.map(Tolerance::Relative));
        if let Some(time) = &self.time {
            all.push(Tolerance::Time(duration(path, time)?));
        }
        match all.is_empty() {
            true => Err(problem(&format!(
                "tolerate.{path:?} says nothing: write `absolute`, `relative` or `time`"
            ))),
            false => Ok(all),
        }
    }

    /// Of two tolerances of one kind, either is enough: the wider one says both.
    fn widen(&mut self, tolerance: Tolerance) {
        let wider =
            |known: Option<f64>, more: f64| Some(known.map_or(more, |known| known.max(more)));
        match tolerance {
            Tolerance::Absolute(most) => self.absolute = wider(self.absolute, most),
            Tolerance::Relative(share) => self.relative = wider(self.relative, share),
            Tolerance::Time(most) => {
                let known = self.time.as_deref().and_then(parsed).unwrap_or_default();
                self.time = Some(spelled(known.max(most)));
            }
        }
    }
}

fn duration(path: &str, text: &str) -> Result<Duration, BadRule> {
    parsed(text).ok_or_else(|| {
        problem(&format!(
            "tolerate.{path:?}.time is {text:?}: write a whole number and a unit, such as \"250ms\" or \"2s\""
        ))
    })
}

fn parsed(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(end)?;
    let (_, nanoseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let nanoseconds = number.parse::<u128>().ok()?.checked_mul(*nanoseconds)?;
    let seconds = u64::try_from(nanoseconds / 1_000_000_000).ok()?;
    Some(Duration::new(
        seconds,
        u32::try_from(nanoseconds % 1_000_000_000).ok()?,
    ))
}

fn spelled(time: Duration) -> String {
    let nanoseconds = time.as_nanos();
    let (unit, length) = UNITS
        .into_iter()
        .find(|(_, length)| nanoseconds.is_multiple_of(*length))
        .unwrap_or(("ns", 1));
    format!("{}{unit}", nanoseconds / length)
}

fn scalar(path: &str, value: &Toml) -> Result<Value, BadRule> {
    let only = |table: &::toml::Table| match table.iter().next() {
        Some((name, Toml::Boolean(true))) if table.len() == 1 && name == "null" => {
            Some(Value::Null)
        }
        Some((name, Toml::String(text))) if table.len() == 1 && name == "decimal" => {
            Some(Value::Decimal(text.clone()))
        }
        _ => None,
    };
    let read = match value {
        Toml::String(text) => Some(Value::from(text.as_str())),
        Toml::Integer(number) => Some(Value::Integer(*number)),
        Toml::Float(number) => Some(Value::Float(*number)),
        Toml::Boolean(truth) => Some(Value::Boolean(*truth)),
        Toml::Table(table) => only(table),
        Toml::Datetime(_) | Toml::Array(_) => None,
    };
    read.ok_or_else(|| {
        problem(&format!(
            "allow.{path:?} holds what is no scalar: write a text, a number, true, false, \
             {{ decimal = \"1.50\" }} or {{ null = true }}"
        ))
    })
}

fn written(value: &Value) -> Toml {
    let tagged = |name: &str, value| Toml::Table([(name.to_owned(), value)].into_iter().collect());
    match value {
        Value::Boolean(truth) => Toml::Boolean(*truth),
        Value::Integer(number) => Toml::Integer(*number),
        Value::Float(number) => Toml::Float(*number),
        Value::Decimal(text) => tagged("decimal", Toml::String(text.clone())),
        Value::Text(text) => Toml::String(text.clone()),
        // `allow` takes scalars alone.
        Value::Null | Value::Bytes(_) | Value::List(_) | Value::Record(_) => {
            tagged("null", Toml::Boolean(true))
        }
    }
}

fn problem(problem: &str) -> BadRule {
    BadRule::Toml {
        problem: problem.to_owned(),
    }
}
