//! [`Redaction`]: what of a difference may be shown, which by default is nothing.

use std::fmt::{self, Write as _};
use std::hash::Hasher as _;
use std::iter::once;
use std::sync::OnceLock;

use serde::Serialize;
use siphasher::sip::SipHasher24;

use crate::path::Pattern;
use crate::{BadRule, FieldDiff, Value, Verdict};

/// Turns a [`FieldDiff`] into [`Evidence`] that may be logged, stored and served.
///
/// 1. By default a value is shown as its kind, its length (bytes of text and bytes, entries of lists
///    and records) and a keyed hash: `text(5) #1f0c…`. Equal values have equal hashes, so one can see
///    that the sides hold the same text in two fields, or that one default value is everywhere.
/// 2. The key of the hash is random and lives as long as the process: hashes of two processes cannot be
///    compared, and a list of guessed values cannot be tried against stored evidence.
/// 3. [`show`](Redaction::show) names the fields whose contents may be seen, with all that they hold.
///    They are shortened to [`Redaction::MAX_SHOWN`] bytes.
/// 4. Keys are redacted in the same way, until [`show_keys`](Redaction::show_keys).
/// 5. Null, absence and the *names* of fields are always shown. Observe a map whose names are personal
///    (addresses by e-mail, say) as a list instead.
///
/// ```
/// use changeover_shadow::{Redaction, Rules, Value, diff};
/// let legacy = Value::record([("state", "ACTIVE"), ("email", "ann@example.org")]);
/// let new = Value::record([("state", "active"), ("email", "bob@example.org")]);
/// let redaction = Redaction::new().show("state");
/// redaction.check()?;
/// let found = diff(&legacy, &new, &Rules::new());
/// let evidence: Vec<_> = found.iter().map(|field| redaction.field(field)).collect();
/// assert!(evidence[0].legacy.starts_with("text(15) #"));
/// assert_eq!(evidence[1].to_string(), r#"state: legacy "ACTIVE", new "active""#);
/// # Ok::<(), changeover_shadow::BadRule>(())
/// ```
#[derive(Clone)]
pub struct Redaction {
    shown: Vec<Pattern>,
    keys: bool,
    bad: Option<BadRule>,
    key: (u64, u64),
}

/// One difference as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The key of the row that differs, as far as it is known and may be shown; at most
    /// [`Redaction::MAX_SHOWN`] bytes.
    pub key: Option<String>,
    /// Where the field is, as in [`FieldDiff::path`]; at most [`Redaction::MAX_SHOWN`] bytes.
    pub path: String,
    /// What legacy has, as far as it may be shown.
    pub legacy: String,
    /// What new has, as far as it may be shown.
    pub new: String,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() {
            "(whole)"
        } else {
            &self.path
        };
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        write!(f, "{path}: legacy {}, new {}", self.legacy, self.new)
    }
}

impl Redaction {
    /// The longest text of a path or of a shown value, in bytes, before the `…` that marks a cut.
    pub const MAX_SHOWN: usize = 256;

    /// Shows nothing.
    #[must_use]
    pub fn new() -> Redaction {
        static KEY: OnceLock<(u64, u64)> = OnceLock::new();
        Redaction {
            shown: Vec::new(),
            keys: false,
            bad: None,
            key: *KEY.get_or_init(rand::random),
        }
    }

    /// Shows the contents of the field at `path`, with all that it holds. Paths are written as in
    /// [`Rules`](crate::Rules), by new names.
    #[must_use]
    pub fn show(mut self, path: &str) -> Redaction {
        match Pattern::parse(path) {
            Ok(pattern) => self.shown.push(pattern),
            Err(bad) => {
                self.bad.get_or_insert(bad);
            }
        }
        self
    }

    /// Shows keys. Without, one sees that two pieces of evidence are of one row, not which row it is.
    #[must_use]
    pub fn show_keys(mut self) -> Redaction {
        self.keys = true;
        self
    }

    /// Says what is wrong with the first path that cannot be used; such a path shows nothing.
    ///
    /// # Errors
    ///
    /// [`BadRule`], naming the path and the remedy.
    pub fn check(&self) -> Result<(), BadRule> {
        self.bad.clone().map_or(Ok(()), Err)
    }

