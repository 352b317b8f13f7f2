//! Which targets sums can stand for, and how: [`Sums`], made once for both sides.
//!
//! Equal sums must prove what comparing the rows would: that the follower holds, in each mapped
//! column, what a copy would have put there. So a target is summed only where that is known of all of
//! it, and what is not known has a reason ([`Unsummed`]) and is compared key by key:
//!
//! 1. The image is the queries' rows, and nothing else ([`Mapping::is_declared`]).
//! 2. Its rows are the key's own, or the rows' that are; of a generated id the id map tells for which slot of the
//!    key it was drawn. Every column is an expression, a lookup's answer, which tells what the lookup was asked for, or
//!    the id of another row of the key's. Shared rows are summed with those that name them.
//! 3. Each expression has a text that is known in its column: the one that both sides' engine knows
//!    ([`Summing::summed`]), or where they are of two, the one that both write ([`alike`](super::alike)).
//! 4. Keys have one order on both sides ([`Summing::key_order`]), or a span would be two sets of keys.

use changeover_flags::{Entity, Place};
use changeover_shadow::Value;
use futures_util::future::BoxFuture;

use super::Dialect;
use super::alike::Form;
use super::catalog::Column;
use super::pair::Pair;
use super::session::{Database, DbError, Session};
use super::span::{place_among, within};
use super::statement::Statement;
use crate::mapping::Mapping;
use crate::preflight::Catalog;
use crate::sum::{Span, Sum, Unsummed};

/// How keys are ordered, in every database alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrder {
    /// As whole numbers of 64 bits.
    Signed,
    /// As whole numbers of 64 bits without sign.
    Unsigned,
    /// As the digits of a uuid.
    Uuid,
}

/// How an engine sums rows.
pub trait Summing: Send + Sync {
    /// How keys of a type are ordered, whether it is a column's or one that
    /// [`Dialect::describe_query`] answers. `None` where the order depends on the database.
    fn key_order(&self, sql_type: &str) -> Option<KeyOrder>;

    /// The name of a type that reads any bound of keys in that order.
    fn bound(&self, order: KeyOrder) -> &'static str;

    /// A part of a key as every table orders and compares it, whatever collations their columns have.
    fn plain(&self, expression: &str, column: &Column) -> String {
        let _ = column;
        expression.to_owned()
    }

    /// Whether an index finds rows by a comparison of several columns only beside one of the first.
    fn leads(&self) -> bool {
        false
    }

    /// What all bytes in such a column of a key are at or above, and all texts below; `None` where it
    /// holds none.
    fn least_bytes(&self, column: &Column) -> Option<&'static str> {
        let _ = column;
        None
    }

    /// Whether a component may be what [`Dialect::key_text`] has for bytes in such a column of a key: no row is
    /// found by it.
    fn names_bytes(&self, component: &str, column: &Column) -> bool {
        let _ = (component, column);
        false
    }

    /// The most keys whose rows are worth summing at once: where rows are in this process's memory meanwhile,
    /// more of them take no less time.
    fn most_keys(&self) -> u32 {
        u32::MAX
    }

    /// Whether versions, while they are few, are found sooner in a list than row by row.
    fn lists_versions(&self) -> bool {
        false
    }

    /// What stands in a summed row for an expression whose values a copy puts into `column`, `from`
    /// being its type; with no such type, for that column's own values. Two values have one form here
    /// only if a verify takes them for equal.
    ///
    /// # Errors
    ///
    /// Why that is not known.
    fn summed(
        &self,
        expression: &str,
        from: Option<&str>,
        column: &Column,
    ) -> Result<String, String>;

    /// The forms in which values of a column are summed beside another engine's, the best first.
    fn forms(&self, sql_type: &str) -> &'static [Form];

    /// What stands in a row that is summed beside another engine's for an expression of this type, which may
    /// be one that [`Dialect::describe_query`] answers: its text in that form, as far as this engine writes it.
    /// `None` if it does not.
    fn written(&self, expression: &str, sql_type: &str, form: Form) -> Option<String>;

    /// An expression that agrees with nothing.
    fn never(&self) -> &'static str;

    /// What the id map has of an id that this expression answers.
    fn mapped_id(&self, id: &str) -> String;

    /// The slot that a copy makes of a text that [`written`](Summing::written) answered: of none it is the empty one.
    fn slot_text(&self, written: &str) -> String {
        format!("coalesce({written}, '')")
    }

    /// A column of what [`written`](Summing::written) answers of `column`.
    fn text_like(&self, column: &Column) -> Column {
        Column {
            sql_type: "text".to_owned(),
            full_type: "text".to_owned(),
            ..column.clone()
        }
    }

    /// The sums of these rows, one for each place.
    fn sum<'a>(
        &'a self,
        session: &'a mut dyn Session,
        rows: SummedRows<'a>,
    ) -> BoxFuture<'a, Result<Vec<Sum>, DbError>>;
}

