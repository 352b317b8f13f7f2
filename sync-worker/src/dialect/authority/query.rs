//! A mapping's queries as statements.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::dialect::{Dialect, inspect};
use crate::mapping::{Root, Shape, SourceQuery};

/// The most columns of one statement: an engine's limit is above it.
const MAX_COLUMNS: usize = 1_000;

/// Those of the mapping's queries that read the same rows, as one statement: most targets are made
/// of the root's row.
#[derive(Debug)]
pub(super) struct Query {
    /// What each of them selects, in the order of the statement's columns.
    pub(super) answers: Vec<Selected>,
    pub(super) sql_select: String,
    pub(super) sql_where: String,
    /// The same condition, but its filter is asked of the keys' own rows alone.
    pub(super) sql_where_own: String,
    /// Whether it may answer more rows, or fewer, than it reads.
    alone: bool,
}

/// What one of the mapping's queries selects.
#[derive(Debug)]
pub(super) struct Selected {
    /// Its place among the mapping's queries.
    pub(super) index: usize,
    /// What messages call it.
    pub(super) name: String,
    /// Each of its expressions, by name.
    pub(super) expressions: Vec<(String, String)>,
    pub(super) names: Arc<[String]>,
    pub(super) types: Vec<String>,
}

impl Query {
    fn new(dialect: &dyn Dialect, root: &Root, query: &SourceQuery) -> Query {
        let from = inspect::from(dialect, root, query);
        let matches: Vec<String> = inspect::key(dialect, root, query)
            .iter()
            .enumerate()
            .map(|(index, e)| format!("({e}) = changeover_keys.changeover_c{index}"))
            .collect();
        let matches = matches.join(" AND ");
        let same = match dialect.swaps_equal_columns() {
            true => format!(
                "{} = changeover_keys.changeover_key",
                dialect.key_text(&inspect::key(dialect, root, query))
            ),
            false => matches.clone(),
        };
        let (filter, own_filter) = query.filter.as_ref().map_or_else(
            || (String::new(), String::new()),
            |filter| {
                let own = format!(" AND CASE WHEN {same} THEN ({filter}) END");
                (format!(" AND ({filter})"), own)
            },
        );
        Query {
            answers: Vec::new(),
            sql_select: "SELECT changeover_keys.changeover_key".to_owned(),
            sql_where: format!(" CROSS JOIN {from} WHERE {matches}{filter}"),
            sql_where_own: format!(" CROSS JOIN {from} WHERE {matches}{own_filter}"),
            alone: false,
        }
    }

    /// The mapping's queries, those together that can be.
    pub(super) fn all(dialect: &dyn Dialect, shape: &Shape, types: Vec<Vec<String>>) -> Vec<Query> {
        let mut queries: Vec<Query> = Vec::new();
        for ((index, query), types) in shape.queries.iter().enumerate().zip(types) {
            let new = Query::new(dialect, &shape.root, query);
            let fits = |other: &Query| {
                let columns: usize = other.answers.iter().map(|one| one.types.len()).sum();
                !other.alone
                    && other.sql_where == new.sql_where
                    && columns + types.len() <= MAX_COLUMNS
            };
            let alone = !query.select.iter().all(|(_, one)| is_scalar(one));
            let mut into = match queries.iter().position(fits).filter(|_| !alone) {
                Some(position) => queries.remove(position),
                None => new,
            };
            into.alone |= alone;
            for (_, expression) in &query.select {
                let _ = write!(into.sql_select, ", {}", dialect.exact(expression));
            }
            into.answers.push(Selected {
                index,
                name: query.name.clone(),
                expressions: query.select.clone(),
                names: query.select.iter().map(|(name, _)| name.clone()).collect(),
                types,
            });
            queries.push(into);
        }
        for query in &mut queries {
            query.sql_select.push_str(" FROM ");
        }
        queries
    }
}

/// Words that stand before a parenthesis and answer one value for one row.
const SCALAR: [&str; 37] = [
    "abs",
    "and",
    "as",
    "between",
    "case",
    "cast",
    "char",
    "coalesce",
    "concat",
    "decimal",
    "else",
    "greatest",
    "ifnull",
    "iif",
    "in",
    "instr",
    "is",
    "least",
    "length",
    "like",
    "lower",
    "ltrim",
    "not",
    "nullif",
    "numeric",
    "on",
    "or",
    "replace",
    "round",
    "rtrim",
    "substr",
    "substring",
    "then",
    "trim",
    "upper",
    "varchar",
    "when",
];

/// Whether an expression is known to answer one value for each row. One that answers a set, as
/// `unnest(tags)` does, would take away or multiply the rows of every query it is merged with; so
/// what is not known is asked by itself.
pub(in crate::dialect) fn is_scalar(expression: &str) -> bool {
    let mut word = String::new();
    let mut rest = expression.chars();
    while let Some(c) = rest.next() {
        match c {
            '\'' | '"' => {
                // A doubled quote ends one quoted text and begins the next.
                if !rest.by_ref().any(|other| other == c) {
                    return false;
                }
                word.clear();
                word.push(c);
            }
            '\\' | '$' => return false,
            '(' if !word.trim_end().is_empty() && !SCALAR.contains(&word.trim_end()) => {
                return false;
            }
            c if c.is_whitespace() => {
                if !word.ends_with(' ') && !word.is_empty() {
                    word.push(' ');
                }
            }
            c if c.is_alphanumeric() || c == '_' => {
                if word.ends_with(' ')
                    || !word.starts_with(|c: char| c.is_alphanumeric() || c == '_')
                {
                    word.clear();
                }
                word.extend(c.to_lowercase());
                if word == "select" {
                    return false;
                }
            }
            _ => word.clear(),
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::is_scalar;

    #[test]
    fn what_may_answer_a_set_is_not_merged() {
        for one in [
            "id",
            "lower(trim(status))",
            "price * (1 + 2)",
            "CASE WHEN (a) THEN trim (b) ELSE 'unnest(' END",
            "replace(nullif(lower(trim(category)), ''), ' ', '-')",
            "'it''s (so)'",
            "cast(price as numeric(12,2))::text",
            "a IN (1, 2) AND (b)",
        ] {
            assert!(is_scalar(one), "{one}");
        }
        for set in [
            "unnest(tags)",
            "lower(unnest(tags))",
            "jsonb_array_elements (list)",
            "\"unnest\"(tags)",
            "pg_catalog.unnest(tags)",
            "(SELECT max(x) FROM y)",
            "generate_series(1, 3)",
            "my_own(id)",
            "max(id)",
            "E'\\'' || unnest(tags)",
            "$$'$$ || unnest(tags)",
        ] {
            assert!(!is_scalar(set), "{set}");
        }
    }
}
