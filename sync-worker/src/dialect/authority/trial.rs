//! Trials: one row of a table is changed in every way that its constraints allow, each change is
//! taken back, and what it did to images and stamps is told.

use std::collections::{BTreeMap, BTreeSet};

use changeover_flags::{Key, Version};
use changeover_shadow::{Rules, Value, diff};

use super::{SqlAuthority, integer};
use crate::dialect::catalog::{Column, Table};
use crate::dialect::session::{DbError, ErrorClass, Session, on_session};
use crate::dialect::statement::Statement;
use crate::store::Answer;

/// How many of the values tried in a column have to be accepted before the next column's turn.
const ACCEPTED: usize = 2;

/// The most names of fields that a finding carries.
const FIELDS: usize = 3;

/// The most rows of a table that are changed by one statement.
const TOGETHER: i64 = 100_000;

/// What the changes of one table's rows showed.
#[derive(Debug, Default)]
pub(crate) struct Trials {
    /// Rows that were changed.
    pub(crate) rows: usize,
    /// Changes that the database accepted.
    pub(crate) changes: u64,
    /// How many of them changed an image.
    pub(crate) shown: u64,
    /// Changed images without a new stamp: one row and key for each kind of change.
    pub(crate) unstamped: Vec<Unstamped>,
    /// Columns in which no change was accepted, and why.
    pub(crate) refused: BTreeMap<String, String>,
    accepted: BTreeSet<String>,
    /// Why the rows were not changed all together as well, if they should have been.
    pub(crate) apart: Option<String>,
}

/// An image that a change altered without stamping its key.
#[derive(Debug)]
pub(crate) struct Unstamped {
    pub(crate) key: Key,
    /// The row that was changed, by what names it; or that all were.
    pub(crate) row: String,
    /// The changed column; `None` when the row was deleted.
    pub(crate) column: Option<String>,
    /// Some of the image's fields that differ.
    pub(crate) fields: Vec<String>,
}

/// An image as a value, or why there is none.
type Seen = Result<Value, String>;

/// One table under trial.
struct Ground<'a> {
    table: &'a Table,
    /// What names a row: (expression, type).
    id: Vec<(String, String)>,
    watched: &'a [Key],
    images: Vec<Seen>,
    versions: Vec<Version>,
}

