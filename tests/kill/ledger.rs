//! What the callers tried and were told, and what the legacy tables must say for that.
//!
//! | told | a token is there |
//! | --- | --- |
//! | acknowledged | exactly once in each of its rows |
//! | refused, or nothing matched | never |
//! | error, cancelled, or killed before the answer | at most once, in all of its rows or in none |

use std::collections::{BTreeMap, BTreeSet};

/// What became of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Acknowledged,
    Refused,
    Unknown,
}

#[derive(Debug)]
struct Try {
    kind: String,
    keys: Vec<i64>,
    told: Told,
    /// Its place among all acknowledgements.
    position: usize,
}

/// What a try would leave in its row: its place, what was told, and the title, if there is a row.
type State<'a> = (usize, Told, Option<&'a str>);

/// The ledger of one run, over all generations of the application.
#[derive(Debug, Default)]
pub struct Ledger {
    tries: BTreeMap<String, Try>,
    /// What the application found wrong itself.
    problems: Vec<String>,
    /// The first error of each text, for the report.
    errors: BTreeMap<String, u64>,
    figures: Figures,
}

/// How much happened.
#[derive(Debug, Default, Clone)]
pub struct Figures {
    pub calls: u64,
    pub reads: u64,
    pub acknowledged: u64,
    pub refused: u64,
    pub unknown: u64,
    pub cancelled: u64,
    /// Lives in which the new side came to answer reads.
    pub ramped: u64,
    /// The worker's copies by outcome.
    pub copies: BTreeMap<String, u64>,
}

impl Figures {
    /// Keys that the worker's copies brought to the new side.
    pub fn applied(&self) -> u64 {
        self.copies.get("applied").copied().unwrap_or(0)
    }
}

/// A row of the legacy table.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: i64,
    pub tenant: i64,
    pub title: String,
    pub sku: String,
    pub stock: i64,
}

impl Ledger {
    /// Takes up a line of the journal.
    pub fn read(&mut self, line: &str) {
        let mut words = line.split(' ');
        let word = words.next().unwrap_or_default();
        match word {
            "try" => {
                let token = words.next().unwrap_or_default().to_owned();
                let kind = words.next().unwrap_or_default().to_owned();
                let keys = words.filter_map(|key| key.parse().ok()).collect();
                let position = self.tries.len();
                self.figures.calls += 1;
                self.tries.insert(
                    token,
                    Try {
                        kind,
                        keys,
                        told: Told::Unknown,
                        position,
                    },
                );
            }
            "ok" | "no" | "none" | "unknown" | "gone" => {
                let token = words.next().unwrap_or_default().to_owned();
                self.told(word, &token, &words.collect::<Vec<_>>());
            }
            "read" => {
                self.figures.calls += 1;
                self.figures.reads += 1;
            }
            "half" => self.figures.ramped += 1,
            "copies" => {
                if let (Some(outcome), Some(count)) = (words.next(), words.next()) {
                    let count: u64 = count.parse().unwrap_or(0);
                    *self.figures.copies.entry(outcome.to_owned()).or_default() += count;
                }
            }
            _ => self.problems.push(line.to_owned()),
        }
    }

    fn told(&mut self, word: &str, token: &str, rest: &[&str]) {
        let position = self.tries.len() + self.figures.acknowledged as usize;
        let Some(one) = self.tries.get_mut(token) else {
            self.problems
                .push(format!("an answer without a try: {word} {token}"));
            return;
        };
        let figures = &mut self.figures;
        match word {
            "ok" => {
                figures.acknowledged += 1;
                one.told = Told::Acknowledged;
                one.position = position;
                // A row that the database numbered.
                one.keys
                    .extend(rest.iter().filter_map(|id| id.parse::<i64>().ok()));
            }
            "no" | "none" => {
                figures.refused += 1;
                one.told = Told::Refused;
            }
            "unknown" => figures.unknown += 1,
            _ => figures.cancelled += 1,
        }
        if matches!(word, "no" | "unknown") {
            // Pids and transaction numbers would make every text another.
            let text = rest.join(" ");
            let text: String = text
                .chars()
                .filter(|c| !c.is_ascii_digit())
                .take(120)
                .collect();
            *self.errors.entry(format!("{word}: {text}")).or_default() += 1;
        }
    }

    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// The errors that callers saw, by text.
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    /// Everything that is wrong with these rows; `before` are those at the start.
    pub fn check(&self, before: &[Row], after: &[Row]) -> Vec<String> {
        let mut problems = self.problems.clone();
        self.check_tokens(after, &mut problems);
        self.check_order(after, &mut problems);
        self.check_cells(before, after, &mut problems);
        self.check_stock(before, after, &mut problems);
        let skus = |rows: &[Row]| {
            rows.iter()
                .map(|row| row.sku.clone())
                .collect::<BTreeSet<_>>()
        };
        let cells = |row: &&Row| row.id < super::workload::FIRST_CELL;
        let of = |rows: &[Row]| skus(&rows.iter().filter(cells).cloned().collect::<Vec<_>>());
        if of(before) != of(after) {
            problems.push("unique values: a swap happened by half".to_owned());
        }
        problems
    }

