//! What is wrong with a flags file, without the keys that it lists: a status shows this to everybody, and the
//! keys are for those who know the token.

use std::error::Error;
use std::fmt;
use std::ops::Range;

/// Where a file is wrong, and why. It holds no line of the file and no text of a list, so nothing that is made
/// of it can show one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    place: Option<Place>,
    why: String,
}

/// A place in a file, as an editor counts: from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
    setting: Option<String>,
}

/// What a line may set. Only these names are said of a line: whatever else stands in one that is wrong may be
/// a key.
const SETTINGS: [&str; 19] = [
    "format",
    "entity",
    "always_new",
    "always_new.keys",
    "always_new.routed_by",
    "never_new",
    "never_new.keys",
    "never_new.routed_by",
    "keys",
    "routed_by",
    "read_new",
    "sample",
    "kill",
    "learnt",
    "epoch",
    "stage",
    "revision",
    "base",
    "ready",
];

const LISTS: [&str; 2] = ["always_new", "never_new"];

impl Mistake {
    /// What `error` says of `text`, which it was made of.
    pub(super) fn of(error: &toml::de::Error, text: &str) -> Mistake {
        // What the file does not have is said to be before it.
        let span = error.span().filter(|span| *span != (0..0));
        Mistake {
            place: span.and_then(|span| Place::of(span, text)),
            why: without_values(error.message()),
        }
    }
}

impl Place {
    fn of(span: Range<usize>, text: &str) -> Option<Place> {
        let before = text.get(..span.start)?;
        let begin = before.rfind('\n').map_or(0, |end| end + 1);
        let line = text.get(begin..)?.lines().next().unwrap_or_default();
        // A list as a whole is placed where it is named first: which line of it is wrong is not known.
        let list = text.get(span).filter(|named| LISTS.contains(named));
        Some(Place {
            line: before.matches('\n').count() + 1,
            column: before.get(begin..)?.chars().count() + 1,
            setting: list.or_else(|| setting(line)).map(str::to_owned),
        })
    }
}

/// What a line sets, if that is anything that a file has.
fn setting(line: &str) -> Option<&str> {
    let name = line.split_once('=')?.0.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '"');
    let of_an_operation = name.starts_with("operations.") && name.chars().all(plain);
    (of_an_operation || SETTINGS.contains(&name)).then_some(name)
}

/// An error's message, of which serde and `toml` quote what they found: its kind stays, and what was expected.
fn without_values(message: &str) -> String {
    let Some((found, expected)) = message.rsplit_once(", expected ") else {
        return message.to_owned();
    };
    if found.starts_with("invalid type: ") || found.starts_with("invalid value: ") {
        let kind = found.split(['`', '"']).next().unwrap_or_default();
        return format!("{}, expected {expected}", kind.trim_end());
    }
    // Somebody may have typed a key where a list is to be named, or a line too high.
    if found.starts_with("unknown field ") {
        return format!("unknown field, expected {expected}");
    }
    message.to_owned()
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "line {}, column {}", place.line, place.column)?;
            if let Some(setting) = &place.setting {
                write!(f, ", {setting}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.why)
    }
}

impl Error for Mistake {}