impl SqlAuthority {
    /// The application's tables in this database.
    pub(crate) fn tables(&self) -> Answer<'_, Vec<String>> {
        on_session!(self, "listing the tables beside", |session| self
            .dialect()
            .probe()
            .tables(session))
    }

    /// A table as the catalog describes it.
    pub(crate) fn describe<'a>(&'a self, table: &'a str) -> Answer<'a, Option<Table>> {
        on_session!(self, "describing a table beside", |session| self
            .dialect()
            .describe(session, table))
    }

    /// Transactions of others that are open in this database.
    pub(crate) fn open_transactions(&self) -> Answer<'_, Vec<String>> {
        on_session!(self, "looking for open transactions beside", |session| self
            .dialect()
            .probe()
            .open_transactions(session))
    }

    /// Changes `rows` rows of `table`, column by column, and takes every change back: in one
    /// transaction, which is rolled back. Rows whose columns `belongs` name a watched key are
    /// taken first. Where `declared` is false, all rows are then changed together: which of them an
    /// image reads is not known.
    pub(crate) fn try_changes<'a>(
        &'a self,
        table: &'a Table,
        belongs: Option<&'a [String]>,
        declared: bool,
        watched: &'a [Key],
        rows: u32,
    ) -> Answer<'a, Trials> {
        on_session!(self, "trying changes of rows beside", |session| async {
            session.script(self.dialect().begin_write()).await?;
            let ground = self.ground(session, table, watched).await?;
            let mut trials = Trials::default();
            let rows = self.rows_to_try(session, &ground, belongs, rows).await?;
            trials.rows = rows.len();
            for row in &rows {
                self.try_row(session, &ground, Some(row), &mut trials)
                    .await?;
            }
            if !declared {
                self.try_together(session, &ground, &mut trials).await?;
            }
            session.script("ROLLBACK").await?;
            Ok::<_, DbError>(trials)
        })
    }

    async fn ground<'a>(
        &self,
        session: &mut dyn Session,
        table: &'a Table,
        watched: &'a [Key],
    ) -> Result<Ground<'a>, DbError> {
        Ok(Ground {
            id: self.row_id(table),
            images: self.watch(session, watched).await?,
            versions: self.versions_in(session, watched).await?,
            table,
            watched,
        })
    }

    /// Changes one row, or (`None`) all of them together.
    async fn try_row(
        &self,
        session: &mut dyn Session,
        ground: &Ground<'_>,
        row: Option<&[Value]>,
        trials: &mut Trials,
    ) -> Result<(), DbError> {
        let columns = ground.table.columns.iter();
        for column in columns.filter(|column| !column.computed) {
            self.try_column(session, ground, row, column, trials)
                .await?;
        }
        let delete = Statement::of(self.dialect(), "DELETE FROM ").table(&ground.table.name);
        let delete = self.of_row(delete.sql(" AS t"), ground, row);
        // That a row cannot be deleted says nothing about its columns.
        self.try_one(session, ground, row, None, delete, trials)
            .await
            .map(drop)
    }

    /// Changes all rows together, unless there are too many.
    async fn try_together(
        &self,
        session: &mut dyn Session,
        ground: &Ground<'_>,
        trials: &mut Trials,
    ) -> Result<(), DbError> {
        let count = Statement::of(self.dialect(), "SELECT count(*) FROM (SELECT 1 FROM ")
            .table(&ground.table.name)
            .sql(" LIMIT ")
            .int(TOGETHER + 1)
            .sql(") AS r");
        let count = session.fetch(count).await?;
        let count = count.first().and_then(|row| row.first()).map_or(0, integer);
        if count > TOGETHER {
            trials.apart = Some(format!("it has more than {TOGETHER} rows"));
            return Ok(());
        }
        if count > i64::try_from(trials.rows).unwrap_or(i64::MAX) {
            // What one row's change was refused for, all rows' change may be allowed to do.
            trials.accepted.clear();
            self.try_row(session, ground, None, trials).await?;
        }
        Ok(())
    }

    /// Tries other values until enough were accepted.
    async fn try_column(
        &self,
        session: &mut dyn Session,
        ground: &Ground<'_>,
        row: Option<&[Value]>,
        column: &Column,
        trials: &mut Trials,
    ) -> Result<(), DbError> {
        let dialect = self.dialect();
        let (name, table) = (
            dialect.quote(&column.name),
            dialect.table(&ground.table.name),
        );
        let current = format!("t.{name}");
        let mut values = dialect.probe().other_values(&current, column);
        // A value of another row meets references, enumerations and checks.
        values.push(format!(
            "(SELECT o.{name} FROM {table} AS o WHERE o.{name} <> {current} LIMIT 1)"
        ));
        if !column.not_null {
            values.push("NULL".to_owned());
        }
        let (mut accepted, mut refused) = (0, None);
        for value in values {
            let update = Statement::of(dialect, "UPDATE ").table(&ground.table.name);
            let update = update.sql(&format!(" AS t SET {name} = {value}"));
            let update = self.of_row(update, ground, row);
            let told = self
                .try_one(session, ground, row, Some(&column.name), update, trials)
                .await?;
            match told {
                None => accepted += 1,
                Some(why) => refused = refused.or(Some(why)),
            }
            if accepted == ACCEPTED {
                break;
            }
        }
        if accepted > 0 {
            trials.refused.remove(&column.name);
            trials.accepted.insert(column.name.clone());
        } else if !trials.accepted.contains(&column.name) {
            let why = refused.unwrap_or_else(|| "no other value is known for its type".to_owned());
            trials.refused.insert(column.name.clone(), why);
        }
        Ok(())
    }

    /// Makes one change, looks, and takes it back. Answers why the database refused it, if it did.
    async fn try_one(
        &self,
        session: &mut dyn Session,
        ground: &Ground<'_>,
        row: Option<&[Value]>,
        column: Option<&str>,
        change: Statement<'_>,
        trials: &mut Trials,
    ) -> Result<Option<String>, DbError> {
        session.script("SAVEPOINT changeover_trial").await?;
        let refused = match session.execute(change).await {
            Ok(rows) if rows == 1 || (rows > 0 && row.is_none()) => None,
            Ok(rows) => Some(format!("it would have changed {rows} rows")),
            Err(error) if error.class == ErrorClass::Connection => return Err(error),
            Err(error) => Some(error.summary),
        };
        if refused.is_none() {
            trials.changes += 1;
            self.look(session, ground, row, column, trials).await?;
        }
        session
            .script("ROLLBACK TO SAVEPOINT changeover_trial; RELEASE SAVEPOINT changeover_trial")
            .await?;
        Ok(refused)
    }

    /// Which images differ from those before the change, and whether their keys were stamped.
    async fn look(
        &self,
        session: &mut dyn Session,
        ground: &Ground<'_>,
        row: Option<&[Value]>,
        column: Option<&str>,
        trials: &mut Trials,
    ) -> Result<(), DbError> {
        let images = self.watch(session, ground.watched).await?;
        let before = ground.images.iter().zip(&ground.versions);
        let changed: Vec<_> = ground
            .watched
            .iter()
            .zip(before)
            .zip(&images)
            .filter(|((_, (before, _)), after)| {
                before != after && !fields(before, after).is_empty()
            })
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        trials.shown += 1;
        let keys: Vec<Key> = changed.iter().map(|((key, _), _)| (*key).clone()).collect();
        let stamped = self.versions_in(session, &keys).await?;
        let known = |one: &Unstamped| one.column.as_deref() == column;
        for (((key, (before, version)), after), stamped) in changed.into_iter().zip(stamped) {
            // One row and key of a kind are enough to act on.
            if stamped > *version || trials.unstamped.iter().any(known) {
                continue;
            }
            trials.unstamped.push(Unstamped {
                key: key.clone(),
                row: name_of(ground, row),
                column: column.map(str::to_owned),
                fields: fields(before, after),
            });
        }
        Ok(())
    }

    /// Images within a transaction that goes on when an expression fails on a row.
    async fn watch(&self, session: &mut dyn Session, keys: &[Key]) -> Result<Vec<Seen>, DbError> {
        session.script("SAVEPOINT changeover_images").await?;
        let images = self.images_in(session, keys).await?;
        session
            .script("RELEASE SAVEPOINT changeover_images")
            .await?;
        let shape = self.mapping.shape();
        let values = images.into_iter();
        Ok(values
            .map(|image| image.map(|image| image.to_value(shape)))
            .collect())
    }

    /// The primary key, or what the engine itself tells rows by.
    fn row_id(&self, table: &Table) -> Vec<(String, String)> {
        let primary = table.unique.iter().find(|unique| unique.primary);
        let Some(primary) = primary else {
            let (name, sql_type) = self.dialect().probe().row_id();
            return vec![(name.to_owned(), sql_type.to_owned())];
        };
        let columns = primary.columns.iter().filter_map(|name| table.column(name));
        columns
            .map(|column| (self.dialect().quote(&column.name), column.sql_type.clone()))
            .collect()
    }

    fn of_row<'d>(
        &self,
        mut statement: Statement<'d>,
        ground: &Ground<'_>,
        row: Option<&[Value]>,
    ) -> Statement<'d> {
        let row = row.unwrap_or_default();
        for (index, ((name, sql_type), value)) in ground.id.iter().zip(row).enumerate() {
            let word = if index == 0 { " WHERE" } else { " AND" };
            statement = statement
                .sql(&format!("{word} t.{name} = "))
                .bind(value.clone(), sql_type);
        }
        statement
    }

    /// Rows of watched keys, and rows from both ends of the table.
    async fn rows_to_try(
        &self,
        session: &mut dyn Session,
        ground: &Ground<'_>,
        belongs: Option<&[String]>,
        rows: u32,
    ) -> Result<Vec<Vec<Value>>, DbError> {
        let dialect = self.dialect();
        let names = ground.id.iter().map(|(name, _)| format!("t.{name}"));
        let exact: Vec<String> = names.clone().map(|name| dialect.exact(&name)).collect();
        let select = || {
            Statement::of(dialect, &format!("SELECT {} FROM ", exact.join(", ")))
                .table(&ground.table.name)
                .sql(" AS t")
        };
        let mut found = Vec::new();
        if let Some(columns) = belongs {
            let columns: Vec<String> = columns
                .iter()
                .map(|column| format!("t.{}", dialect.quote(column)))
                .collect();
            let keys = ground.watched.iter().map(Key::as_str);
            let statement = select()
                .sql(" WHERE ")
                .key_in(&dialect.key_text(&columns), keys)
                .sql(" LIMIT ")
                .int(rows.into());
            found = session.fetch(statement).await?;
        }
        let missing = i64::from(rows) - i64::try_from(found.len()).unwrap_or(i64::MAX);
        for (order, limit) in [("", missing - missing / 2), (" DESC", missing / 2)] {
            if limit < 1 {
                continue;
            }
            let order: Vec<String> = names.clone().map(|name| name + order).collect();
            let statement = select()
                .sql(&format!(" ORDER BY {} LIMIT ", order.join(", ")))
                .int(limit);
            for row in session.fetch(statement).await? {
                if !found.contains(&row) {
                    found.push(row);
                }
            }
        }
        Ok(found)
    }
}

/// Some of the fields that differ.
fn fields(before: &Seen, after: &Seen) -> Vec<String> {
    let (Ok(before), Ok(after)) = (before, after) else {
        return vec!["whether there is an image".to_owned()];
    };
    let found = diff(before, after, &Rules::new());
    let paths = found.into_iter().map(|field| field.path);
    paths.take(FIELDS).collect()
}

/// What tells an operator which row it was.
fn name_of(ground: &Ground<'_>, row: Option<&[Value]>) -> String {
    let Some(row) = row else {
        return format!("every row of {}", ground.table.name);
    };
    let parts: Vec<String> = ground
        .id
        .iter()
        .zip(row)
        .map(|((name, _), value)| {
            let value = match value {
                Value::Integer(number) => number.to_string(),
                Value::Text(text) => text.clone(),
                other => other.kind().to_owned(),
            };
            format!("{} {value}", name.trim_matches('"'))
        })
        .collect();
    format!("{} ({})", ground.table.name, parts.join(", "))
}
