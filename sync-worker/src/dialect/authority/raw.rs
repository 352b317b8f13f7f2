//! Pages that nobody looks into on their way.

use std::sync::Arc;

use changeover_flags::{Key, Version};
use changeover_shadow::Value;

use super::{SqlAuthority, integer, key_at};
use crate::dialect::bulk::{Bulk, still_has};
use crate::dialect::catalog::{Column, Table};
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::span::within;
use crate::dialect::statement::Statement;
use crate::dialect::{inspect, tables};
use crate::mapping::{Belongs, Identity, Mapping, Ownership, Shape, SourceQuery, Target};
use crate::preflight::Catalog;
use crate::store::{RawPage, RawRows};
use crate::sum::Span;

/// The most bytes of a page, in memory twice: one is written while the next one is read.
const MOST: usize = 16 << 20;

/// How each target is filled.
pub(super) type Moved = Vec<Move>;

/// How a target is filled.
#[derive(Debug, Clone)]
pub(super) struct Move {
    /// The query that does.
    query: usize,
    /// Where each column stands among its answers.
    columns: Vec<usize>,
    /// The columns of the query's table that they are, if each is one, of the type it goes to.
    plain: Option<Vec<Column>>,
}

/// How rows are moved, if every image is what the queries answer, as it is: owned rows without generated
/// ids, which point at no other row.
pub(super) fn moved(mapping: &dyn Mapping) -> Option<Moved> {
    let shape = mapping.shape();
    if !mapping.is_declared() || !shape.pointers.is_empty() {
        return None;
    }
    let moved = shape.targets.iter().enumerate().map(|(index, target)| {
        let Ownership::Owned {
            belongs: Belongs::Key(_),
            identity: Identity::Columns(_),
        } = target.ownership
        else {
            return None;
        };
        let fills = |query: &SourceQuery| query.fills == Some(index);
        let query = shape.queries.iter().position(fills)?;
        let select = &shape.queries.get(query)?.select;
        // The first answer names the row within its key, whatever the columns are called.
        let column = |name: &String| {
            let mut columns = select.iter().enumerate().skip(1);
            Some(columns.find(|(_, (known, _))| known == name)?.0)
        };
        let columns: Option<Vec<usize>> = target.columns.iter().map(column).collect();
        Some(Move {
            query,
            columns: columns?,
            plain: None,
        })
    });
    moved.collect()
}

/// The columns that fill a target as they are.
fn plain(
    bulk: &dyn Bulk,
    moved: &Move,
    target: &Target,
    shape: &Shape,
    catalog: &Catalog,
) -> Option<Vec<Column>> {
    let query = shape.queries.get(moved.query)?;
    let (mut sources, mut targets) = (catalog.authority.iter(), catalog.follower.iter());
    let from = sources.find(|table| table.name == query.from)?;
    let into = targets.find(|table| table.name == target.table)?;
    if query.from != shape.root.table && !bulk.is_name(&query.from) {
        return None;
    }
    let pairs = moved.columns.iter().zip(&target.columns);
    let plain = pairs.map(|(index, name)| {
        let (_, expression) = query.select.get(*index)?;
        let from = from.column(expression)?;
        let same = bulk.is_name(expression) && bulk.is_one_type(from, into.column(name)?);
        same.then(|| from.clone())
    });
    plain.collect()
}

/// Whether an error says nothing about the statement.
const fn is_passing(class: ErrorClass) -> bool {
    matches!(
        class,
        ErrorClass::Connection | ErrorClass::Busy | ErrorClass::NotInstalled
    )
}

/// How many keys a page has: so many, or fewer.
#[derive(Clone, Copy)]
enum Size {
    Full(i64),
    Last(i64),
}

/// Where a page ends.
struct Bounds {
    keys: u64,
    last: Key,
    base: Version,
}

impl SqlAuthority {
    pub(super) fn bulk(&self) -> Option<&dyn Bulk> {
        self.moved.as_ref().and(self.dialect().bulk())
    }

    /// The same, which knows the tables that its rows go to.
    pub(crate) fn moving_into(mut self, catalog: &Catalog) -> SqlAuthority {
        let shape = self.mapping.shape();
        let mut moved = self.moved.as_deref().cloned().unwrap_or_default();
        let Some(bulk) = self.bulk() else {
            return self;
        };
        for (one, target) in moved.iter_mut().zip(&shape.targets) {
            one.plain = plain(bulk, one, target, shape, catalog);
        }
        self.moved = (!self.respells(&catalog.follower)).then(|| Arc::new(moved));
        self
    }