    /// What may be shown of a verdict, piece by piece; nothing unless it is confirmed. `key` is the
    /// key of what was read; the elements of a list bring their own.
    pub fn evidence<'a>(
        &'a self,
        verdict: &'a Verdict,
        key: Option<&'a str>,
    ) -> Box<dyn Iterator<Item = Evidence> + 'a> {
        let of = |key: Option<&str>, evidence| Evidence {
            key: key.map(|key| self.key(key)),
            ..evidence
        };
        let missing = move |key: &'a String| of(Some(key), alone("found", "absent"));
        let extra = move |key: &'a String| of(Some(key), alone("absent", "found"));
        match verdict {
            Verdict::MissingInNew => Box::new(once(of(key, alone("found", "absent")))),
            Verdict::ExtraInNew => Box::new(once(of(key, alone("absent", "found")))),
            Verdict::ErrorsDiffer { legacy, new } => {
                let text = |class: &Option<&str>| match class {
                    Some(class) => format!("error {class}"),
                    None => "answered".to_owned(),
                };
                Box::new(once(of(key, alone(&text(legacy), &text(new)))))
            }
            Verdict::Elements(found) => {
                let fields = found.different.iter().flat_map(move |(key, fields)| {
                    fields
                        .iter()
                        .map(move |field| of(Some(key), self.field(field)))
                });
                let missing = found.missing_in_new.iter().map(missing);
                Box::new(
                    fields
                        .chain(missing)
                        .chain(found.extra_in_new.iter().map(extra)),
                )
            }
            _ => Box::new(
                verdict
                    .fields()
                    .iter()
                    .map(move |field| of(key, self.field(field))),
            ),
        }
    }

    fn key(&self, key: &str) -> String {
        match self.keys {
            true => shortened(key.to_owned()),
            false => self.outline(&Value::from(key)),
        }
    }

    /// What may be shown of one difference.
    #[must_use]
    pub fn field(&self, field: &FieldDiff) -> Evidence {
        let path = Pattern::parse(&field.path);
        let shown = path.is_ok_and(|path| self.shown.iter().any(|shown| shown.covers(&path)));
        let text = |value: &Option<Value>| match value {
            None => "absent".to_owned(),
            Some(value) if shown => contents(value),
            Some(value) => self.outline(value),
        };
        let (legacy, new) = (text(&field.legacy), text(&field.new));
        Evidence {
            key: None,
            path: shortened(field.path.clone()),
            legacy,
            new,
        }
    }

    /// Kind, length and hash.
    fn outline(&self, value: &Value) -> String {
        let length = match value {
            Value::Null => return "null".to_owned(),
            // The length of a number would tell its magnitude.
            Value::Boolean(_) | Value::Integer(_) | Value::Float(_) | Value::Decimal(_) => None,
            Value::Text(text) => Some(text.len()),
            Value::Bytes(bytes) => Some(bytes.len()),
            Value::List(items) => Some(items.len()),
            Value::Record(fields) => Some(fields.len()),
        };
        let length = length
            .map(|length| format!("({length})"))
            .unwrap_or_default();
        format!("{}{length} #{:016x}", value.kind(), self.hash(value))
    }

    /// A keyed hash of an encoding in which different values differ. Not recursive: a `FieldDiff` may be
    /// made by hand, of any depth.
    fn hash(&self, value: &Value) -> u64 {
        enum Piece<'a> {
            Name(&'a str),
            Value(&'a Value),
        }
        let mut hasher = SipHasher24::new_with_keys(self.key.0, self.key.1);
        let mut pieces = vec![Piece::Value(value)];
        while let Some(piece) = pieces.pop() {
            let value = match piece {
                Piece::Name(name) => {
                    write_counted(&mut hasher, name.as_bytes());
                    continue;
                }
                Piece::Value(value) => value,
            };
            write_counted(&mut hasher, value.kind().as_bytes());
            match value {
                Value::Null => {}
                Value::Boolean(truth) => hasher.write(&[u8::from(*truth)]),
                Value::Integer(number) => hasher.write(&number.to_le_bytes()),
                Value::Float(number) => hasher.write(&number.to_bits().to_le_bytes()),
                Value::Decimal(text) | Value::Text(text) => {
                    write_counted(&mut hasher, text.as_bytes());
                }
                Value::Bytes(bytes) => write_counted(&mut hasher, bytes),
                Value::List(items) => {
                    write_count(&mut hasher, items.len());
                    pieces.extend(items.iter().map(Piece::Value));
                }
                Value::Record(fields) => {
                    write_count(&mut hasher, fields.len());
                    for (name, field) in fields.iter() {
                        pieces.extend([Piece::Value(field), Piece::Name(name)]);
                    }
                }
            }
        }
        hasher.finish()
    }
}

impl Default for Redaction {
    fn default() -> Redaction {
        Redaction::new()
    }
}

/// Without the key.
impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redaction")
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}

/// A row that one side has alone.
fn alone(legacy: &str, new: &str) -> Evidence {
    Evidence {
        key: None,
        path: String::new(),
        legacy: legacy.to_owned(),
        new: new.to_owned(),
    }
}

fn write_count(hasher: &mut SipHasher24, count: usize) {
    // Wide enough for every platform's usize.
    hasher.write(&(count as u64).to_le_bytes());
}