    /// How often each token of the kinds that leave one is in which row.
    fn check_tokens(&self, after: &[Row], problems: &mut Vec<String>) {
        let mut there: BTreeMap<&str, BTreeMap<i64, u32>> = BTreeMap::new();
        for row in after {
            for token in row.title.split(',') {
                *there.entry(token).or_default().entry(row.id).or_default() += 1;
            }
        }
        for (token, one) in &self.tries {
            if !matches!(one.kind.as_str(), "append" | "two" | "create") {
                continue;
            }
            let rows = there.get(token.as_str()).cloned().unwrap_or_default();
            let right = |keys: &[i64]| {
                rows.len() == keys.len() && keys.iter().all(|key| rows.get(key) == Some(&1))
            };
            // The id of a row that was created without an answer is not known.
            let unnamed = one.kind == "create" && one.keys.is_empty() && rows.len() == 1;
            let fits = match one.told {
                Told::Acknowledged => right(&one.keys),
                Told::Refused => rows.is_empty(),
                Told::Unknown => rows.is_empty() || unnamed || right(&one.keys),
            };
            if !fits {
                let what = match one.told {
                    Told::Acknowledged if rows.is_empty() => "acknowledged and lost",
                    Told::Refused => "refused and there",
                    _ if rows.values().any(|times| *times > 1) => "there twice",
                    _ => "not in the rows that it was for",
                };
                problems.push(format!(
                    "{what}: {token} ({} {:?}), found {rows:?}",
                    one.kind, one.keys
                ));
            }
        }
    }

    /// A caller's acknowledged appends to one row stand in the order in which it made them.
    fn check_order(&self, after: &[Row], problems: &mut Vec<String>) {
        for row in after {
            let mut last: BTreeMap<&str, usize> = BTreeMap::new();
            for token in row.title.split(',') {
                let Some(one) = self.tries.get(token) else {
                    continue;
                };
                if one.told != Told::Acknowledged {
                    continue;
                }
                let caller = token.rsplit_once('.').map_or(token, |(caller, _)| caller);
                if let Some(before) = last.insert(caller, one.position)
                    && before > one.position
                {
                    problems.push(format!("out of order: {token} in row {}", row.id));
                }
            }
        }
    }

    /// A row that one caller alone puts and deletes is as that caller was told last, or as one of
    /// the tries left it whose end nobody knows.
    fn check_cells(&self, before: &[Row], after: &[Row], problems: &mut Vec<String>) {
        let mut states: BTreeMap<i64, Vec<State<'_>>> = BTreeMap::new();
        for (token, one) in &self.tries {
            let state = match one.kind.as_str() {
                "put" => Some(token.as_str()),
                "delete" => None,
                _ => continue,
            };
            // Refused, or a delete of what was not there: either way nothing was changed.
            let changed = one.told != Told::Refused;
            if let Some(key) = one.keys.first().filter(|_| changed) {
                states
                    .entry(*key)
                    .or_default()
                    .push((one.position, one.told, state));
            }
        }
        let title = |rows: &[Row], key| {
            rows.iter()
                .find(|row| row.id == key)
                .map(|row| row.title.clone())
        };
        for (key, mut states) in states {
            states.sort();
            let last = states
                .iter()
                .rev()
                .find(|(_, told, _)| *told == Told::Acknowledged);
            let mut allowed: BTreeSet<Option<String>> = states
                .iter()
                .filter(|(_, told, _)| *told == Told::Unknown)
                .map(|(_, _, state)| state.map(str::to_owned))
                .collect();
            allowed.insert(last.map_or_else(
                || title(before, key),
                |(_, _, state)| state.map(str::to_owned),
            ));
            let found = title(after, key);
            if !allowed.contains(&found) {
                problems.push(format!(
                    "row {key} is {found:?}, and was told to be one of {allowed:?}"
                ));
            }
        }
    }