    /// Whether rows of one of a follower's tables would write the key of their owner in another way: they
    /// are looked into, one by one.
    fn respells(&self, tables: &[Table]) -> bool {
        let dialect = self.dialect();
        let text = Column {
            sql_type: "text".into(),
            ..Column::default()
        };
        self.mapping.shape().targets.iter().any(|target| {
            let Some(Belongs::Key(names)) = target.belongs() else {
                return false;
            };
            let table = tables.iter().find(|table| table.name == target.table);
            let mut columns = names.iter().zip(self.key_columns.iter());
            columns.any(|(name, key)| {
                let column = table.and_then(|table| table.column(name));
                !column.is_some_and(|column| {
                    dialect.same_key_text(column, key) || dialect.same_key_text(column, &text)
                })
            })
        })
    }

    /// A page at one instant. A snapshot in which a statement failed is of no more use: the connection
    /// is closed, and so it is after a page that became too large.
    pub(super) async fn raw_page_in(
        &self,
        session: &mut dyn Session,
        span: &Span,
        limit: u32,
        base: Version,
    ) -> Result<Option<RawPage>, DbError> {
        let (Some(bulk), Some(moved)) = (self.bulk(), self.moved.as_ref()) else {
            return Ok(None);
        };
        session.script(&self.snapshot()).await?;
        let Some(bounds) = self.bounds(session, span, limit).await? else {
            session.script("COMMIT").await?;
            return Ok(Some(RawPage::default()));
        };
        if bounds.base != base {
            session.script("COMMIT").await?;
            return Ok(None);
        }
        let mut page = RawPage {
            targets: Vec::with_capacity(moved.len()),
            keys: bounds.keys,
            last: Some(bounds.last.clone()),
        };
        let queries = &self.mapping.shape().queries;
        for one in moved.iter() {
            let Some(query) = queries.get(one.query) else {
                return Ok(None);
            };
            // Not even a type may change between the question and the rows: the table is locked.
            let typed = match &one.plain {
                Some(plain) => {
                    still_has(self.dialect(), session, &query.from, plain.iter()).await?
                }
                None => false,
            };
            let select = self.moving(
                bulk,
                (query, &one.columns, typed),
                span.after.as_ref(),
                &bounds.last,
            );
            let sql = bulk.copy_out(&select, typed);
            let left = MOST.saturating_sub(page.bytes() as usize);
            match session.copy_out(&sql, left).await {
                Ok(Some(rows)) => page.targets.push(RawRows { rows, typed }),
                Ok(None) => return Ok(None),
                // What cannot be moved like this may have an image all the same.
                Err(error) if !is_passing(error.class) => {
                    tracing::debug!(%error, "a page is not moved as it is");
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        session.script("COMMIT").await?;
        Ok(Some(page))
    }

    /// How far `limit` keys of `span` reach; `None` where there are none.
    async fn bounds(
        &self,
        session: &mut dyn Session,
        span: &Span,
        limit: u32,
    ) -> Result<Option<Bounds>, DbError> {
        let limit = i64::from(limit.max(1));
        let full = self.bound(session, span, Size::Full(limit)).await?;
        // Numbering keys costs ten times as much as passing over them: only the last page needs it.
        match full {
            None => self.bound(session, span, Size::Last(limit)).await,
            full => Ok(full),
        }
    }

    async fn bound(
        &self,
        session: &mut dyn Session,
        span: &Span,
        size: Size,
    ) -> Result<Option<Bounds>, DbError> {
        let dialect = self.dialect();
        let (columns, outer) = (self.root_columns(), self.key_columns_of("p"));
        let (key, order) = (dialect.key_text(&outer), columns.join(", "));
        let numbered = format!(", row_number() OVER (ORDER BY {order}) AS changeover_number");
        let statement = Statement::of(dialect, &format!("SELECT {key}, "));
        let (statement, numbered) = match size {
            Size::Full(limit) => (statement.int(limit), ""),
            Size::Last(_) => (statement.sql("p.changeover_number"), &*numbered),
        };
        let statement = self.base(statement.sql(", "));
        let statement = statement
            .sql(&format!(" FROM (SELECT {order}{numbered} FROM "))
            .table(&self.root)
            .sql(" AS t WHERE ");
        let Some(statement) = within(statement, dialect, &columns, &self.key_columns, span) else {
            return Ok(None);
        };
        let statement = statement.sql(&format!(" ORDER BY {order} LIMIT "));
        let statement = match size {
            Size::Full(limit) => statement.sql("1 OFFSET ").int(limit - 1).sql(") AS p"),
            Size::Last(limit) => statement
                .int(limit)
                .sql(") AS p ORDER BY p.changeover_number DESC LIMIT 1"),
        };
        let rows = session.fetch(statement).await?;
        Ok(rows.first().and_then(|row| {
            Some(Bounds {
                last: key_at(row, 0)?,
                keys: row.get(1).map_or(0, integer).unsigned_abs(),
                base: Version(row.get(2).map_or(0, integer)),
            })
        }))
    }

    /// The key columns of the root table. Qualified, because a bare name in ORDER BY means the answer's
    /// column of that name, and `id::text` is called `id` too: pages would be in text order and rows
    /// would be skipped.
    pub(super) fn root_columns(&self) -> Vec<String> {
        self.key_columns_of("t")
    }

    pub(super) fn key_columns_of(&self, alias: &str) -> Vec<String> {
        let columns = self.key_columns.iter();
        columns
            .map(|column| format!("{alias}.{}", self.dialect().quote(&column.name)))
            .collect()
    }

    /// What a query answers for the keys up to `last` that were never stamped.
    fn moving(
        &self,
        bulk: &dyn Bulk,
        (query, columns, typed): (&SourceQuery, &[usize], bool),
        after: Option<&Key>,
        last: &Key,
    ) -> String {
        let (dialect, root) = (self.dialect(), &self.mapping.shape().root);
        let key = self.root_columns();
        let together = key.join(", ");
        let literals = |key: &Key| {
            let components = key.components(self.key_columns.len()).unwrap_or_default();
            let literals: Vec<String> = components
                .iter()
                .zip(self.key_columns.iter())
                .map(
                    |(component, column)| match dialect.key_value(component, column) {
                        Value::Text(text) => bulk.literal(&text, &column.sql_type),
                        _ => bulk.literal(component, &column.sql_type),
                    },
                )
                .collect();
            literals.join(", ")
        };
        let above = after.map_or_else(String::new, |after| {
            format!("({together}) > ({}) AND ", literals(after))
        });
        let range = format!(
            "{above}({together}) <= ({}) AND NOT EXISTS (SELECT 1 FROM {} changeover_stamp \
             WHERE changeover_stamp.key = {} AND changeover_stamp.entity = '{}' AND changeover_stamp.place = '{}')",
            literals(last),
            dialect.table(tables::KEY),
            dialect.key_text(&key),
            self.entity,
            self.place,
        );
        let table = dialect.table(&root.table);
        let select: Vec<String> = columns
            .iter()
            .filter_map(|index| query.select.get(*index))
            .map(|(_, expression)| match typed {
                true => expression.clone(),
                false => dialect.exact(expression),
            })
            .collect();
        let (select, expressions) = (select.join(", "), inspect::key(dialect, root, query));
        let filter = query.filter.as_ref();
        let own: Vec<String> = root.key.iter().map(|name| dialect.quote(name)).collect();
        if query.from == root.table && expressions == own {
            let name = root.table.rsplit('.').next().unwrap_or(&root.table);
            let filter = filter.map_or_else(String::new, |filter| format!(" WHERE ({filter})"));
            return format!(
                "SELECT {select} FROM (SELECT t.* FROM {table} AS t WHERE {range}) AS {}{filter}",
                dialect.quote(name)
            );
        }
        let (mut named, mut same) = (Vec::new(), Vec::new());
        for (n, (column, expression)) in key.iter().zip(&expressions).enumerate() {
            named.push(format!("{column} AS changeover_c{n}"));
            same.push(format!("({expression}) = changeover_keys.changeover_c{n}"));
        }
        let filter = filter.map_or_else(String::new, |filter| format!(" AND ({filter})"));
        format!(
            "SELECT {select} FROM (SELECT {} FROM {table} AS t WHERE {range}) AS changeover_keys \
             CROSS JOIN {} WHERE {}{filter}",
            named.join(", "),
            inspect::from(dialect, root, query),
            same.join(" AND "),
        )
    }
}
