//! Rows of keys that no page shows: the root table has no row of theirs, or one whose key is no text.

use std::collections::HashSet;

use changeover_flags::Key;

use super::SqlAuthority;
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::span::{first_keys, keys_of};
use crate::dialect::statement::Statement;
use crate::dialect::sums::RowsOf;
use crate::dialect::{Dialect, inspect};
use crate::image::Image;
use crate::mapping::{Root, Shape, SourceQuery};
use crate::sum::Span;

/// Where such keys are looked for: the mapping's queries that may answer rows without one of the root
/// table, and the root table's rows with a key of bytes.
pub(super) fn sources(dialect: &dyn Dialect, shape: &Shape, key: &[Column]) -> Vec<RowsOf> {
    let (root, sums) = (&shape.root, dialect.sums());
    // One for each text of a key: of bytes their name.
    let part = |(part, column): (&String, &Column)| match sums.least_bytes(column) {
        Some(_) => dialect.key_text(std::slice::from_ref(part)),
        None => sums.plain(part, column),
    };
    let mut sources: Vec<RowsOf> = Vec::new();
    let queries = shape.queries.iter();
    for query in queries.filter(|query| !is_of_root(root, query)) {
        let parts = inspect::key(dialect, root, query);
        let rows = RowsOf {
            from: inspect::from(dialect, root, query),
            beside: String::new(),
            key: parts.iter().zip(key).map(part).collect(),
            filter: query.filter.clone(),
            values: Vec::new(),
        };
        if !sources.contains(&rows) {
            sources.push(rows);
        }
    }
    let columns: Vec<String> = key.iter().map(|c| dialect.quote(&c.name)).collect();
    let bytes = columns.iter().zip(key).filter_map(|(name, column)| {
        let least = sums.least_bytes(column)?;
        Some(format!("{name} >= {least}"))
    });
    let bytes: Vec<String> = bytes.collect();
    if !bytes.is_empty() {
        let (table, bytes) = (dialect.table(&root.table), bytes.join(" OR "));
        sources.push(RowsOf {
            from: format!("(SELECT * FROM {table} WHERE {bytes}) AS changeover_bytes"),
            beside: String::new(),
            key: columns.iter().zip(key).map(part).collect(),
            filter: None,
            values: Vec::new(),
        });
    }
    sources
}

/// Whether the key is read from the root table, in whatever it is joined to: such a row has one there.
fn is_of_root(root: &Root, query: &SourceQuery) -> bool {
    let mut words = query.from.split_whitespace();
    if words.next() != Some(&root.table) {
        return false;
    }
    let named = words.find(|word| !word.eq_ignore_ascii_case("as"));
    let of_root = |(column, key): (&String, &String)| match named {
        Some(alias) => *column == format!("{alias}.{key}"),
        None => column == key,
    };
    query.key.len() == root.key.len() && query.key.iter().zip(&root.key).all(of_root)
}

impl SqlAuthority {
    /// Keys that have rows, and none in the root table that is found by them.
    pub(super) async fn orphans_in(
        &self,
        session: &mut dyn Session,
        span: &Span,
        limit: u32,
    ) -> Result<Vec<Key>, DbError> {
        let dialect = self.dialect();
        let same: Vec<String> = (self.key_columns.iter().enumerate())
            .map(|(n, column)| {
                let name = format!("t.{}", dialect.quote(&column.name));
                format!("{} = r.o{n}", dialect.sums().plain(&name, column))
            })
            .collect();
        let orphaned = format!(
            "NOT EXISTS (SELECT 1 FROM {} t WHERE {})",
            dialect.table(&self.root),
            same.join(" AND ")
        );
        let orphaned = self.first_of_sources(session, |rows| rows.sql(&orphaned), span, limit);
        orphaned.await
    }

