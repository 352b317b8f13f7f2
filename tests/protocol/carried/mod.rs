//! Every type of value: it arrives bit for bit, or the preview names it before anything is copied, and the
//! copy holds it with the same words. `docs/types.md` is this table; the last test compares them.

use std::collections::{BTreeMap, BTreeSet};

use super::lifecycle::everywhere_and_on_pairs;
use super::market::{Engine, Market, Plain, Topology};
use crate::operate::command::Desk;
use kinds::{Kind, POSTGRES, POSTGRES_TO_SQLITE, SQLITE, SQLITE_TO_POSTGRES};
use mariadb_kinds::{MARIADB_TO_POSTGRES, MARIADB_TO_SQLITE};
use to_mariadb_kinds::{MARIADB, POSTGRES_TO_MARIADB, SQLITE_TO_MARIADB};

mod kinds;
mod mariadb_kinds;
mod to_mariadb_kinds;

/// A value that is tried: its key, its column, its SQL and that of what it becomes, whether it arrives.
struct Tried {
    key: usize,
    column: usize,
    sql: &'static str,
    becomes: &'static str,
    kept: bool,
}

/// What is tried on a topology.
fn kinds_of(topology: Topology) -> &'static [Kind] {
    match (topology.legacy_engine(), topology.new_engine()) {
        (Engine::Postgres, Engine::Sqlite) => POSTGRES_TO_SQLITE,
        (Engine::Sqlite, Engine::Postgres) => SQLITE_TO_POSTGRES,
        (Engine::Mariadb, Engine::Postgres) => MARIADB_TO_POSTGRES,
        (Engine::Mariadb, Engine::Sqlite) => MARIADB_TO_SQLITE,
        (Engine::Mariadb, _) => MARIADB,
        (Engine::Postgres, Engine::Mariadb) => POSTGRES_TO_MARIADB,
        (Engine::Sqlite, Engine::Mariadb) => SQLITE_TO_MARIADB,
        (Engine::Postgres, _) => POSTGRES,
        _ => SQLITE,
    }
}

fn tried(kinds: &[Kind]) -> Vec<Tried> {
    let mut all = Vec::new();
    for (column, kind) in kinds.iter().enumerate() {
        for (values, kept) in [(kind.kept, true), (kind.held, false)] {
            for sql in values {
                let (sql, becomes) = Kind::ends(sql);
                all.push(Tried {
                    key: all.len() + 1,
                    column,
                    sql,
                    becomes,
                    kept,
                });
            }
        }
    }
    all
}

fn mapping(kinds: &[Kind]) -> String {
    let columns: String = (0..kinds.len())
        .map(|n| match kinds[n].new.contains("NOT NULL") {
            true => format!("c{n} = \"coalesce(c{n}, 0)\"\n"),
            false => format!("c{n} = \"c{n}\"\n"),
        })
        .collect();
    format!(
        "revision = 1\nroot = {{ table = 'old_kinds', key = ['id'] }}\n[[target]]\nname = 'kind'\ntable = 'new_kinds'\n\
         owned_by = {{ key = ['id'] }}\nidentity = ['id']\n[target.columns]\nid = 'id'\n{columns}"
    )
}

/// Both tables, with every value of `all` in a row of its own.
async fn fill(market: &Market, kinds: &[Kind], all: &[Tried]) {
    let postgres = [&market.legacy, &market.new];
    for side in postgres.into_iter().filter(|side| side.is_postgres()) {
        if std::ptr::eq(side, &market.new) && market.legacy_url == market.new_url {
            continue;
        }
        let types = "CREATE TYPE mood AS ENUM ('sad', 'so so'); CREATE TYPE narrow_mood AS ENUM ('sad'); \
                     CREATE DOMAIN small_number AS integer CHECK (VALUE < 10); \
                     CREATE DOMAIN cents AS numeric(12,2); CREATE DOMAIN price AS cents";
        side.run(types).await;
    }
    for (side, table, of) in [
        (
            &market.legacy,
            "old_kinds",
            (|kind| kind.legacy) as fn(&Kind) -> &'static str,
        ),
        (&market.new, "new_kinds", |kind| kind.new),
    ] {
        let columns = kinds.iter().enumerate();
        let columns: String = columns
            .map(|(n, kind)| format!(", c{n} {}", of(kind).replace("{n}", &n.to_string())))
            .collect();
        side.run(&format!(
            "CREATE TABLE {table} (id bigint PRIMARY KEY NOT NULL{columns})"
        ))
        .await;
    }
    for Tried {
        key, column, sql, ..
    } in all
    {
        // The empty text of an enum is what MariaDB stores for one that it does not have.
        let ignore = match kinds[*column].legacy.starts_with("enum") {
            true => "IGNORE ",
            false => "",
        };
        let sql = format!("INSERT {ignore}INTO old_kinds (id, c{column}) VALUES ({key}, {sql})");
        market.legacy.run(&sql).await;
    }
}