fn write_counted(hasher: &mut SipHasher24, bytes: &[u8]) {
    write_count(hasher, bytes.len());
    hasher.write(bytes);
}

/// The contents of a value that may be seen, on one line.
fn contents(value: &Value) -> String {
    let mut text = String::new();
    push_contents(&mut text, value);
    shortened(text)
}

/// Stops once the text is long enough to be cut. Each level adds a byte before it goes deeper, so this
/// recurses no deeper than the text is long.
fn push_contents(text: &mut String, value: &Value) {
    match value {
        _ if text.len() > Redaction::MAX_SHOWN => {}
        Value::Null => text.push_str("null"),
        Value::Boolean(truth) => push(text, format_args!("{truth}")),
        Value::Integer(number) => push(text, format_args!("{number}")),
        Value::Float(number) => push(text, format_args!("{number:?}")),
        Value::Decimal(number) => text.extend(number.chars().take(Redaction::MAX_SHOWN + 1)),
        Value::Text(inner) => push_quoted(text, inner),
        Value::Bytes(bytes) => {
            text.push_str("0x");
            for byte in bytes.iter().take(Redaction::MAX_SHOWN) {
                push(text, format_args!("{byte:02x}"));
            }
        }
        Value::List(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate().take(Redaction::MAX_SHOWN) {
                text.push_str(if index > 0 { ", " } else { "" });
                push_contents(text, item);
            }
            text.push(']');
        }
        Value::Record(fields) => {
            text.push('{');
            for (index, (name, field)) in fields.iter().enumerate().take(Redaction::MAX_SHOWN) {
                text.push_str(if index > 0 { ", " } else { "" });
                push_quoted(text, name);
                text.push_str(": ");
                push_contents(text, field);
            }
            text.push('}');
        }
    }
}

/// Quoted with escapes, so that contents cannot forge a line of a log.
fn push_quoted(text: &mut String, inner: &str) {
    text.push('"');
    for c in inner.chars().take(Redaction::MAX_SHOWN + 1) {
        text.extend(c.escape_debug());
    }
    text.push('"');
}

fn push(text: &mut String, piece: fmt::Arguments<'_>) {
    text.write_fmt(piece)
        .expect("writing to a String cannot fail");
}

