//! Rows of keys that no page shows: the root table has no row of theirs, or one whose key is no text.

use changeover_flags::Key;

use super::SqlAuthority;
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::span::{first_keys, keys_of};
use crate::dialect::statement::Statement;
use crate::dialect::sums::RowsOf;
use crate::dialect::{Dialect, inspect};
use crate::image::Image;
use crate::mapping::Shape;
use crate::sum::Span;

/// Where such keys are looked for: the mapping's queries that may answer rows without one of the root
/// table, and the root table's rows with a key of bytes.
pub(super) fn sources(dialect: &dyn Dialect, shape: &Shape, key: &[Column]) -> Vec<RowsOf> {
    let root = &shape.root;
    let mut sources: Vec<RowsOf> = Vec::new();
    let queries = shape.queries.iter();
    for query in queries.filter(|query| query.from != root.table || query.key != root.key) {
        let rows = RowsOf {
            from: inspect::from(dialect, root, query),
            beside: String::new(),
            key: inspect::key(dialect, root, query),
            filter: query.filter.clone(),
            values: Vec::new(),
        };
        if !sources.contains(&rows) {
            sources.push(rows);
        }
    }
    let quoted = |column: &Column| dialect.quote(&column.name);
    let bytes = key.iter().filter_map(|column| {
        let least = dialect.sums().least_bytes(column)?;
        Some(format!("{} >= {least}", quoted(column)))
    });
    let bytes: Vec<String> = bytes.collect();
    if !bytes.is_empty() {
        let text = |column: &Column| match dialect.sums().least_bytes(column) {
            Some(_) => dialect.key_text(&[quoted(column)]),
            None => quoted(column),
        };
        let (table, bytes) = (dialect.table(&root.table), bytes.join(" OR "));
        sources.push(RowsOf {
            from: format!("(SELECT * FROM {table} WHERE {bytes}) AS changeover_bytes"),
            beside: String::new(),
            key: key.iter().map(text).collect(),
            filter: None,
            values: Vec::new(),
        });
    }
    sources
}

impl SqlAuthority {
    /// Keys that have rows, and none in the root table that is found by them. Where a filter fails on some
    /// row, also those whose rows no filter lets through: their images are empty.
    pub(super) async fn orphans_in(
        &self,
        session: &mut dyn Session,
        span: &Span,
        limit: u32,
    ) -> Result<Vec<Key>, DbError> {
        match self.orphans_of(session, &self.orphans, span, limit).await {
            Err(error) if error.class == ErrorClass::Data => {
                let unfiltered = |rows: &RowsOf| RowsOf {
                    filter: None,
                    ..rows.clone()
                };
                let sources: Vec<RowsOf> = self.orphans.iter().map(unfiltered).collect();
                self.orphans_of(session, &sources, span, limit).await
            }
            answer => answer,
        }
    }

    async fn orphans_of(
        &self,
        session: &mut dyn Session,
        sources: &[RowsOf],
        span: &Span,
        limit: u32,
    ) -> Result<Vec<Key>, DbError> {
        let dialect = self.dialect();
        let same: Vec<String> = (self.key_columns.iter().enumerate())
            .map(|(n, column)| format!("t.{} = r.o{n}", dialect.quote(&column.name)))
            .collect();
        let orphaned = format!(
            "NOT EXISTS (SELECT 1 FROM {} t WHERE {})",
            dialect.table(&self.root),
            same.join(" AND ")
        );
        let within = (span, &**self.key_columns);
        match first_keys(dialect, sources.iter(), &orphaned, within, limit) {
            Some(statement) => keys_of(session, statement, 0).await,
            None => Ok(Vec::new()),
        }
    }

    /// Takes images away that are empty because the key's row is not found by its text.
    pub(super) async fn not_of_bytes(
        &self,
        session: &mut dyn Session,
        keys: &[Key],
        images: &mut [Result<Image, String>],
    ) -> Result<(), DbError> {
        let dialect = self.dialect();
        let holds_bytes = |column: &Column| dialect.sums().least_bytes(column).is_some();
        if !self.key_columns.iter().any(holds_bytes) {
            return Ok(());
        }
        let empty = |image: &Result<Image, String>| image.as_ref().is_ok_and(Image::is_empty);
        let empty = keys.iter().zip(&*images).filter(|(_, image)| empty(image));
        let empty: Vec<Key> = empty.map(|(key, _)| key.clone()).collect();
        if empty.is_empty() {
            return Ok(());
        }
        let same = (0..).zip(self.key_columns.iter()).map(|(n, column)| {
            let (stored, asked) = (
                format!("t.{}", dialect.quote(&column.name)),
                format!("changeover_c{n}"),
            );
            match holds_bytes(column) {
                true => format!("({stored} = CAST({asked} AS BLOB) OR {stored} = {asked})"),
                false => format!("{stored} = {asked}"),
            }
        });
        let same: Vec<String> = same.collect();
        let statement = Statement::of(dialect, "SELECT changeover_key FROM ");
        let statement = self
            .bound_keys(statement, &empty)
            .sql(" WHERE EXISTS (SELECT 1 FROM ")
            .table(&self.root)
            .sql(&format!(" t WHERE {})", same.join(" AND ")));
        let stored = keys_of(session, statement, 0).await?;
        let rootless = self.rootless_in(session, &empty).await?;
        for (key, image) in keys.iter().zip(images) {
            if stored.contains(key) && rootless.contains(key) {
                let reason = format!(
                    "its key is stored as bytes in {}, and its text finds no row: store it as text",
                    self.root
                );
                *image = Err(reason);
            }
        }
        Ok(())
    }
}