/// How the rows of both sides are summed, or why they are not.
#[derive(Debug, Clone)]
pub struct Sums {
    targets: Result<Vec<SumTarget>, Vec<Unsummed>>,
    /// The key columns of the root table.
    key: Vec<Column>,
    /// Columns of the follower that have the key.
    held_key: Vec<Column>,
    /// The most keys whose rows are worth summing at once.
    most_keys: u32,
}

/// How one target is summed.
#[derive(Debug, Clone)]
pub(super) struct SumTarget {
    /// What the mapping calls it.
    pub(super) name: String,
    /// On the authority's side.
    pub(super) source: RowsOf,
    /// On the follower's side.
    pub(super) held: RowsOf,
    /// The columns, in the mapping's order, as the follower has them.
    pub(super) columns: Vec<Column>,
    /// How the value of each is written, if both sides are of two engines.
    pub(super) forms: Option<Vec<Form>>,
}

/// Where rows of a target come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RowsOf {
    pub(super) from: String,
    /// What is joined for the values, of which each row has at most one.
    pub(super) beside: String,
    pub(super) key: Vec<String>,
    pub(super) filter: Option<String>,
    pub(super) values: Vec<String>,
}

impl Default for Sums {
    /// Of nothing: everything is compared key by key.
    fn default() -> Sums {
        Sums {
            targets: Err(Vec::new()),
            key: Vec::new(),
            held_key: Vec::new(),
            most_keys: u32::MAX,
        }
    }
}

impl Sums {
    /// The sums of a mapping between what `catalog` describes.
    pub(crate) fn new(
        entity: &Entity,
        mapping: &dyn Mapping,
        catalog: &Catalog,
        authority: &Database,
        (place, follower): (Place, &Database),
    ) -> Sums {
        let (authority, follower) = (authority.dialect(), follower.dialect());
        let shape = mapping.shape();
        if !mapping.is_declared() {
            let why = "the mapping is code, and what it answers is known only by asking it";
            return Sums::none("the mapping", why);
        }
        let root = catalog.authority.first();
        let key: Vec<Column> = (shape.root.key.iter())
            .filter_map(|name| root?.column(name).cloned())
            .collect();
        let order: Option<Vec<KeyOrder>> = (key.iter())
            .map(|column| authority.sums().key_order(&column.sql_type))
            .collect();
        let Some(order) = order else {
            let why = "the order of its key depends on the database: sums need keys of integers, on MariaDB of one sign (PostgreSQL: or uuids)";
            return Sums::none(&shape.root.table, why);
        };
        let pair = Pair {
            entity,
            place,
            shape,
            catalog,
            order,
            authority,
            follower,
        };
        let mut targets = Vec::new();
        let mut unsummed = Vec::new();
        let (mut held_key, mut shared) = (Vec::<Column>::new(), Vec::new());
        let order = |columns: &[Column]| -> Vec<Option<KeyOrder>> {
            let orders = columns.iter();
            orders
                .map(|column| follower.sums().key_order(&column.sql_type))
                .collect()
        };
        for (index, target) in shape.targets.iter().enumerate() {
            if !target.is_owned() {
                continue;
            }
            match pair.target(index, target) {
                // Bounds are read for all of them alike.
                Ok(paired) if !held_key.is_empty() && order(&paired.key) != order(&held_key) => {
                    let why = "its key has another sign than another target's";
                    unsummed.push(Unsummed {
                        target: paired.target.name,
                        why: why.to_owned(),
                    });
                }
                Ok(paired) => {
                    targets.push(paired.target);
                    shared.extend(paired.shared);
                    held_key = paired.key;
                }
                Err((place, why)) => unsummed.push(Unsummed { target: place, why }),
            }
        }
        for (index, target) in shape.targets.iter().enumerate() {
            if !target.is_owned() && !shared.contains(&index) {
                let why = "its rows are shared by many keys, and no summed row names them";
                unsummed.push(Unsummed {
                    target: target.name.clone(),
                    why: why.to_owned(),
                });
            }
        }
        let most_keys = [authority, follower].map(|side| side.sums().most_keys());
        Sums {
            targets: match unsummed.is_empty() {
                true => Ok(targets),
                false => Err(unsummed),
            },
            key,
            held_key,
            most_keys: most_keys.into_iter().min().unwrap_or(u32::MAX),
        }
    }