/// The bits of a value, by the database's own conversion where the types differ.
async fn bits(side: &Plain, table: &str, kind: &Kind, tried: &Tried) -> String {
    let column = format!("c{}", tried.column);
    let sql = match side {
        // Where no such conversion is known, the bits are those of the text.
        Plain::Postgres(_) if kind.bits.contains("::") => kind.bits.replace('$', &column),
        Plain::Postgres(_) => {
            let converted = format!("CAST({column} AS {})", kind.new);
            kind.bits.replace('$', &converted)
        }
        Plain::Sqlite(_) => format!(
            "typeof({column}) || ' ' || CASE typeof({column}) WHEN 'real' THEN printf('%!.20g', {column}) \
             WHEN 'text' THEN hex(CAST({column} AS BLOB)) ELSE quote({column}) END"
        ),
        Plain::Mariadb(_) => format!("hex({})", kind.bits.replace('$', &column)),
    };
    let sql = match side {
        Plain::Postgres(_) => format!("encode({sql}, 'hex')"),
        Plain::Sqlite(_) | Plain::Mariadb(_) => sql,
    };
    side.text(&format!(
        "SELECT coalesce({sql}, 'null') FROM {table} WHERE id = {}",
        tried.key
    ))
    .await
}

everywhere_and_on_pairs!(values_arrive_or_are_named, keys_that_look_alike_are_apart);

mod scenario {
    use super::*;

