//! What makes a side the authority or the follower, and whether it is all still there.
//!
//! A table that takes another's name has none of its triggers: a swap by `RENAME`, as tools that change
//! tables online make it, or one that was dropped and created again. Nothing is refused then, writes leave
//! no stamp, and both sides go on looking equal to whoever asks for dirty keys. So whatever would stand as
//! evidence, and whoever begins to copy, asks for the triggers first.

use changeover_flags::Version;
use changeover_shadow::Value;

use super::catalog::{Table, Trigger};
use super::install::{Guard, Reject, Side, Stamp};
use super::session::{DbError, Session, on_session};
use super::statement::Statement;
use crate::mapping::{KeyExpression, Ownership};
use crate::store::StoreError;

/// The statements about each table.
type Scripts<'s> = Vec<(&'s Table, Vec<String>)>;

impl Side<'_> {
    /// The statements that make this side the authority, at this base.
    #[must_use]
    pub fn authority_script(&self, base: Version) -> Vec<String> {
        whole(self.stamps(base))
    }

    /// The statements that make this side the follower.
    #[must_use]
    pub fn follower_script(&self) -> Vec<String> {
        whole(self.rejects())
    }

    /// The tables whose writes leave no stamp, or not every one does: their triggers are gone, are another
    /// table's, or are switched off.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database does not answer.
    pub(crate) async fn unstamped(&self) -> Result<Vec<String>, StoreError> {
        self.bare(self.stamps(Version(0))).await
    }

    /// The tables that no longer refuse all but copies.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database does not answer.
    pub(crate) async fn unguarded(&self) -> Result<Vec<String>, StoreError> {
        self.bare(self.rejects()).await
    }

    /// Drops the triggers that went away with their table. Where a name is one for all tables, those that
    /// are to take their place could not be created.
    pub(super) async fn drop_strays(&self, session: &mut dyn Session) -> Result<(), DbError> {
        let mut scripts = self.stamps(Version(0));
        scripts.extend(self.rejects());
        for Trigger { name, table, .. } in self.triggers(session).await? {
            let is_stray = |(of, script): &(&Table, Vec<String>)| {
                of.canonical != table && created(script).any(|created| created == name)
            };
            if scripts.iter().any(is_stray) {
                let drop = format!("DROP TRIGGER IF EXISTS {name}");
                session.script(&drop).await?;
            }
        }
        Ok(())
    }

    fn stamps(&self, base: Version) -> Scripts<'_> {
        let root = KeyExpression::Columns(self.shape.root.key.clone());
        let sources = std::iter::once((&self.shape.root.table, &root)).chain(
            self.shape
                .sources
                .iter()
                .map(|source| (&source.table, &source.key)),
        );
        let of = |(index, (name, key)): (usize, (&String, &KeyExpression))| {
            let table = self.tables.iter().find(|table| table.name == *name)?;
            let script = self.database.dialect().stamp_objects(&Stamp {
                entity: self.entity.as_str(),
                place: self.place.as_str(),
                table,
                index,
                key,
                root: &self.shape.root,
                base: base.0,
            });
            Some((table, script))
        };
        sources.enumerate().filter_map(of).collect()
    }

    fn rejects(&self) -> Scripts<'_> {
        let mut scripts = Vec::new();
        let mut push = |index: usize, name: &str, guard: Guard<'_>| {
            if let Some(table) = self.tables.iter().find(|table| table.name == name) {
                let script = self.database.dialect().reject_objects(&Reject {
                    entity: self.entity.as_str(),
                    place: self.place.as_str(),
                    table,
                    index,
                    guard,
                });
                scripts.push((table, script));
            }
        };
        for (index, target) in self.shape.targets.iter().enumerate() {
            match &target.ownership {
                Ownership::Owned { .. } => push(index, &target.table, Guard::Owned),
                Ownership::Shared { identity, .. } => {
                    push(index, &target.table, Guard::Shared(identity));
                }
            }
        }
        for (index, lookup) in (self.shape.targets.len()..).zip(&self.shape.lookups) {
            let columns = [lookup.by.clone(), lookup.value.clone()];
            push(index, &lookup.table, Guard::Lookup(&columns));
        }
        scripts
    }

    async fn bare(&self, scripts: Scripts<'_>) -> Result<Vec<String>, StoreError> {
        let side = self;
        on_session!(side, "looking for the triggers of", |session| async move {
            let there = side.triggers(session).await?;
            let mut bare: Vec<String> = Vec::new();
            for (table, script) in scripts {
                // By its name as of now: what is known of it may be of the table before.
                let named = side.database.dialect().describe(session, &table.name);
                let named = named.await?.map(|named| named.canonical);
                let fires = |name: &str| {
                    let is_it = |trigger: &Trigger| {
                        trigger.fires
                            && trigger.name == name
                            && named.as_ref() == Some(&trigger.table)
                    };
                    there.iter().any(is_it)
                };
                if !created(&script).all(fires) && !bare.contains(&table.name) {
                    bare.push(table.name.clone());
                }
            }
            Ok::<_, DbError>(bare)
        })
        .await
    }

    /// The product's triggers in this side's database.
    async fn triggers(&self, session: &mut dyn Session) -> Result<Vec<Trigger>, DbError> {
        let dialect = self.database.dialect();
        let sql = dialect
            .triggers()
            .replace("{entity}", self.entity.as_str())
            .replace("{place}", self.place.as_str());
        let rows = session.fetch(Statement::of(dialect, &sql)).await?;
        Ok(rows.into_iter().filter_map(trigger).collect())
    }
}

fn trigger(row: Vec<Value>) -> Option<Trigger> {
    match <[Value; 3]>::try_from(row) {
        Ok([Value::Text(name), Value::Text(table), fires]) => Some(Trigger {
            name,
            table,
            fires: matches!(fires, Value::Boolean(true) | Value::Integer(1)),
        }),
        _ => None,
    }
}

fn whole(scripts: Scripts<'_>) -> Vec<String> {
    scripts.into_iter().flat_map(|(_, script)| script).collect()
}

/// The triggers that a script creates.
fn created(script: &[String]) -> impl Iterator<Item = &str> {
    script.iter().filter_map(|sql| {
        sql.strip_prefix("CREATE OR REPLACE TRIGGER ")
            .or_else(|| sql.strip_prefix("CREATE TRIGGER "))?
            .split_whitespace()
            .next()
    })
}