    fn none(target: &str, why: &str) -> Sums {
        let (target, why) = (target.to_owned(), why.to_owned());
        Sums {
            targets: Err(vec![Unsummed { target, why }]),
            ..Sums::default()
        }
    }

    /// The key columns of the root table.
    pub(super) fn key(&self) -> &[Column] {
        &self.key
    }

    /// Columns of the follower that have the key.
    pub(super) fn held_key(&self) -> &[Column] {
        &self.held_key
    }

    /// The most keys whose rows are worth summing at once.
    pub(super) fn most_keys(&self) -> u32 {
        self.most_keys
    }

    /// What no sum stands for, and why; nothing where sums stand for all.
    pub(super) fn unsummed(&self) -> Option<&[Unsummed]> {
        self.targets.as_ref().err().map(Vec::as_slice)
    }

    /// The targets, if sums stand for all of them.
    pub(super) fn targets(&self) -> Option<&[SumTarget]> {
        self.targets.as_ref().ok().map(Vec::as_slice)
    }
}

impl RowsOf {
    /// The rows of spans that are beside each other: which one of them, key and values, as columns `g`, `k`
    /// and `c0`, `c1`, …; `None` if they are not, or a bound is no key.
    pub(super) fn select<'d>(
        &self,
        dialect: &'d dyn Dialect,
        head: Statement<'d>,
        spans: &[Span],
        columns: &[Column],
    ) -> Option<Statement<'d>> {
        let all = Span::together(spans)?;
        let values = self.values.iter().enumerate();
        let values: String = values
            .map(|(n, value)| format!(", {value} AS c{n}"))
            .collect();
        let key = dialect.key_text(&self.key);
        let head = place_among(
            head.sql("(SELECT "),
            dialect,
            (&self.key, columns),
            (0, spans),
        )?;
        let head = head.sql(&format!(
            " AS g, {key} AS k{values} FROM {}{} WHERE ",
            self.from, self.beside
        ));
        let rows = self.keyed(within(head, dialect, &self.key, columns, &all)?);
        Some(match &self.filter {
            Some(filter) => rows.sql(&format!(" AND ({filter})) AS s")),
            None => rows.sql(") AS s"),
        })
    }

    /// Without rows that belong to no key, wherever an engine sorts them.
    fn keyed<'d>(&self, rows: Statement<'d>) -> Statement<'d> {
        let keyed =
            |rows: Statement<'d>, part: &String| rows.sql(&format!(" AND {part} IS NOT NULL"));
        self.key.iter().fold(rows, keyed)
    }

    /// The names of the values, each after a comma.
    pub(super) fn names(&self) -> String {
        (0..self.values.len())
            .map(|n| format!(", s.c{n}"))
            .collect()
    }

    /// The keys of rows in a span, one for each row: its components as columns `o0`, …, and its text as `k`.
    pub(super) fn keys<'d>(
        &self,
        dialect: &'d dyn Dialect,
        head: Statement<'d>,
        span: &Span,
        columns: &[Column],
    ) -> Option<Statement<'d>> {
        let key = dialect.key_text(&self.key);
        let parts = self.key.iter().enumerate();
        let parts: String = parts.map(|(n, part)| format!("{part} AS o{n}, ")).collect();
        let from = &self.from;
        let head = head.sql(&format!("SELECT {parts}{key} AS k FROM {from} WHERE "));
        let rows = self.keyed(within(head, dialect, &self.key, columns, span)?);
        Some(match &self.filter {
            Some(filter) => rows.sql(&format!(" AND ({filter})")),
            None => rows,
        })
    }
}