    /// A bulk update that was acknowledged counted in every row, and none counted twice.
    fn check_stock(&self, before: &[Row], after: &[Row], problems: &mut Vec<String>) {
        let restocks = |tenant: i64, unknown: bool| {
            let of = |one: &&Try| {
                one.kind == "restock"
                    && one.keys == [tenant]
                    && (one.told == Told::Acknowledged || unknown && one.told == Told::Unknown)
            };
            self.tries.values().filter(of).count() as i64
        };
        let bounds: BTreeMap<i64, (i64, i64)> = (1..=2)
            .map(|tenant| (tenant, (restocks(tenant, false), restocks(tenant, true))))
            .collect();
        for row in after
            .iter()
            .filter(|row| super::workload::LISTS.contains(&row.id))
        {
            let Some(start) = before.iter().find(|other| other.id == row.id) else {
                continue;
            };
            let (least, most) = bounds.get(&row.tenant).copied().unwrap_or_default();
            let more = row.stock - start.stock;
            if more < least || more > most {
                problems.push(format!(
                    "row {} was restocked {more} times, acknowledged {least}, tried {most}",
                    row.id
                ));
            }
        }
    }
}

mod tests {
    use super::*;

    fn row(id: i64, title: &str) -> Row {
        Row {
            id,
            tenant: 1,
            title: title.to_owned(),
            sku: format!("s{id}"),
            stock: 0,
        }
    }

    fn check(journal: &[&str], after: &[Row]) -> Vec<String> {
        let mut ledger = Ledger::default();
        journal.iter().for_each(|line| ledger.read(line));
        ledger.check(&[row(1, ""), row(2, ""), row(301, "old")], after)
    }

    #[test]
    fn each_kind_of_wrong_is_told() {
        let journal = [
            "try 0-1.0.1 append 1",
            "ok 0-1.0.1",
            "try 0-1.0.2 append 1",
            "ok 0-1.0.2",
            "try 0-1.0.3 append 1",
            "no 0-1.0.3 why",
            "try 0-1.0.4 two 1 2",
            "try 0-1.0.5 append 2",
            "try 0-1.0.6 put 301",
            "ok 0-1.0.6",
        ];
        let after =
            |one: &str, two: &str, cell: &str| vec![row(1, one), row(2, two), row(301, cell)];
        let both = ",0-1.0.1,0-1.0.2";
        assert_eq!(
            check(&journal, &after(both, "", "0-1.0.6")),
            Vec::<String>::new()
        );
        let all = format!("{both},0-1.0.4");
        assert_eq!(
            check(&journal, &after(&all, ",0-1.0.4,0-1.0.5", "0-1.0.6")),
            Vec::<String>::new()
        );
        for (one, two, cell, says) in [
            (",0-1.0.2", "", "0-1.0.6", "acknowledged and lost"),
            (",0-1.0.1,0-1.0.2,0-1.0.2", "", "0-1.0.6", "there twice"),
            (
                ",0-1.0.1,0-1.0.2",
                ",0-1.0.5,0-1.0.5",
                "0-1.0.6",
                "there twice",
            ),
            (",0-1.0.2,0-1.0.1", "", "0-1.0.6", "out of order"),
            (
                ",0-1.0.1,0-1.0.2,0-1.0.3",
                "",
                "0-1.0.6",
                "refused and there",
            ),
            (",0-1.0.1,0-1.0.2,0-1.0.4", "", "0-1.0.6", "not in the rows"),
            (",0-1.0.1,0-1.0.2", "", "old", "row 301"),
        ] {
            let problems = check(&journal, &after(one, two, cell));
            assert_eq!(problems.len(), 1, "{says}: {problems:?}");
            assert!(
                problems.iter().all(|problem| problem.contains(says)),
                "{says}: {problems:?}"
            );
        }
    }

    #[test]
    fn bulk_updates_and_unique_values_are_counted() {
        let restocked = |stock| {
            vec![
                Row {
                    stock,
                    ..row(1, "")
                },
                row(301, "old"),
            ]
        };
        let journal = [
            "try 0-1.0.1 restock 1",
            "ok 0-1.0.1",
            "try 0-1.0.2 restock 1",
        ];
        let mut ledger = Ledger::default();
        journal.iter().for_each(|line| ledger.read(line));
        let before = restocked(0);
        assert_eq!(ledger.check(&before, &restocked(1)), Vec::<String>::new());
        assert_eq!(ledger.check(&before, &restocked(2)), Vec::<String>::new());
        assert_eq!(ledger.check(&before, &restocked(0)).len(), 1);
        assert_eq!(ledger.check(&before, &restocked(3)).len(), 1);
        let mut swapped = restocked(1);
        swapped[0].sku = String::new();
        assert_eq!(ledger.check(&before, &swapped).len(), 1);
    }
}