fn shortened(mut text: String) -> String {
    if text.len() > Redaction::MAX_SHOWN {
        text.truncate(text.floor_char_boundary(Redaction::MAX_SHOWN));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::mem::ManuallyDrop;

    use super::*;
    use crate::{Answer, Judgement, Look, Rules, Verdict, diff, judge};

    const CANARY: &str = "CANARY";

    /// A field of each kind that can carry a canary, at each depth.
    fn planted(salt: i64) -> Value {
        let text = format!("{CANARY}{salt}");
        Value::record([
            ("text", Value::from(text.as_str())),
            ("decimal", Value::Decimal(format!("7777777{salt}"))),
            ("integer", Value::from(7_777_777_000 + salt)),
            ("bytes", Value::Bytes(text.clone().into_bytes())),
            ("list", Value::list([text.as_str(), "x"])),
            (
                "record",
                Value::record([("inner", Value::record([("deep", text.as_str())]))]),
            ),
        ])
    }

    fn leaks(text: &str) -> bool {
        let bytes = format!("{:?}", CANARY.as_bytes());
        let hex = "43414e415259";
        let bytes = bytes.trim_matches(['[', ']']);
        [CANARY, "7777777", bytes, hex]
            .iter()
            .any(|canary| text.contains(canary))
    }

    #[test]
    fn no_value_is_seen_by_default() {
        let (legacy, new) = (planted(1), planted(2));
        let whole = diff(&legacy, &Value::Null, &Rules::new());
        let fields = diff(&legacy, &new, &Rules::new());
        let absent = diff(&legacy, &Value::record([("x", 1)]), &Rules::new());
        assert_eq!((whole.len(), fields.len(), absent.len()), (1, 6, 7));
        for field in whole.iter().chain(&fields).chain(&absent) {
            let evidence = Redaction::default().field(field);
            let json = serde_json::to_string(&evidence).expect("evidence is plain text");
            for text in [
                format!("{evidence:?}"),
                format!("{evidence:#?}"),
                evidence.to_string(),
                json,
            ] {
                assert!(!leaks(&text), "{text}");
            }
            assert!(!leaks(&format!("{field:?}{field:#?}")));
        }
        let look = Look {
            legacy: Answer::Found(legacy),
            new: Answer::Found(new),
            versions: None,
        };
        let judgement = judge(&look, Some(&look), &Rules::new());
        assert!(matches!(judgement, Judgement::Final(Verdict::Mismatch(_))));
        assert!(!leaks(&format!(
            "{judgement:?}{judgement:#?}{look:?}{look:#?}"
        )));
    }

    #[test]
    fn the_canaries_are_seen_when_they_may_be() {
        let fields = diff(&planted(1), &planted(2), &Rules::new());
        let redaction = Redaction::new().show("*");
        for field in &fields {
            let text = redaction.field(field).to_string();
            assert!(leaks(&text), "a blind test proves nothing: {text}");
        }
    }

    #[test]
    fn a_key_is_seen_only_where_keys_are_shown() {
        let found = crate::SetDiff {
            missing_in_new: vec![format!("{CANARY}1")],
            extra_in_new: vec![format!("{CANARY}2")],
            different: vec![(
                CANARY.to_owned(),
                diff(&planted(1), &planted(2), &Rules::new()),
            )],
        };
        for (verdict, pieces) in [
            (Verdict::Elements(found), 8),
            (Verdict::MissingInNew, 1),
            (
                Verdict::Mismatch(diff(&1.into(), &2.into(), &Rules::new())),
                1,
            ),
            (Verdict::Lagging, 0),
        ] {
            for shown in [false, true] {
                let redaction = match shown {
                    true => Redaction::new().show_keys(),
                    false => Redaction::new(),
                };
                let evidence: Vec<_> = redaction.evidence(&verdict, Some(CANARY)).collect();
                assert_eq!(evidence.len(), pieces, "{verdict:?}");
                for piece in evidence {
                    assert_eq!(leaks(&piece.to_string()), shown, "{piece:?}");
                    assert_eq!(leaks(&format!("{piece:?}")), shown, "{piece:?}");
                }
            }
        }
    }

    #[test]
    fn a_shown_field_does_not_show_the_one_that_holds_it() {
        let field = |path: &str| FieldDiff {
            path: path.to_owned(),
            legacy: Some(CANARY.into()),
            new: None,
        };
        let redaction = Redaction::new().show("a.*.b");
        for (path, shown) in [
            ("a.0.b", true),
            ("a.0.b.c", true),
            ("a.0", false),
            ("a", false),
            ("", false),
        ] {
            assert_eq!(
                leaks(&redaction.field(&field(path)).legacy),
                shown,
                "{path:?}"
            );
        }
        assert_eq!(redaction.field(&field("a")).new, "absent");
        assert_eq!(
            Redaction::new()
                .show("a..b")
                .show("")
                .check()
                .map_err(|bad| bad.to_string().len() > 10),
            Err(true)
        );
    }

    #[test]
    fn hashes_tell_values_apart_and_depend_on_the_key() {
        let mine = Redaction::new();
        let values = [
            Value::from("1"),
            Value::from(1),
            Value::Decimal("1".to_owned()),
            Value::list(["a", "b"]),
            Value::list(["b", "a"]),
            Value::list(["ab"]),
            Value::list([Value::list(["a"]), Value::from("b")]),
            Value::list([Value::from("a"), Value::list(["b"])]),
            Value::list([Value::list(["a", "b"])]),
            Value::list(["textb", "a"]),
            Value::list(["b", "atext"]),
            Value::record([("a", "b")]),
            Value::Bytes(b"1".to_vec()),
        ];
        for (index, one) in values.iter().enumerate() {
            for (other_index, other) in values.iter().enumerate() {
                assert_eq!(mine.hash(one) == mine.hash(other), index == other_index);
            }
        }
        let same_process = Redaction::default();
        assert_eq!(mine.outline(&values[0]), same_process.outline(&values[0]));
        let other_process = Redaction {
            key: (mine.key.0 ^ 1, mine.key.1),
            ..Redaction::new()
        };
        assert_ne!(mine.outline(&values[0]), other_process.outline(&values[0]));
        assert!(!format!("{mine:?}").contains(&mine.key.0.to_string()));
    }

    #[test]
    fn what_is_shown_is_bounded_and_stays_on_its_line() {
        let bottomless = (0..1_000_000).fold(Value::from(1), |inner, _| Value::List(vec![inner]));
        // Dropping what is that deep would overflow the stack, in a failing test too.
        let field = ManuallyDrop::new(FieldDiff {
            path: "é".repeat(1_000),
            legacy: Some(bottomless),
            new: Some("line\nforged\u{202e}é".repeat(1_000).into()),
        });
        for redaction in [Redaction::new(), Redaction::new().show("*")] {
            let evidence = redaction.field(&field);
            for text in [&evidence.path, &evidence.legacy, &evidence.new] {
                assert!(text.len() <= Redaction::MAX_SHOWN + '…'.len_utf8());
                assert!(!text.contains('\n'));
            }
        }
    }
}
