//! Stamps: whatever changes an image must stamp its key.
//!
//! The declared sources are not believed. Rows of every table of the legacy database are changed,
//! one column at a time, in a transaction that is rolled back, and the images of the watched keys
//! are read within it: a key whose image has changed must have a new version there. Of a table that
//! is not declared, which rows an image might read is not known: all of them are changed together, too.

use changeover_flags::Key;

use super::{Contract, Finding, Report, Rule, Sample};
use crate::dialect::authority::{Trials, Unstamped};
use crate::dialect::catalog::Table;
use crate::dialect::session::DbError;
use crate::mapping::{KeyExpression, Shape};
use crate::store::StoreError;

/// What a mapping says of a table.
enum Declared {
    Root(Vec<String>),
    Source(KeyExpression),
    Nothing,
}

impl Declared {
    fn is(&self) -> bool {
        !matches!(self, Declared::Nothing)
    }
}

impl Contract {
    /// Changes rows of every table and looks for images that change without a stamp.
    ///
    /// # Errors
    ///
    /// As [`sample`](Contract::sample).
    pub async fn stamps(&self, sample: &Sample, report: &mut Report) -> Result<(), StoreError> {
        let watched = spread(&sample.keys, self.options.watched.max(1) as usize);
        let shape = self.migration.mapping.shape();
        if watched.is_empty() {
            report.add_not_tried(Rule::Stamps, "every table", "there is no key to watch");
            return Ok(());
        }
        let beside_new = self.one_database().await?;
        for name in self.migration.authority.tables().await? {
            let Some(table) = self.migration.authority.describe(&name).await? else {
                let why = "the database does not describe it under this name";
                report.add_not_tried(Rule::Stamps, format!("table {name}"), why);
                continue;
            };
            let same = |known: &&Table| known.canonical == table.canonical;
            let catalog = &self.migration.catalog;
            if beside_new && catalog.follower.iter().any(|known| same(&known)) {
                continue;
            }
            let declared = declared(shape, catalog.authority.iter().find(same));
            let belongs = match &declared {
                Declared::Root(columns) | Declared::Source(KeyExpression::Columns(columns)) => {
                    Some(columns.as_slice())
                }
                _ => None,
            };
            let rows = self.options.rows_per_table.max(1);
            let trials = self
                .migration
                .authority
                .try_changes(&table, belongs, declared.is(), &watched, rows)
                .await?;
            tell(&table, &declared, &trials, report);
        }
        Ok(())
    }

    /// Whether both sides are one database, in which the new tables stand beside the legacy ones.
    async fn one_database(&self) -> Result<bool, StoreError> {
        let mut places = Vec::new();
        for database in [&self.migration.legacy, &self.migration.new] {
            let identity = async {
                let mut lease = database.session().await?;
                let identity = database.dialect().identity(lease.session()).await?;
                lease.give_back();
                Ok(identity)
            };
            let identity: Result<String, DbError> = identity.await;
            let store = database.dialect().place_name();
            places.push(identity.map_err(|error| error.at(store, "asking which database it is"))?);
        }
        Ok(places.first() == places.last())
    }
}

/// At most `limit` of `keys`, from all over.
fn spread(keys: &[Key], limit: usize) -> Vec<Key> {
    let step = keys.len().div_ceil(limit).max(1);
    keys.iter().step_by(step).cloned().collect()
}

/// What the mapping says of a table that it names as `known`.
fn declared(shape: &Shape, known: Option<&Table>) -> Declared {
    let Some(known) = known else {
        return Declared::Nothing;
    };
    if known.name == shape.root.table {
        return Declared::Root(shape.root.key.clone());
    }
    let mut sources = shape.sources.iter();
    let source = sources.find(|source| source.table == known.name);
    source.map_or(Declared::Nothing, |source| {
        Declared::Source(source.key.clone())
    })
}

fn tell(table: &Table, declared: &Declared, trials: &Trials, report: &mut Report) {
    let name = &table.name;
    report.try_on(
        Rule::Stamps,
        usize::try_from(trials.changes).unwrap_or(usize::MAX),
    );
    for one in &trials.unstamped {
        report.add(finding(name, declared, one));
    }
    for (column, why) in &trials.refused {
        report.add_not_tried(Rule::Stamps, format!("{name}.{column}"), why.as_str());
    }
    let why = if trials.rows == 0 {
        "it has no rows".to_owned()
    } else if declared.is() && trials.shown == 0 {
        format!(
            "none of {} changes of {} rows showed in a watched image, so its keys are not confirmed: try more rows, or watch more keys",
            trials.changes, trials.rows
        )
    } else if let Some(why) = &trials.apart {
        format!("only {} of its rows were changed: {why}", trials.rows)
    } else {
        return;
    };
    report.add_not_tried(Rule::Stamps, format!("table {name}"), why);
}

fn finding(table: &str, declared: &Declared, one: &Unstamped) -> Finding {
    let Unstamped {
        key,
        row,
        column,
        fields,
    } = one;
    let fields = fields.join(", ");
    let done = match column {
        Some(column) => format!("changing column {column} of {row}"),
        None => format!("deleting {row}"),
    };
    let remedy = match declared {
        Declared::Nothing => format!(
            "the mapping reads table {table} without saying so: add [source.{table}] with the key columns of its rows, or keys = \"a query of the keys that depend on $row\""
        ),
        Declared::Source(KeyExpression::Columns(columns)) => format!(
            "source.{table}.key = {columns:?} names another key than the one that reads the row: correct it, or use keys = \"a query of the keys that depend on $row\""
        ),
        Declared::Source(KeyExpression::Query(_)) => format!(
            "the query in source.{table}.keys does not answer this key for the row: correct it"
        ),
        Declared::Root(_) => format!(
            "another key reads this row of {table}: an image may read the root's rows of its own key alone; add the table that says so as a source, or read from a query over it"
        ),
    };
    Finding {
        rule: Rule::Stamps,
        key: Some(key.to_string()),
        found: format!(
            "{done} changes its image ({fields}) and does not stamp it: the change would never be copied"
        ),
        remedy,
    }
}
