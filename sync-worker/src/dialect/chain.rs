//! [`Chain`]: from a target's rows to the columns that have their key.

use super::Dialect;
use crate::mapping::{Belongs, Target};

/// How rows on the follower's side have a key: in columns of theirs, or in those of the row that they belong to, that
/// of the one which that belongs to, and so on, all joined.
pub(super) struct Chain<'t> {
    /// What rows are read from as far as they have a key.
    pub(super) from: String,
    /// Expressions that are the key's components.
    pub(super) key: Vec<String>,
    /// The target whose columns these are.
    pub(super) end: (&'t Target, &'t [String]),
    /// On the way there: the column of which target names a row of which other.
    pub(super) steps: Vec<(&'t Target, &'t str, &'t Target)>,
}

impl<'t> Chain<'t> {
    /// The chain from `target`, whose rows are called so, among all targets of a mapping; `None` for shared rows, which
    /// have no key.
    pub(super) fn of(
        dialect: &dyn Dialect,
        target_at: impl Fn(usize) -> Option<&'t Target>,
        target: &'t Target,
        called: &str,
    ) -> Option<Chain<'t>> {
        let (mut of, mut name) = (target, called.to_owned());
        let mut from = format!("{} {called}", dialect.table(&target.table));
        let mut steps = Vec::new();
        loop {
            match of.belongs()? {
                Belongs::Key(columns) => {
                    let key = columns.iter();
                    let key = key.map(|column| format!("{name}.{}", dialect.quote(column)));
                    return Some(Chain {
                        from,
                        key: key.collect(),
                        end: (of, columns),
                        steps,
                    });
                }
                Belongs::Row { column, target } => {
                    // Those that rows belong to stand before them, so this ends.
                    let next = target_at(*target)?;
                    let alias = format!("{called}{}", steps.len());
                    from.push_str(&format!(
                        " JOIN {} {alias} ON {alias}.{} = {name}.{}",
                        dialect.table(&next.table),
                        dialect.quote(next.id_column()?),
                        dialect.quote(column),
                    ));
                    steps.push((of, column.as_str(), next));
                    (of, name) = (next, alias);
                }
            }
        }
    }
}
