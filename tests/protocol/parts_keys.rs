//! Sweeps that several processes share, by keys that are no numbers: of two columns, `uuid`, text.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use changeover::worker::backfill::BackfillOptions;
use changeover::worker::migration::Migration;
use changeover::worker::pace::Pacing;

use super::lifecycle::everywhere_and_on_pairs;
use super::market::{Engine, Market, Plain, Topology, drain, verify};

everywhere_and_on_pairs!(two_columns, uuids, texts,);

const ROWS: u32 = 400;

/// A key: its columns, and its value in the row `n`.
#[derive(Clone, Copy)]
struct Kind {
    columns: &'static [&'static str],
    /// What the columns are declared as.
    declared: fn(Engine) -> String,
    /// A row's values.
    of: fn(u32) -> String,
}

impl Kind {
    fn names(self) -> String {
        self.columns.join(", ")
    }

    /// The condition for the row `n`.
    fn is(self, n: u32) -> String {
        format!("({}) = ({})", self.names(), (self.of)(n))
    }
}

const TWO_COLUMNS: Kind = Kind {
    columns: &["region", "number"],
    declared: |engine| engine.schema("region {exact} NOT NULL, number bigint NOT NULL"),
    // As numbers 9 comes before 10, as texts behind it.
    of: |n| format!("'r {}', {}", n % 7, i64::from(n) - 40),
};

const UUIDS: Kind = Kind {
    columns: &["id"],
    declared: |engine| match engine {
        Engine::Sqlite => "id text NOT NULL".into(),
        Engine::Postgres | Engine::Mariadb => "id uuid NOT NULL".into(),
    },
    of: |n| {
        let mixed = n.wrapping_mul(2_654_435_769);
        let (a, b) = (mixed ^ n, mixed >> 16);
        format!(
            "'{a:08x}-{b:04x}-{:04x}-{:04x}-{n:012x}'",
            0x4000 | n & 0xfff,
            0x8000 | b & 0xfff
        )
    },
};

const TEXTS: Kind = Kind {
    columns: &["code"],
    declared: |engine| engine.schema("code {exact} NOT NULL"),
    of: |n| {
        let first = ["a", "B", "b", "é", "Z_", "%", " ", "10", "9", "\\"];
        format!("'{}{n}'", first[n as usize % first.len()])
    },
};

/// Both tables, with history.
async fn shop(topology: Topology, kind: Kind) -> (Market, Migration) {
    let market = Market::start(topology).await;
    for (side, table) in [(&market.legacy, "items"), (&market.new, "wares")] {
        let (declared, names) = ((kind.declared)(side.engine()), kind.names());
        side.run(&format!(
            "CREATE TABLE {table} ({declared}, title text, PRIMARY KEY ({names}))"
        ))
        .await;
    }
    let rows: Vec<String> = (1..=ROWS)
        .map(|n| format!("({}, 'n{n}')", (kind.of)(n)))
        .collect();
    let insert = format!("INSERT INTO items VALUES {}", rows.join(", "));
    market.legacy.run(&insert).await;
    let quoted: Vec<String> = kind
        .columns
        .iter()
        .map(|name| format!("'{name}'"))
        .collect();
    let key = quoted.join(", ");
    let columns: String = (kind.columns.iter())
        .map(|name| format!("{name} = '{name}', "))
        .collect();
    let migration = market
        .installed_with(&format!(
            "revision = 1\nroot = {{ table = 'items', key = [{key}] }}\n[[target]]\nname = 'ware'\n\
             table = 'wares'\nowned_by = {{ key = [{key}] }}\nidentity = [{key}]\n\
             columns = {{ {columns} title = 'title' }}"
        ))
        .await;
    (market, migration)
}

async fn said(market: &Market, kind: Kind) -> [Vec<String>; 2] {
    let key: Vec<String> = (kind.columns.iter())
        .map(|name| format!("CAST({name} AS text)"))
        .collect();
    let key = key.join(" || '/' || ");
    let rows = async |side: &Plain, table: &str| {
        let sql = format!("SELECT {key} || ' ' || coalesce(title, '-') FROM {table}");
        let mut rows = side.texts(&sql).await;
        rows.sort_unstable();
        rows
    };
    [
        rows(&market.legacy, "items").await,
        rows(&market.new, "wares").await,
    ]
}

async fn shared(topology: Topology, kind: Kind) {
    for load in [true, false] {
        shared_by(topology, kind, load).await;
    }
}

/// Two processes at one history; the first one waits until the second one has found work of its own.
async fn shared_by(topology: Topology, kind: Kind, load: bool) {
    let (market, migration) = shop(topology, kind).await;
    let sweep = |parts, workers, seed| {
        migration.backfill(BackfillOptions {
            page: 3,
            load_page: Some(3),
            parts,
            workers,
            seed,
            load,
            pacing: Pacing::UNLIMITED,
            ..BackfillOptions::default()
        })
    };
    let (one, two) = (sweep(4, 2, 1), sweep(1, 1, 2));
    let first = one.control();
    first.set_workers(1);
    let (pages, others) = (AtomicU64::new(0), AtomicU64::new(0));
    let writes = format!(
        "UPDATE items SET title = 'now' WHERE {} OR {}; DELETE FROM items WHERE {}; \
         INSERT INTO items VALUES ({}, 'new')",
        kind.is(3),
        kind.is(ROWS),
        kind.is(ROWS / 2),
        (kind.of)(ROWS + 1)
    );
    let sharing = async {
        tokio::join!(
            one.run(|_| {
                if pages.fetch_add(1, Relaxed) == 0 {
                    first.pause();
                }
            }),
            async {
                while pages.load(Relaxed) == 0 {
                    tokio::task::yield_now().await;
                }
                let other = two.run(|_| {
                    others.fetch_add(1, Relaxed);
                    first.resume();
                    first.set_workers(2);
                });
                other.await
            },
            market.legacy.run(&writes),
        )
    };
    let (one, two, ()) = sharing.await;
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.done && two.done);
    assert!(pages.into_inner() > 0 && others.into_inner() > 0);
    let cursors = migration.copier().follower().cursors().await.unwrap();
    assert_eq!(cursors.len(), 4, "{cursors:?}");
    assert!(cursors.iter().all(|part| part.done && part.loading == load));
    let passed: u64 = cursors.iter().map(|part| part.passed).sum();
    let rows = u64::from(ROWS);
    assert!((rows - 1..=rows + 1).contains(&passed), "{cursors:?}");
    // Nobody passes what the other one has passed, and no part is empty.
    assert_eq!(one.rows + two.rows, passed);
    assert!(cursors.iter().all(|part| part.passed > 20), "{cursors:?}");
    drain(&migration).await;
    let [legacy, new] = said(&market, kind).await;
    assert_eq!(legacy, new);
    assert_eq!(legacy.len(), ROWS as usize);
    let report = verify(&migration).await;
    assert!(report.clean() && report.compared >= rows, "{report:?}");
}

mod scenario {
    use super::*;

    pub(super) async fn two_columns(topology: Topology) {
        shared(topology, TWO_COLUMNS).await;
    }

    pub(super) async fn uuids(topology: Topology) {
        shared(topology, UUIDS).await;
    }

    pub(super) async fn texts(topology: Topology) {
        shared(topology, TEXTS).await;
    }
}