    /// The first keys of the sources' rows that meet a condition. Where a filter fails on some row, also
    /// those whose rows no filter lets through: their images are empty.
    async fn first_of_sources<'s>(
        &'s self,
        session: &mut dyn Session,
        condition: impl Fn(Statement<'s>) -> Statement<'s>,
        span: &Span,
        limit: u32,
    ) -> Result<Vec<Key>, DbError> {
        let asked = |sources: &[RowsOf]| {
            let within = (span, &**self.key_columns);
            first_keys(self.dialect(), sources, &condition, within, limit)
        };
        let Some(filtered) = asked(&self.orphans) else {
            return Ok(Vec::new());
        };
        match keys_of(session, filtered, 0).await {
            Err(error) if error.class == ErrorClass::Data => {
                let unfiltered = |rows: &RowsOf| RowsOf {
                    filter: None,
                    ..rows.clone()
                };
                let sources: Vec<RowsOf> = self.orphans.iter().map(unfiltered).collect();
                match asked(&sources) {
                    Some(statement) => keys_of(session, statement, 0).await,
                    None => Ok(Vec::new()),
                }
            }
            answer => answer,
        }
    }

    /// Takes images away that are empty because no row of the root table can have the key as it is asked for,
    /// where there are rows of it.
    pub(super) async fn not_of_misfits<'s>(
        &'s self,
        session: &mut dyn Session,
        keys: &[Key],
        images: &mut [Result<Image, String>],
    ) -> Result<(), DbError> {
        let empty = |image: &Result<Image, String>| image.as_ref().is_ok_and(Image::is_empty);
        let images = keys.iter().zip(images).filter(|(_, image)| empty(image));
        let misfits = images.filter_map(|(key, image)| Some((key, image, self.misfit(key)?)));
        let misfits: Vec<_> = misfits.collect();
        if misfits.is_empty() {
            return Ok(());
        }
        let named: Vec<&str> = misfits.iter().map(|(key, ..)| key.as_str()).collect();
        let limit = u32::try_from(named.len()).unwrap_or(u32::MAX);
        let everywhere = Span::default();
        let of_these = |rows: Statement<'s>| rows.key_in("r.k", named.iter().copied());
        let stored = self.first_of_sources(session, of_these, &everywhere, limit);
        let stored: HashSet<Key> = stored.await?.into_iter().collect();
        for (key, image, reason) in misfits {
            if stored.contains(key) {
                *image = Err(reason);
            }
        }
        Ok(())
    }

    /// Why no row of the root table is found by a key, if that is so of every row.
    fn misfit(&self, key: &Key) -> Option<String> {
        let (dialect, root) = (self.dialect(), &self.root);
        let components = key.components(self.key_columns.len())?;
        let mut parts = components.iter().zip(self.key_columns.iter());
        parts.find_map(|(component, column)| {
            if dialect.sums().names_bytes(component, column) {
                return Some("its key is stored as bytes: store it as text".to_owned());
            }
            (!dialect.key_fits(component, column)).then(|| {
                let name = &column.name;
                format!("rows have a key that {name} of {root} cannot hold: delete them, or give them one that it has")
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_from_the_root_table_has_a_row_there() {
        let root = Root {
            table: "listings".to_owned(),
            key: vec!["id".to_owned()],
        };
        for (from, key, is) in [
            ("listings", "id", true),
            (
                "listings l LEFT JOIN tenants t ON t.id = l.tenant_id",
                "l.id",
                true,
            ),
            (
                "listings AS l\nJOIN tenants t ON t.id = l.tenant_id",
                "l.id",
                true,
            ),
            (
                "listings l JOIN photos p ON p.listing_id = l.id",
                "p.listing_id",
                false,
            ),
            (
                "listings l JOIN photos p ON p.listing_id = l.id",
                "id",
                false,
            ),
            (
                "listings JOIN photos ON listing_id = listings.id",
                "listings.id",
                false,
            ),
            (
                "photos p JOIN listings l ON p.listing_id = l.id",
                "l.id",
                false,
            ),
            ("photos", "listing_id", false),
            ("listings", "other_id", false),
            ("", "id", false),
        ] {
            let query = SourceQuery {
                from: from.to_owned(),
                key: vec![key.to_owned()],
                name: String::new(),
                fills: None,
                select: Vec::new(),
                filter: None,
            };
            assert_eq!(is_of_root(&root, &query), is, "{from}: {key}");
        }
    }
}
