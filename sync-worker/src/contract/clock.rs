//! Words in a mapping's SQL that name a clock too slow, or a setting too quiet, for two readings.

use crate::mapping::Shape;

/// Names that are written without parentheses, and functions.
const WORDS: &[&str] = &[
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "current_user",
    "session_user",
    "now",
    "age",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "current_setting",
];

/// Texts that mean a day where they become a date.
const TEXTS: &[&str] = &["now", "today", "tomorrow", "yesterday"];

/// Where the mapping's queries name a clock or a setting: `current_date in query "listing"`. A
/// column of such a name is named too: whoever reads it can tell.
pub(super) fn by_day(shape: &Shape) -> Vec<String> {
    let mut found = Vec::new();
    for query in &shape.queries {
        let expressions = query.select.iter().map(|(_, expression)| expression);
        let texts = expressions
            .chain(&query.filter)
            .chain([&query.from])
            .chain(&query.key);
        for word in texts.flat_map(|text| words(text)) {
            let word = format!("{word} in query {:?}", query.name);
            if !found.contains(&word) {
                found.push(word);
            }
        }
    }
    found
}

fn words(sql: &str) -> Vec<&'static str> {
    let sql = sql.to_ascii_lowercase();
    // Every second part stood in quotes.
    let mut found = Vec::new();
    for (index, part) in sql.split('\'').enumerate() {
        if index % 2 == 1 {
            found.extend(TEXTS.iter().filter(|text| **text == part));
            continue;
        }
        let names = part.split(|c: char| !c.is_alphanumeric() && c != '_');
        for name in names {
            found.extend(WORDS.iter().filter(|word| **word == name));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn clocks_are_found_and_texts_and_longer_names_are_not() {
        assert_eq!(words("age(CURRENT_DATE, l.born)"), ["age", "current_date"]);
        assert_eq!(words("date('now')"), ["now"]);
        assert_eq!(words("l.due < 'Today'::date"), ["today"]);
        assert!(words("l.known_at || 'as of now, or current_date' || l.stage").is_empty());
    }
}