    pub(super) async fn values_arrive_or_are_named(topology: Topology) {
        let kinds = kinds_of(topology);
        let all = tried(kinds);
        let market = Market::start(topology).await;
        fill(&market, kinds, &all).await;
        let desk = Desk::of(&market);
        std::fs::write(desk.path("listings.toml"), mapping(kinds)).unwrap();

        // Before anything is copied.
        desk.run("install --stamps-only").await.with(0);
        let found = desk
            .run("preview --json --samples 1000")
            .await
            .with(1)
            .json();
        let mut named: BTreeMap<usize, String> = BTreeMap::new();
        for obstacle in found["obstacles"].as_array().unwrap() {
            assert_eq!(
                obstacle["keys"],
                obstacle["samples"].as_array().unwrap().len()
            );
            for key in obstacle["samples"].as_array().unwrap() {
                let reason = obstacle["reason"].as_str().unwrap().to_owned();
                named.insert(key.as_str().unwrap().parse().unwrap(), reason);
            }
        }
        let mut wrong = Vec::new();
        for one in &all {
            let (key, column, kind) = (one.key, one.column, &kinds[one.column]);
            let what = format!("{} into {}: {:.60}", kind.legacy, kind.new, one.sql);
            match (one.kept, named.get(&key)) {
                (true, None) => {}
                (false, Some(reason)) if says_where(reason, column) => {}
                (_, reason) => wrong.push(format!("{what}: kept {}, preview {reason:?}", one.kept)),
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(found["tried"], all.len());
        assert_eq!(
            market
                .new
                .text("SELECT CAST(count(*) AS text) FROM new_kinds")
                .await,
            "0"
        );

        desk.run("install").await.with(0);
        desk.run("backfill").await.with(1);
        let held = "SELECT \"key\" || ' ' || reason FROM changeover_key WHERE place = 'legacy' AND state = 'blocked'";
        let held: BTreeMap<usize, String> = market
            .legacy
            .texts(held)
            .await
            .iter()
            .map(|line| line.split_once(' ').unwrap())
            .map(|(key, reason)| (key.parse().unwrap(), reason.to_owned()))
            .collect();
        assert_eq!(
            held, named,
            "the copy holds what the preview named, for the same reason"
        );
        for one in all.iter().filter(|one| one.kept) {
            let kind = &kinds[one.column];
            let stands = bits(&market.new, "new_kinds", kind, one).await;
            let same = kind.legacy == kind.new;
            let pair = market.legacy.engine() != market.new.engine()
                || (market.new.engine() == Engine::Mariadb && !same);
            let is = match (&market.legacy, same) {
                _ if pair => said(&market.new, kind, one).await,
                (Plain::Sqlite(_), false) => converted(&market.legacy, kind, one).await,
                _ => bits(&market.legacy, "old_kinds", kind, one).await,
            };
            if is != stands {
                wrong.push(format!(
                    "{} into {}: {:.60}: {is:.80} became {stands:.80}",
                    kind.legacy, kind.new, one.sql
                ));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        let found = desk.run("verify --json").await.with(1).json();
        assert_eq!(found["classes"]["blocked"], named.len(), "{found}");
        assert_eq!(
            found["classes"]["equal"],
            all.len() - named.len(),
            "{found}"
        );

        for one in all.iter().filter(|one| !one.kept) {
            let mended = format!(
                "UPDATE old_kinds SET c{} = NULL WHERE id = {}",
                one.column, one.key
            );
            market.legacy.run(&mended).await;
        }
        desk.run("drain --within 30").await.with(0);
        desk.run("verify").await.with(0);
    }

    /// Keys that only differ in case, spaces, accents or what is not printed are keys of their own.
    pub(super) async fn keys_that_look_alike_are_apart(topology: Topology) {
        let market = Market::start(topology).await;
        // PostgreSQL's texts have no NUL.
        let (control, accent) = match (market.legacy.engine(), market.new.engine()) {
            (Engine::Mariadb, Engine::Postgres) => ("x'01'", "x'cc81'"),
            (Engine::Mariadb, _) => ("x'00'", "x'cc81'"),
            (Engine::Postgres, _) => ("chr(1)", "chr(769)"),
            (_, Engine::Postgres) => ("char(1)", "char(769)"),
            _ => ("char(0)", "char(769)"),
        };
        let keys = [
            "'a'",
            "'A'",
            "'a '",
            "' a'",
            "'a  '",
            "'á'",
            "'a' || accent",
            "'a' || control",
            "'a' || control || 'b'",
            "'a,b'",
            "'a\\,b'",
            "'\"a\"'",
            "'null'",
            "'0'",
            "'00'",
            "'-0'",
            "'1e0'",
            "'ß'",
            "'ss'",
            "'%'",
            "'_'",
        ];
        for (side, table) in [(&market.legacy, "old_texts"), (&market.new, "new_texts")] {
            let sql =
                format!("CREATE TABLE {table} (id {{exact}} PRIMARY KEY NOT NULL, c0 bigint)");
            side.run(&side.engine().schema(&sql)).await;
        }
        for (n, key) in keys.iter().enumerate() {
            let key = key.replace("accent", accent).replace("control", control);
            market
                .legacy
                .run(&format!("INSERT INTO old_texts VALUES ({key}, {n})"))
                .await;
        }
        let desk = Desk::of(&market);
        let mapping = "revision = 1\nroot = { table = 'old_texts', key = ['id'] }\n[[target]]\nname = 'text'\ntable = 'new_texts'\n\
                       owned_by = { key = ['id'] }\nidentity = ['id']\n[target.columns]\nid = 'id'\nc0 = 'c0'\n";
        std::fs::write(desk.path("listings.toml"), mapping).unwrap();
        desk.run("install --stamps-only").await.with(0);
        let found = desk.run("preview --json").await.with(0).json();
        assert_eq!(found["carried"], keys.len(), "{found}");
        desk.run("install").await.with(0);
        desk.run("backfill").await.with(0);
        market
            .legacy
            .run("UPDATE old_texts SET c0 = c0 + 100; DELETE FROM old_texts WHERE id = 'A'")
            .await;
        desk.run("drain --within 30").await.with(0);
        desk.run("verify").await.with(0);
        let bytes = async |side: &Plain, table: &str| {
            let hex = match side.engine() {
                Engine::Postgres => "upper(encode(textsend(id), 'hex'))",
                Engine::Mariadb => "hex(id)",
                Engine::Sqlite => "hex(CAST(id AS BLOB))",
            };
            side.texts(&format!("SELECT {hex} || ' ' || c0 FROM {table}"))
                .await
        };
        let both = (
            bytes(&market.legacy, "old_texts").await,
            bytes(&market.new, "new_texts").await,
        );
        let (legacy, new): (BTreeSet<_>, BTreeSet<_>) =
            (both.0.iter().collect(), both.1.iter().collect());
        assert_eq!(legacy, new);
        assert_eq!(new.len(), keys.len() - 1);
    }
}

/// Whether the reason names the target and the column; where reading the legacy value fails, the
/// mapping's place of it.
fn says_where(reason: &str, column: usize) -> bool {
    let named = [
        format!("target \"kind\": column c{column} ("),
        format!("target \"kind\".columns.c{column} "),
        format!("c{column} < 10"),
        format!(".c{column}` failed"),
    ];
    named.iter().any(|words| reason.contains(words))
}

/// What SQLite itself stores where this value is inserted into a column of the new type.
async fn converted(legacy: &Plain, kind: &Kind, tried: &Tried) -> String {
    let (table, column) = (format!("as_{}", tried.key), tried.column);
    let declared = kind.new.split(" NOT").next().unwrap_or_default();
    legacy
        .run(&format!(
            "CREATE TABLE {table} (id bigint, c{column} {declared}); \
                         INSERT INTO {table} SELECT id, c{column} FROM old_kinds WHERE id = {}",
            tried.key
        ))
        .await;
    bits(legacy, &table, kind, tried).await
}

/// What the new engine stores where it is told the value in its own words.
async fn said(new: &Plain, kind: &Kind, tried: &Tried) -> String {
    let (table, column) = (format!("as_{}", tried.key), tried.column);
    let declared = kind.new.split(" NOT").next().unwrap_or_default();
    new.run(&format!(
        "CREATE TABLE {table} (id bigint, c{column} {declared}); \
         INSERT INTO {table} VALUES ({}, {})",
        tried.key, tried.becomes
    ))
    .await;
    bits(new, &table, kind, tried).await
}

/// The table of `docs/types.md`.
fn table(kinds: &[Kind]) -> String {
    let mut lines = String::from("| legacy | new | held, for instance |\n| --- | --- | --- |\n");
    for kind in kinds {
        let named = |name: &str| match name.split(" NOT NULL").next().unwrap_or_default() {
            "" => "no type".to_owned(),
            name => format!("`{name}`"),
        };
        let held = kind.held.iter().map(|sql| format!("`{sql}`"));
        let held = match kind.held {
            [] => "nothing".to_owned(),
            _ => held.collect::<Vec<_>>().join(", "),
        };
        lines += &format!(
            "| {} | {} | {held} |\n",
            named(kind.legacy),
            named(kind.new)
        );
    }
    lines
}

#[test]
fn the_documentation_says_what_is_tried() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/types.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut missing = Vec::new();
    for kinds in [
        POSTGRES,
        SQLITE,
        POSTGRES_TO_SQLITE,
        SQLITE_TO_POSTGRES,
        MARIADB_TO_POSTGRES,
        MARIADB_TO_SQLITE,
        POSTGRES_TO_MARIADB,
        SQLITE_TO_MARIADB,
        MARIADB,
    ] {
        let table = table(kinds);
        if !text.contains(&table) {
            missing.push(table);
        }
    }
    let missing = missing.join("\n");
    assert!(
        missing.is_empty(),
        "docs/types.md does not hold:\n{missing}"
    );
}
