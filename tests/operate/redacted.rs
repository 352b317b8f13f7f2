//! Rows that make the database complain: what it says of them quotes their values, and no verb shows
//! them, neither in its answer nor in what it logs.

use super::command::{Desk, Ended};
use crate::protocol::market::{MAPPING, Market, Topology};
use crate::protocol::plain::{Engine, Plain};

/// Begins every value that nobody may see.
const CANARY: &str = "canary-";

/// A mapping in which both engines have something to complain of.
fn mapping(legacy: Engine) -> String {
    let fails = match legacy {
        Engine::Postgres => "CAST(CAST(l.title AS int) AS text)",
        Engine::Sqlite => "json_extract('{}', l.title)",
        // It only warns of values that it reads.
        Engine::Mariadb => "l.title",
    };
    let title = format!("CASE WHEN l.title LIKE '{CANARY}%' THEN {fails} ELSE l.title END");
    MAPPING
        .replace("\"l.title\"", &format!("\"{title}\""))
        .replace(
            "sku = \"l.sku\"",
            "sku = \"trim(l.sku)\"\nnote = \"l.house\"",
        )
}

/// A trigger of the application's on the new side that quotes what it refuses, before rows of `table`.
async fn quoting(side: &Plain, table: &str, event: &str, quoted: &str, when: &str) {
    let sql = match side.engine() {
        Engine::Postgres => format!(
            "CREATE FUNCTION quote_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             RAISE EXCEPTION 'no %', {quoted} USING ERRCODE = '42501'; END $$; \
             CREATE TRIGGER quoting BEFORE {event} ON {table} FOR EACH ROW WHEN ({when}) \
             EXECUTE FUNCTION quote_{table}()"
        ),
        Engine::Sqlite => format!(
            "CREATE TRIGGER quoting_{table} BEFORE {event} ON {table} WHEN {when} \
             BEGIN SELECT RAISE(ABORT, 'no ' || {quoted}); END"
        ),
        Engine::Mariadb => format!(
            "CREATE TRIGGER quoting_{table} BEFORE {event} ON {table} FOR EACH ROW BEGIN \
             DECLARE words text; IF {when} THEN SET words = concat('no ', {quoted}); \
             SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1142, MESSAGE_TEXT = words; END IF; END"
        ),
    };
    side.run(&sql).await;
}

/// The verbs, and everything that they say, with a log of everything.
struct Heard<'a> {
    desk: &'a Desk,
    all: Vec<(String, Ended)>,
}

impl Heard<'_> {
    async fn run(&mut self, line: &str) -> &Ended {
        let ended = self.desk.logged(line, "trace").await;
        assert_ne!(ended.code, Some(2), "{ended:#?}");
        self.all.push((line.to_owned(), ended));
        &self.all[self.all.len() - 1].1
    }

    async fn both(&mut self, line: &str) {
        self.run(line).await;
        self.run(&format!("{line} --json")).await;
    }

    fn says(&self, words: &str) -> bool {
        let mut all = self.all.iter();
        all.any(|(_, one)| one.out.contains(words) || one.err.contains(words))
    }

    #[track_caller]
    fn assert_no_canary(&self) {
        for (line, one) in &self.all {
            for text in [&one.out, &one.err] {
                let shown = text.lines().find(|text| text.contains(CANARY));
                assert!(shown.is_none(), "{line}: {shown:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_verb_shows_what_a_database_says_of_a_row_on_sqlite() {
    no_verb_shows_what_a_database_says_of_a_row(Topology::SqliteTwoFiles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_verb_shows_what_a_database_says_of_a_row_on_postgres() {
    no_verb_shows_what_a_database_says_of_a_row(Topology::PostgresTwoDatabases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_verb_shows_what_a_database_says_of_a_row_on_mariadb() {
    no_verb_shows_what_a_database_says_of_a_row(Topology::MariadbTwoDatabases).await;
}

async fn no_verb_shows_what_a_database_says_of_a_row(topology: Topology) {
    let market = Market::start(topology).await;
    market.fill(24).await;
    let planted = [
        "house = NULL",
        // The legacy side fails on it.
        "title = 'canary-title' WHERE id = 3",
        // A unique violation, once both are trimmed.
        "sku = 'canary-sku' WHERE id = 4",
        "sku = ' canary-sku' WHERE id = 6",
        // A check, in a row that its message may show as a whole.
        "status = 'forbidden', sku = 'canary-check' WHERE id = 7",
        // The application's own trigger.
        "sku = 'canary-raised' WHERE id = 8",
        // No number, for a column of numbers.
        "house = 'canary-note' WHERE id = 9",
    ];
    for change in planted {
        let sql = format!("UPDATE listings SET {change}");
        market.legacy.run(&sql).await;
    }
    let new = &market.new;
    new.run("ALTER TABLE service_listings DROP COLUMN note; ALTER TABLE service_listings ADD COLUMN note bigint").await;
    let raised = "NEW.sku = 'canary-raised'";
    quoting(new, "service_listings", "INSERT", "NEW.sku", raised).await;
    let desk = Desk::of(&market);
    std::fs::write(desk.path("listings.toml"), mapping(market.legacy.engine())).unwrap();

    let mut heard = Heard {
        desk: &desk,
        all: Vec::new(),
    };
    heard.run("install").await;
    heard.both("preview").await;
    heard.run("backfill").await;
    heard.run("backfill --no-load --json").await;
    heard.both("drain --within 1").await;
    heard.both("verify").await;
    forge_title(&market).await;
    let found = heard.run("verify --json").await.out.clone();
    std::fs::write(desk.path("found.json"), found).unwrap();
    heard.both("status").await;
    heard.both("check").await;
    heard
        .run("repair --report found.json --dry-run --json")
        .await;
    heard.run("repair --report found.json").await;
    heard.run("repair 3 4 6 7 8 9").await;
    for word in held(topology.new_engine()) {
        assert!(heard.says(word), "{word}: {:#?}", heard.all);
    }
    // What no key can be held for ends the verb, and is told with its causes.
    quoting(
        &market.legacy,
        "changeover_key",
        "UPDATE",
        "'canary-raised'",
        "1 = 1",
    )
    .await;
    heard.run("repair 11").await;
    let last = &heard.all[heard.all.len() - 1].1;
    assert_eq!(last.code, Some(3), "{last:#?}");
    assert!(
        last.err.contains("because: ") || last.err.contains("refuses the row ("),
        "{last:#?}"
    );
    heard.assert_no_canary();
}

/// What the product says of the rows that are held.
fn held(new: Engine) -> [&'static str; 4] {
    match new {
        Engine::Postgres => ["22P02", "23514", "42501", "a unique value of its image"],
        Engine::Sqlite => [
            "bad JSON path",
            "code 275",
            "code 1811",
            "a unique value of its image",
        ],
        Engine::Mariadb => [
            "error 1366",
            "error 4025",
            "error 1142",
            "a unique value of its image",
        ],
    }
}

async fn forge_title(market: &Market) {
    let sql = "UPDATE service_listings SET title = 'canary-forged' WHERE legacy_id = 11";
    market.new.force(sql).await;
}
