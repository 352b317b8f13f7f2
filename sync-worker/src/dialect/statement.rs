//! [`Statement`]: SQL text with its arguments, built so that one text serves every engine.
//!
//! Identifiers come from the configuration, are checked against the catalog and quoted by the
//! dialect; values are always bound. Many rows are bound as one derived table ([`rows`]), which
//! PostgreSQL receives as one array per column and SQLite as a list of `VALUES`.
//!
//! [`rows`]: Statement::rows

use changeover_shadow::Value;

use super::Dialect;
use super::catalog::Column;

/// SQL text and its arguments.
#[derive(Debug, Clone)]
pub struct Statement<'d> {
    dialect: &'d dyn Dialect,
    text: String,
    args: Vec<Arg>,
    reusable: bool,
}

/// One bound argument.
#[derive(Debug, Clone)]
pub enum Arg {
    /// One value.
    Value(Value),
    /// Many values, each bound by itself or all as one array.
    Column(Vec<Value>),
    /// A whole array, as the engine that has arrays binds it (PostgreSQL).
    Array(Vec<u8>),
}

/// A column of a derived table of bound rows: its name and the SQL type it is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowColumn<'a> {
    /// Name within the statement.
    pub name: &'a str,
    /// SQL type; `None` leaves values as they are bound.
    pub sql_type: Option<&'a str>,
    /// The table's column whose values these are, if they are one's.
    pub column: Option<&'a Column>,
    /// Whether they are to be put into the column, and not to be found in it.
    pub written: bool,
}

impl RowColumn<'_> {
    /// A column of this name and type.
    #[must_use]
    pub const fn new<'a>(name: &'a str, sql_type: &'a str) -> RowColumn<'a> {
        RowColumn {
            name,
            sql_type: Some(sql_type),
            column: None,
            written: false,
        }
    }

    /// A column of values to be found in a table's.
    #[must_use]
    pub fn of<'a>(name: &'a str, column: &'a Column) -> RowColumn<'a> {
        RowColumn {
            column: Some(column),
            ..RowColumn::new(name, &column.sql_type)
        }
    }

    /// A column of values to be put into a table's.
    #[must_use]
    pub fn into<'a>(name: &'a str, column: &'a Column) -> RowColumn<'a> {
        RowColumn {
            written: true,
            ..RowColumn::of(name, column)
        }
    }
}

/// Each row with its place among them as its last value.
pub(super) fn numbered(rows: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
    let places = (0i64..).map(Value::Integer);
    rows.into_iter()
        .zip(places)
        .map(|(row, place)| row.into_iter().chain([place]).collect())
        .collect()
}

impl<'d> Statement<'d> {
    /// An empty statement.
    #[must_use]
    pub fn new(dialect: &'d dyn Dialect) -> Statement<'d> {
        Statement {
            dialect,
            text: String::new(),
            args: Vec::new(),
            reusable: true,
        }
    }

    /// A statement that starts with `sql`.
    #[must_use]
    pub fn of(dialect: &'d dyn Dialect, sql: &str) -> Statement<'d> {
        Statement::new(dialect).sql(sql)
    }

    /// Appends SQL text as it is.
    #[must_use]
    pub fn sql(mut self, text: &str) -> Statement<'d> {
        self.text.push_str(text);
        self
    }

    /// Appends a table of the product, qualified and quoted.
    #[must_use]
    pub fn table(self, name: &str) -> Statement<'d> {
        let table = self.dialect.table(name);
        self.sql(&table)
    }

    /// Appends one bound value, read as `sql_type`.
    #[must_use]
    pub fn bind(mut self, value: impl Into<Value>, sql_type: &str) -> Statement<'d> {
        self.args.push(Arg::Value(value.into()));
        let text = self.dialect.placeholder(self.args.len(), sql_type);
        self.text.push_str(&text);
        self
    }

    /// Appends bound text.
    #[must_use]
    pub fn text(self, value: &str) -> Statement<'d> {
        self.bind(Value::Text(value.to_owned()), "text")
    }

    /// Appends a bound 64-bit number.
    #[must_use]
    pub fn int(self, value: i64) -> Statement<'d> {
        self.bind(Value::Integer(value), "bigint")
    }

    /// Appends a derived table `alias` of bound rows. Every row must have one value per column.
    #[must_use]
    pub fn rows(
        mut self,
        alias: &str,
        columns: &[RowColumn<'_>],
        rows: &[Vec<Value>],
    ) -> Statement<'d> {
        let text = self.dialect.rows(columns, rows, &mut self.args);
        self.reusable &= self.dialect.rows_text_is_stable();
        self.text.push_str(&text);
        self.text.push_str(" AS ");
        self.text.push_str(alias);
        self
    }

    /// Appends a derived table `alias(key)` of keys as text.
    #[must_use]
    pub fn keys<'k>(
        self,
        alias: &str,
        keys: impl IntoIterator<Item = &'k changeover_flags::Key>,
    ) -> Statement<'d> {
        let rows: Vec<Vec<Value>> = keys
            .into_iter()
            .map(|key| vec![Value::Text(key.as_str().to_owned())])
            .collect();
        self.rows(alias, &[RowColumn::new("key", "text")], &rows)
    }

    /// Appends a condition: `column` (text) is one of `keys`.
    #[must_use]
    pub fn key_in<'k>(
        mut self,
        column: &str,
        keys: impl IntoIterator<Item = &'k str>,
    ) -> Statement<'d> {
        let keys = keys
            .into_iter()
            .map(|key| Value::Text(key.to_owned()))
            .collect();
        let text = self.dialect.key_in(column, keys, &mut self.args);
        self.reusable &= self.dialect.rows_text_is_stable();
        self.text.push_str(&text);
        self
    }

    /// The SQL text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The inverse of [`into_parts`](Statement::into_parts): for sessions that stand in front of
    /// another session.
    #[must_use]
    pub fn from_parts(
        dialect: &'d dyn Dialect,
        (text, args, reusable): (String, Vec<Arg>, bool),
    ) -> Statement<'d> {
        Statement {
            dialect,
            text,
            args,
            reusable,
        }
    }

    /// The dialect that the statement is written in.
    #[must_use]
    pub fn dialect(&self) -> &'d dyn Dialect {
        self.dialect
    }

    /// The text, the arguments, and whether preparing it once pays.
    #[must_use]
    pub fn into_parts(self) -> (String, Vec<Arg>, bool) {
        (self.text, self.args, self.reusable)
    }
}
