//! Reads Rust text as far as the tidy rules need: what is code, what is a literal, what is a test.

/// Rust text, taken apart.
pub struct Source {
    /// The text with the contents of comments and literals blanked. Lines keep their numbers.
    pub code: String,
    /// Every string literal: its line, counted from 1, and its contents, escapes as written.
    pub literals: Vec<(usize, String)>,
}

impl Source {
    /// Takes the text apart.
    pub fn read(text: &str) -> Self {
        let mut source = Self {
            code: String::with_capacity(text.len()),
            literals: Vec::new(),
        };
        let (mut rest, mut line) = (text, 1);
        while let Some(first) = rest.chars().next() {
            let piece = piece(rest, source.code.chars().last());
            let (taken, after) = rest.split_at(piece.length.max(first.len_utf8()));
            match piece.kind {
                Kind::Code => source.code.push_str(taken),
                Kind::Comment | Kind::Char => source.blank(taken),
                Kind::Text => {
                    source.blank(taken);
                    let inside = taken
                        .trim_start_matches(['b', 'c', 'r', '#'])
                        .trim_end_matches('#');
                    let inside = inside.strip_prefix('"').unwrap_or(inside);
                    let inside = inside.strip_suffix('"').unwrap_or(inside);
                    source.literals.push((line, inside.to_owned()));
                }
            }
            line += taken.matches('\n').count();
            rest = after;
        }
        source
    }

    fn blank(&mut self, text: &str) {
        self.code
            .extend(text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
    }
}

/// The text before its test module, which stands last in a file.
pub fn without_tests(text: &str) -> &str {
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| rest.find("#[cfg(test)]")) {
        let (start, end) = (from + found, from + found + "#[cfg(test)]".len());
        let after = text.get(end..).unwrap_or_default();
        let item = after
            .lines()
            .map(str::trim)
            .find(|l| !l.is_empty() && !l.starts_with("#["));
        if item.is_some_and(|item| item.starts_with("mod ")) {
            return text.get(..start).unwrap_or(text);
        }
        from = end;
    }
    text
}

/// Whether a literal is a statement rather than a sentence: by its first words.
pub fn is_sql(literal: &str) -> bool {
    let words: Vec<&str> = literal.split_whitespace().take(4).collect();
    let Some(first) = words.first() else {
        return false;
    };
    let verb = first.to_ascii_uppercase();
    if ![
        "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "LOCK",
    ]
    .contains(&verb.as_str())
    {
        return false;
    }
    let next: Vec<String> = words
        .iter()
        .skip(1)
        .map(|word| word.to_ascii_uppercase())
        .collect();
    let follows = |at: usize, expected: &[&str]| {
        next.get(at)
            .is_some_and(|word| expected.contains(&word.as_str()))
    };
    // In capitals the verb is enough; in small letters it needs the word that goes with it.
    *first == verb
        || match verb.as_str() {
            "INSERT" => follows(0, &["INTO", "OR"]),
            "DELETE" => follows(0, &["FROM"]),
            "UPDATE" => follows(1, &["SET"]),
            "CREATE" | "ALTER" | "DROP" | "LOCK" => {
                const KINDS: &[&str] = &["TABLE", "INDEX", "TRIGGER", "FUNCTION", "SCHEMA", "VIEW"];
                const WORDS: &[&str] = &["UNIQUE", "TEMP", "TEMPORARY", "CONSTRAINT"];
                follows(0, KINDS) || (follows(0, WORDS) && follows(1, KINDS))
            }
            _ => literal.to_ascii_uppercase().contains(" FROM "),
        }
}

enum Kind {
    Code,
    Comment,
    Char,
    Text,
}

struct Piece {
    kind: Kind,
    /// In bytes; 0 stands for one character.
    length: usize,
}

/// What the text begins with. `before` is the character in front of it, which tells the `r` of a
/// raw string from the last letter of a name.
fn piece(text: &str, before: Option<char>) -> Piece {
    let new = |kind, length| Piece { kind, length };
    if text.starts_with("//") {
        return new(Kind::Comment, text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return new(Kind::Comment, block_comment(text));
    }
    let in_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if let Some(length) = raw_string(text).filter(|_| !in_name) {
        return new(Kind::Text, length);
    }
    let prefix = usize::from(!in_name && text.starts_with(['b', 'c']));
    let body = text.get(prefix..).unwrap_or_default();
    if body.starts_with('"') {
        return new(Kind::Text, prefix + quoted(body, '"').unwrap_or(body.len()));
    }
    // A lifetime has no closing quote right after its one character.
    let mut quote = body.chars();
    if quote.next() == Some('\'') {
        let (escaped, closes) = (quote.next() == Some('\\'), quote.next() == Some('\''));
        if let Some(length) = quoted(body, '\'').filter(|_| escaped || closes) {
            return new(Kind::Char, prefix + length);
        }
    }
    new(Kind::Code, 0)
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let step = if rest.starts_with("/*") {
            depth += 1;
            2
        } else if rest.starts_with("*/") {
            depth -= 1;
            2
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

fn raw_string(text: &str) -> Option<usize> {
    let start = text.trim_start_matches(['b', 'c']);
    let hashes = start.strip_prefix('r')?;
    let body = hashes.trim_start_matches('#');
    let count = hashes.len() - body.len();
    let body = body.strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(count));
    let end = body
        .find(&close)
        .map_or(body.len(), |end| end + close.len());
    Some(text.len() - body.len() + end)
}

/// The length of a literal that begins and ends with `quote`.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + c.len_utf8()),
            _ => {}
        }
    }
    None
}

mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_told_from_code() {
        let text = r###"
let a = "SELECT \"1\""; // "not me"
/* "nor /* "me" */ */ let b = r#"UPDATE "t""#; /// .unwrap()
let c: &'static str = b"x"; let d = ['"', '\'', 'é']; for_r"still a string";
let e = "two
lines"; x.unwrap()"###;
        let source = Source::read(text);
        let literals: Vec<(usize, &str)> = source
            .literals
            .iter()
            .map(|(n, l)| (*n, l.as_str()))
            .collect();
        let expected = [
            (2, r#"SELECT \"1\""#),
            (3, r#"UPDATE "t""#),
            (4, "x"),
            (4, "still a string"),
            (5, "two\nlines"),
        ];
        assert_eq!(literals, expected);
        assert!(!source.code.contains(['"', 'é']) && !source.code.contains("me"));
        assert!(source.code.contains("&'static str") && source.code.contains("for_r"));
        assert_eq!(source.code.matches(".unwrap()").count(), 1);
        assert_eq!(source.code.lines().count(), text.lines().count());
    }

    #[test]
    fn tests_are_cut_off_and_test_only_items_are_not() {
        let text =
            "fn a() {}\n#[cfg(test)]\nfn b() {}\n#[cfg(test)]\n#[path = \"x.rs\"]\nmod tests {}\n";
        assert_eq!(without_tests(text), "fn a() {}\n#[cfg(test)]\nfn b() {}\n");
        assert_eq!(without_tests("fn a() {}"), "fn a() {}");
    }
}
