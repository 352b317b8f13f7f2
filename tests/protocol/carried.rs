//! Every type of value: it arrives bit for bit, or the preview names it before anything is copied, and the
//! copy holds it with the same words. `docs/types.md` is this table; the last test compares them.

use std::collections::{BTreeMap, BTreeSet};

use super::lifecycle::everywhere;
use super::market::{Market, Plain, Topology};
use crate::operate::command::Desk;

/// One column on either side, and what is tried in it.
struct Kind {
    legacy: &'static str,
    new: &'static str,
    /// SQL of the bits of `$`, as PostgreSQL's new column holds it.
    bits: &'static str,
    /// SQL of values that arrive.
    kept: &'static [&'static str],
    /// SQL of values that do not.
    held: &'static [&'static str],
}

const fn same(both: &'static str, bits: &'static str, kept: &'static [&'static str]) -> Kind {
    Kind {
        legacy: both,
        new: both,
        bits,
        kept,
        held: &[],
    }
}

const fn into(
    (legacy, new): (&'static str, &'static str),
    bits: &'static str,
    kept: &'static [&'static str],
    held: &'static [&'static str],
) -> Kind {
    Kind {
        legacy,
        new,
        bits,
        kept,
        held,
    }
}

const POSTGRES: &[Kind] = &[
    same("smallint", "int2send($)", &["-32768", "32767"]),
    same("integer", "int4send($)", &["-2147483648", "2147483647"]),
    same(
        "bigint",
        "int8send($)",
        &["-9223372036854775808", "9223372036854775807"],
    ),
    same(
        "numeric",
        "numeric_send($)",
        &[
            "0",
            "1.50",
            "-0.000000000000000000000000000000000001",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "repeat('9', 131072)::numeric",
            "('0.' || repeat('1', 16383))::numeric",
        ],
    ),
    same(
        "numeric(38,10)",
        "numeric_send($)",
        &["9999999999999999999999999999.9999999999", "-0.0000000001"],
    ),
    same(
        "real",
        "float4send($)",
        &[
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "'-0'",
            "0.1",
            "3.4028235e38",
            "1e-45",
            "16777217",
        ],
    ),
    same(
        "double precision",
        "float8send($)",
        &[
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "'-0'",
            "0.1",
            "0.1::float8 + 0.2",
            "1.7976931348623157e308",
            "5e-324",
            "2.2250738585072014e-308",
            "9007199254740993",
        ],
    ),
    same("boolean", "boolsend($)", &["true", "false"]),
    same(
        "timestamp",
        "timestamp_send($)",
        &[
            "'infinity'",
            "'-infinity'",
            "'4713-01-01 00:00:00 BC'",
            "'294276-12-31 23:59:59.999999'",
            "'2024-02-29 12:34:56.000001'",
        ],
    ),
    same(
        "timestamptz",
        "timestamptz_send($)",
        &[
            "'infinity'",
            "'-infinity'",
            "'4713-01-01 00:00:00+00 BC'",
            "'294276-12-31 23:59:59.999999+00'",
            "'2024-03-31 02:30:00+01'",
            "'2024-01-01 00:00:00-15:59'",
        ],
    ),
    same(
        "timestamp(0)",
        "timestamp_send($)",
        &["'2024-02-29 12:34:56'"],
    ),
    same(
        "date",
        "date_send($)",
        &[
            "'infinity'",
            "'-infinity'",
            "'4713-01-01 BC'",
            "'5874897-12-31'",
            "'2024-02-29'",
        ],
    ),
    same(
        "time",
        "time_send($)",
        &["'00:00'", "'24:00:00'", "'23:59:59.999999'"],
    ),
    same(
        "timetz",
        "timetz_send($)",
        &["'00:00+15:59'", "'24:00:00-15:59'", "'12:00:00.5+00'"],
    ),
    same(
        "interval",
        "interval_send($)",
        &[
            "'-178000000 years'",
            "'1 year 2 mons -3 days 04:05:06.789012'",
            "'0'",
        ],
    ),
    same(
        "text",
        "textsend($)",
        &[
            "''",
            "' a '",
            "E'\\t\\r\\n'",
            "'NULL'",
            "E'\\\\N'",
            "'{\"a\",b}'",
            "U&'\\+01F600'",
            "'é'",
            "U&'e\\0301'",
            "'Ä'",
            "repeat('x', 1000000)",
        ],
    ),
    same(
        "varchar(5)",
        "varcharsend($)",
        &["''", "'äöüßé'", "'a    '"],
    ),
    same("char(5)", "bpcharsend($)", &["''", "'ab'", "'abcde'"]),
    same("name", "namesend($)", &["repeat('n', 63)"]),
    same(
        "bytea",
        "byteasend($)",
        &["''", "'\\x00ff00'", "decode(repeat('00ff', 100000), 'hex')"],
    ),
    same(
        "uuid",
        "uuid_send($)",
        &[
            "'00000000-0000-0000-0000-000000000000'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        ],
    ),
    same(
        "json",
        "json_send($)",
        &[
            "'{\"b\" : 1, \"a\":[ ],\"b\":2}'",
            "'1e999'",
            "'\"\\u0000\"'",
            "'null'",
        ],
    ),
    same(
        "jsonb",
        "jsonb_send($)",
        &[
            "'{\"b\":1.00,\"a\":[]}'",
            "'1e99'",
            "'null'",
            "'\"\\ud83d\\ude00\"'",
        ],
    ),
    same("mood", "enum_send($)", &["'sad'", "'so so'"]),
    same(
        "integer[]",
        "array_send($)",
        &["'{}'", "'{1,NULL,3}'", "'{{1,2},{3,4}}'", "'[-1:0]={7,8}'"],
    ),
    same(
        "text[]",
        "array_send($)",
        &["ARRAY['', 'NULL', 'a,b', '{', '\"', E'\\\\', NULL, ' ']"],
    ),
    same(
        "double precision[]",
        "array_send($)",
        &["'{NaN,-0,Infinity,5e-324}'"],
    ),
    same(
        "timestamptz[]",
        "array_send($)",
        &["'{infinity,2024-01-01 00:00:00+00}'"],
    ),
    same("mood[]", "textsend($::text)", &["'{sad,\"so so\"}'"]),
    same("inet", "inet_send($)", &["'192.168.0.1/24'", "'::1'"]),
    same(
        "int4range",
        "range_send($)",
        &["'empty'", "'[1,5)'", "'(,)'"],
    ),
    same("bit(3)", "bit_send($)", &["B'101'"]),
    same("varbit", "varbit_send($)", &["B''", "B'10111'"]),
    same("point", "point_send($)", &["'(0.1,-0)'"]),
    // Into another type.
    into(
        ("bigint", "integer"),
        "int4send($)",
        &["7", "-2147483648"],
        &["2147483648"],
    ),
    into(
        ("bigint", "double precision"),
        "float8send($)",
        &["9007199254740992"],
        &["9007199254740993"],
    ),
    into(("bigint", "text"), "textsend($)", &["-7"], &[]),
    into(
        ("numeric", "numeric(12,2)"),
        "numeric_send($)",
        &["1.5", "-9999999999.99", "'NaN'"],
        &["1.005", "10000000000"],
    ),
    into(
        ("numeric", "bigint"),
        "int8send($)",
        &["7"],
        &["7.5", "9223372036854775808", "'NaN'"],
    ),
    into(
        ("numeric", "double precision"),
        "float8send($)",
        &["0.1", "'NaN'", "1e300"],
        &["0.12345678901234567890", "1e400"],
    ),
    into(
        ("double precision", "numeric"),
        "numeric_send($)",
        &["0.1", "'NaN'", "1e20"],
        &[],
    ),
    into(
        ("double precision", "real"),
        "float4send($)",
        &["0.5", "'Infinity'", "'-0'"],
        &["0.123456789", "1e300"],
    ),
    into(
        ("double precision", "integer"),
        "int4send($)",
        &["7", "-1"],
        &["7.5", "'NaN'"],
    ),
    into(
        ("double precision", "text"),
        "textsend($)",
        &[
            "0.1",
            "1e20",
            "1e15",
            "123456789012345",
            "1e-5",
            "0.0001",
            "'NaN'",
            "'-Infinity'",
            "'-0'",
        ],
        &[],
    ),
    into(
        ("timestamp", "timestamp(0)"),
        "timestamp_send($)",
        &["'2024-02-29 12:00:00'", "'infinity'"],
        &["'2024-02-29 12:00:00.5'"],
    ),
    into(
        ("timestamptz", "timestamptz(3)"),
        "timestamptz_send($)",
        &["'2024-02-29 12:00:00.123+00'"],
        &["'2024-02-29 12:00:00.1234+00'"],
    ),
    into(
        ("timestamp", "date"),
        "date_send($)",
        &["'2024-02-29 00:00:00'", "'-infinity'"],
        &["'2024-02-29 00:00:01'"],
    ),
    into(
        ("text", "time"),
        "time_send($)",
        &["'12:00:00'"],
        &["'2024-02-29 12:00:00'", "'12:00:00+01'"],
    ),
    into(
        ("date", "timestamp"),
        "timestamp_send($)",
        &["'2024-02-29'"],
        &["'5874897-12-31'"],
    ),
    into(
        ("timetz", "time"),
        "time_send($)",
        &["'12:00+00'"],
        &["'12:00+01'"],
    ),
    into(
        ("interval", "interval(0)"),
        "interval_send($)",
        &["'1 day 02:03:04'"],
        &["'00:00:00.5'"],
    ),
    into(
        ("interval", "interval year to month"),
        "interval_send($)",
        &["'1 year 2 mons'"],
        &["'1 mon 1 day'"],
    ),
    into(
        ("text", "varchar(3)"),
        "varcharsend($)",
        &["'äöü'", "''"],
        &["'abcd'", "'abc '"],
    ),
    into(
        ("text", "char(3)"),
        "bpcharsend($)",
        &["'ab'"],
        &["'abcd'", "'a '"],
    ),
    into(
        ("text", "name"),
        "namesend($)",
        &["'n'"],
        &["repeat('n', 64)"],
    ),
    into(
        ("text", "integer"),
        "int4send($)",
        &["'7'"],
        &["'seven'", "''", "'7.0'"],
    ),
    into(("text", "boolean"), "boolsend($)", &["'yes'"], &["'maybe'"]),
    into(
        ("text", "uuid"),
        "uuid_send($)",
        &["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"],
        &["'no uuid'"],
    ),
    into(
        ("text", "timestamp"),
        "timestamp_send($)",
        &["'2024-02-29 12:00'"],
        &["'2024-02-29 12:00+02'", "'2023-02-29 12:00'", "'soon'"],
    ),
    into(
        ("text", "narrow_mood"),
        "enum_send($)",
        &["'sad'"],
        &["'so so'"],
    ),
    into(
        ("mood", "narrow_mood"),
        "textsend($::text)",
        &["'sad'"],
        &["'so so'"],
    ),
    into(("text", "json"), "json_send($)", &["'[1, 2]'"], &["'[1,'"]),
    into(
        ("json", "jsonb"),
        "jsonb_send($)",
        &["'{\"a\": 1}'"],
        &["'\"\\u0000\"'"],
    ),
    into(
        ("varbit", "bit(3)"),
        "bit_send($)",
        &["B'101'"],
        &["B'1011'", "B'1'"],
    ),
    into(
        ("numeric[]", "numeric(5,1)[]"),
        "array_send($)",
        &["'{1.5,NULL}'"],
        &["'{1.25}'", "'{99999}'"],
    ),
    into(
        ("text[]", "varchar(2)[]"),
        "array_send($)",
        &["'{ab,\"\"}'"],
        &["'{abc}'", "'{\"ab \"}'"],
    ),
    into(
        ("numeric", "price"),
        "numeric_send($)",
        &["1.5"],
        &["1.005", "1e10"],
    ),
    into(
        ("json", "jsonb"),
        "jsonb_send($)",
        &["'[{\"a\":1}]'"],
        &["'{\"a\": 1, \"a\": 2}'"],
    ),
    into(("integer", "small_number"), "int4send($)", &["7"], &["70"]),
];

const SQLITE: &[Kind] = &[
    same(
        "INTEGER",
        "$",
        &[
            "-9223372036854775808",
            "9223372036854775807",
            "0",
            "'no number'",
            "x'00ff'",
            "0.5",
        ],
    ),
    same(
        "REAL",
        "$",
        &[
            "0.1",
            "0.1 + 0.2",
            "9e999",
            "-9e999",
            "5e-324",
            "1.7976931348623157e308",
            "'no number'",
        ],
    ),
    same(
        "TEXT",
        "$",
        &[
            "''",
            "' a '",
            "'a' || char(0) || 'b'",
            "char(0)",
            "char(128512)",
            "'é'",
            "'e' || char(769)",
            "x'00ff'",
            "replace(hex(zeroblob(500000)), '00', 'x')",
        ],
    ),
    same(
        "BLOB",
        "$",
        &["x''", "x'00ff00'", "7", "0.5", "'text'", "zeroblob(100000)"],
    ),
    same(
        "NUMERIC",
        "$",
        &[
            "1.5",
            "'1.50'",
            "9223372036854775807",
            "9223372036854775808",
            "'2024-02-29'",
            "1e300",
        ],
    ),
    same("DECIMAL(12,2)", "$", &["1.005", "12345678901234567890"]),
    same("BOOLEAN", "$", &["TRUE", "FALSE", "2"]),
    same(
        "TIMESTAMP",
        "$",
        &[
            "'2024-02-29 12:00:00.123456789'",
            "1709208000",
            "'infinity'",
            "2460370.5",
        ],
    ),
    same("JSON", "$", &["'{\"b\" : 1, \"a\":[ ]}'", "7"]),
    same("", "$", &["7", "0.5", "'text'", "x'00'"]),
    // Into another affinity.
    into(("INTEGER", "REAL"), "$", &["7"], &["9007199254740993"]),
    into(("INTEGER", "TEXT"), "$", &["-7"], &[]),
    into(("REAL", "INTEGER"), "$", &["7.0", "0.5"], &[]),
    into(("REAL", "TEXT"), "$", &["0.1"], &["0.1 + 0.2"]),
    into(
        ("TEXT", "NUMERIC"),
        "$",
        &["'1.50'", "'abc'"],
        &["'0.1000000000000000055'", "'12345678901234567890.5'"],
    ),
    into(
        ("TEXT", "REAL"),
        "$",
        &["'7'", "'abc'"],
        &["'9007199254740993'"],
    ),
    into(("TEXT", "BLOB"), "$", &["'abc'"], &[]),
    into(
        ("BLOB", "TEXT"),
        "$",
        &["x'00ff'"],
        &["CAST(x'ff' AS TEXT)"],
    ),
    into(
        ("BLOB", "INTEGER NOT NULL DEFAULT 0 CHECK (c{n} < 10)"),
        "$",
        &["7"],
        &["70"],
    ),
];

/// A value that is tried: its key, its column, its SQL, whether it arrives.
struct Tried {
    key: usize,
    column: usize,
    sql: &'static str,
    kept: bool,
}

fn tried(kinds: &[Kind]) -> Vec<Tried> {
    let mut all = Vec::new();
    for (column, kind) in kinds.iter().enumerate() {
        for (values, kept) in [(kind.kept, true), (kind.held, false)] {
            for sql in values {
                let key = all.len() + 1;
                all.push(Tried {
                    key,
                    column,
                    sql,
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
    if market.topology.is_postgres() {
        let types = "CREATE TYPE mood AS ENUM ('sad', 'so so'); CREATE TYPE narrow_mood AS ENUM ('sad'); \
                     CREATE DOMAIN small_number AS integer CHECK (VALUE < 10); \
                     CREATE DOMAIN cents AS numeric(12,2); CREATE DOMAIN price AS cents";
        market.legacy.run(types).await;
        if market.legacy_url != market.new_url {
            market.new.run(types).await;
        }
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
        let sql = format!("INSERT INTO old_kinds (id, c{column}) VALUES ({key}, {sql})");
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
    };
    let sql = match side {
        Plain::Postgres(_) => format!("encode({sql}, 'hex')"),
        Plain::Sqlite(_) => sql,
    };
    side.text(&format!(
        "SELECT coalesce({sql}, 'null') FROM {table} WHERE id = {}",
        tried.key
    ))
    .await
}

everywhere!(values_arrive_or_are_named, keys_that_look_alike_are_apart);

mod scenario {
    use super::*;

    pub(super) async fn values_arrive_or_are_named(topology: Topology) {
        let kinds = if topology.is_postgres() {
            POSTGRES
        } else {
            SQLITE
        };
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
        let held = "SELECT key || ' ' || reason FROM changeover_key WHERE place = 'legacy' AND state = 'blocked'";
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
            let is = match (&market.legacy, kind.legacy == kind.new) {
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
        let (control, accent) = match topology.is_postgres() {
            true => ("chr(1)", "chr(769)"),
            false => ("char(0)", "char(769)"),
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
            side.run(&format!(
                "CREATE TABLE {table} (id text PRIMARY KEY NOT NULL, c0 bigint)"
            ))
            .await;
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
        let bytes = |table: &str| match topology.is_postgres() {
            true => format!("SELECT encode(textsend(id), 'hex') || ' ' || c0 FROM {table}"),
            false => format!("SELECT hex(CAST(id AS BLOB)) || ' ' || c0 FROM {table}"),
        };
        let both = (
            market.legacy.texts(&bytes("old_texts")).await,
            market.new.texts(&bytes("new_texts")).await,
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
    for kinds in [POSTGRES, SQLITE] {
        let table = table(kinds);
        assert!(
            text.contains(&table),
            "docs/types.md does not hold:\n{table}"
        );
    }
}