/// Rows whose sums are asked for.
#[derive(Debug)]
pub struct SummedRows<'a> {
    /// The salt of every hash.
    pub salt: u64,
    /// The target they are of.
    pub target: &'a str,
    /// Selects place, key, version and values of each.
    pub rows: Statement<'a>,
    /// How many places there are.
    pub places: usize,
    /// The columns of the values.
    pub columns: &'a [Column],
    /// Whether the values are what a copy would put into these columns; otherwise they come out of them.
    pub copied: bool,
    /// How the value of each column is written, if the other side is of another engine: in the one text
    /// that is [`alike`](super::alike).
    pub forms: Option<&'a [Form]>,
}

/// The sums that a database answered: of which place, of how many rows, and both halves as text. Those of no
/// rows may be left out.
pub(super) fn answered(rows: &[Vec<Value>], places: usize) -> Result<Vec<Sum>, DbError> {
    let odd = || DbError::odd("sums are not rows of numbers, one for each place");
    let number = |value: &Value| match value {
        Value::Text(text) => text.parse::<i128>().map_err(|_| odd()),
        _ => Err(odd()),
    };
    let mut sums = vec![None; places];
    for row in rows {
        let [place, Value::Integer(rows), one, other] = row.as_slice() else {
            return Err(odd());
        };
        let sum = Sum::of(rows.unsigned_abs(), [number(one)?, number(other)?]);
        if at(&mut sums, place).ok_or_else(odd)?.replace(sum).is_some() {
            return Err(odd());
        }
    }
    Ok(sums.into_iter().map(Option::unwrap_or_default).collect())
}

/// What stands at a place, if it is one.
pub(super) fn at<'s, T>(sums: &'s mut [T], place: &Value) -> Option<&'s mut T> {
    match place {
        Value::Integer(place) => sums.get_mut(usize::try_from(*place).ok()?),
        _ => None,
    }
}

/// Adds the sums of one target to those of the others, place by place.
pub(super) fn add(sums: &mut [Sum], of_target: Vec<Sum>) {
    for (sum, one) in sums.iter_mut().zip(of_target) {
        *sum += one;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_has_one_place() {
        let row = |place: Value| {
            let number = || Value::Text("5".into());
            vec![place, Value::Integer(1), number(), number()]
        };
        let two = [row(Value::Integer(2)), row(Value::Integer(0))];
        let sum = Sum::of(1, [5, 5]);
        let found = answered(&two, 3).expect("two of three places");
        assert_eq!(found, [sum, Sum::default(), sum]);
        for place in [
            Value::Integer(3),
            Value::Integer(-1),
            Value::Text("0".into()),
        ] {
            assert!(answered(&[row(place)], 3).is_err());
        }
        assert!(answered(&[row(Value::Integer(1)), row(Value::Integer(1))], 3).is_err());
    }
}
