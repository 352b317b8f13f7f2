//! What the contract's checks ask of an engine: which tables there are, how a row of any of them can
//! be changed, and which transactions stay open.

use changeover_shadow::Value;
use futures_util::future::BoxFuture;

use super::Dialect;
use super::catalog::Column;
use super::session::{DbError, Session};
use super::statement::Statement;

/// What differs between engines when somebody else's tables are tried.
pub trait Probe: Send + Sync {
    /// The application's tables that this role sees, the product's own apart, by the names that
    /// [`Dialect::describe`] takes.
    fn tables<'a>(
        &'a self,
        session: &'a mut dyn Session,
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>>;

    /// What names a row of a table without a primary key: (expression, type).
    fn row_id(&self) -> (&'static str, &'static str);

    /// Expressions over `current`, the quoted column, that are another value than it holds. Each
    /// may be refused by a constraint.
    fn other_values(&self, current: &str, column: &Column) -> Vec<String>;

    /// The transactions of others that are open in this database, one line each, without values of
    /// rows. The worker's own are not listed. SQLite tells of one that has written alone.
    fn open_transactions<'a>(
        &'a self,
        session: &'a mut dyn Session,
    ) -> BoxFuture<'a, Result<Vec<String>, DbError>>;
}

/// The texts that a query of one column answers.
pub(super) async fn texts(
    dialect: &dyn Dialect,
    session: &mut dyn Session,
    sql: &str,
) -> Result<Vec<String>, DbError> {
    let rows = session.fetch(Statement::of(dialect, sql)).await?;
    let texts = rows.into_iter().flatten();
    Ok(texts
        .filter_map(|value| match value {
            Value::Text(text) => Some(text),
            _ => None,
        })
        .collect())
}
