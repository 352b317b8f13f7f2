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
        let (filter, own_filter) = query.filter.as_ref().map_or_else(
            || (String::new(), String::new()),
            |filter| {
                let own = format!(" AND CASE WHEN {matches} THEN ({filter}) END");
                (format!(" AND ({filter})"), own)
            },
        );
        Query {
            answers: Vec::new(),
            sql_select: "SELECT changeover_keys.changeover_key".to_owned(),
            sql_where: format!(" CROSS JOIN {from} WHERE {matches}{filter}"),
            sql_where_own: format!(" CROSS JOIN {from} WHERE {matches}{own_filter}"),
        }
    }

    /// The mapping's queries, those together that can be.
    pub(super) fn all(dialect: &dyn Dialect, shape: &Shape, types: Vec<Vec<String>>) -> Vec<Query> {
        let mut queries: Vec<Query> = Vec::new();
        for ((index, query), types) in shape.queries.iter().enumerate().zip(types) {
            let new = Query::new(dialect, &shape.root, query);
            let fits = |other: &Query| {
                let columns: usize = other.answers.iter().map(|one| one.types.len()).sum();
                other.sql_where == new.sql_where && columns + types.len() <= MAX_COLUMNS
            };
            let mut into = match queries.iter().position(fits) {
                Some(position) => queries.remove(position),
                None => new,
            };
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
