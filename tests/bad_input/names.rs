//! Names with quotes, spaces, unicode, statements in them, mixed case and reserved words, in
//! schemas, and longer than PostgreSQL keeps: they are names, on every way through the product.

use super::stand::{Stand, both_engines};
use crate::protocol::market::{backfill, drain, verify};

both_engines!(whatever_they_are);

/// `\u0022` is `"`, so that the TOML says it without a quote of its own.
const MAPPING: &str = r#"
revision = 1
root = { table = "{old}", key = ["Key", "c0"] }

[[target]]
name = "thing; DROP TABLE x; --'\u0022é"
table = "{new}"
owned_by = { key = ["order", "\u0022;--"] }
identity = ["order", "\u0022;--"]
[target.columns]
order = '"Key"'
"\u0022;--" = "c0"
"Größe in 'cm'" = '"select"'
"user" = '"a ""quoted"" naïve; -- name"'
"#;

mod scenario {
    use super::*;

    pub(super) async fn whatever_they_are(postgres: bool) {
        // In pairs: the SQL name and the name as the mapping says it.
        let mut tables = vec![
            (r#""Order""#, r"Order"),
            (r#""we""ird; -- 'täble'""#, r"we\u0022ird; -- 'täble'"),
            (r#""group""#, r"group"),
        ];
        let long = format!("\"{}\"", "long_name_".repeat(6) + "xyz");
        tables.push((&long, long.trim_matches('"')));
        if postgres {
            tables.push((r#""My Schema"."Table""#, "My Schema.Table"));
        }
        for (sql_name, name) in tables {
            one(postgres, sql_name, name).await;
        }
    }

    async fn one(postgres: bool, sql_name: &str, name: &str) {
        let schema = if postgres {
            "CREATE SCHEMA \"My Schema\";"
        } else {
            ""
        };
        let old = format!(
            r#"{schema} CREATE TABLE {sql_name} ("Key" text NOT NULL, c0 bigint NOT NULL, "select" bigint, "a ""quoted"" naïve; -- name" text, PRIMARY KEY ("Key", c0));
            INSERT INTO {sql_name} VALUES ('a,b\', 1, 1, 'x''"y'), ('é; DROP', 2, NULL, NULL);"#
        );
        let new = format!(
            r#"{schema} CREATE TABLE {sql_name} ("order" text NOT NULL, """;--" bigint NOT NULL, "Größe in 'cm'" bigint, "user" text, note text DEFAULT 'n', PRIMARY KEY ("order", """;--"));"#
        );
        let stand = Stand::start(postgres, &old, &new).await;
        let before = stand.census().await;
        let mapping = MAPPING.replace("{old}", name).replace("{new}", name);
        let migration = stand
            .open(&mapping)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        migration
            .install()
            .await
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        migration.start_copying().await.unwrap();
        backfill(&migration).await;
        stand
            .legacy
            .run(&format!(
                r#"UPDATE {sql_name} SET "select" = 7 WHERE c0 = 2; INSERT INTO {sql_name} ("Key", c0) VALUES ('', 3), ('gone', 4); DELETE FROM {sql_name} WHERE "Key" = 'gone'; UPDATE {sql_name} SET "Key" = '\,' WHERE c0 = 1"#
            ))
            .await;
        drain(&migration).await;
        let said = stand
            .new
            .texts(&format!(
                r#"SELECT "order" || '|' || """;--" || '|' || coalesce(CAST("Größe in 'cm'" AS text), '-') || '|' || coalesce("user", '-') FROM {sql_name} ORDER BY """;--""#
            ))
            .await;
        assert_eq!(
            said,
            [r#"\,|1|1|x'"y"#, "é; DROP|2|7|-", "|3|-|-"],
            "{name}"
        );
        let report = verify(&migration).await;
        assert!(report.clean() && report.compared >= 3, "{name}: {report:?}");
        let error = stand
            .new
            .try_run(&format!("DELETE FROM {sql_name}"))
            .await
            .expect_err("a follower");
        assert!(error.to_string().contains("changeover"), "{error}");
        migration.uninstall().await.unwrap();
        stand
            .legacy
            .run(&format!("DELETE FROM {sql_name} WHERE c0 = 3"))
            .await;
        stand.new.run(&format!("DELETE FROM {sql_name}")).await;
        let strip = |census: Vec<Vec<String>>| -> Vec<Vec<String>> {
            let rows = |line: &String| !line.ends_with(" rows");
            census
                .into_iter()
                .map(|side| side.into_iter().filter(rows).collect())
                .collect()
        };
        assert_eq!(
            strip(stand.census_without_past().await),
            strip(before),
            "{name}"
        );
    }
}
