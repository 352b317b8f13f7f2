//! Databases that are not there, not ours, or not safe.

use super::stand::{MAPPING, Stand, both_engines, chain, open, usual_mapping};
use crate::support::{self, postgres::Postgres};
use changeover::worker::dialect::session::Database;

both_engines!(not_there);

mod scenario {
    use super::*;

    pub(super) async fn not_there(postgres: bool) {
        let stand = Stand::usual(postgres).await;
        let before = stand.census().await;
        let gone: &[(&str, &str, &[&str])] = if postgres {
            &[
                (
                    "127.0.0.1:",
                    "127.0.0.1:1",
                    &["reaching PostgreSQL database"],
                ),
                (
                    "postgres@",
                    "nobody@",
                    &["the role or its password is refused", "correct the URL"],
                ),
            ]
        } else {
            &[(
                "new.db",
                "nowhere/new.db",
                &["nowhere/new.db", "correct the path"],
            )]
        };
        for (from, to, says) in gone {
            let mut wrong = stand.new_url.replace(from, to);
            if *to == "127.0.0.1:1" {
                // Port 1 of this machine, whatever the port was.
                let database = wrong.rsplit('/').next().unwrap().to_owned();
                wrong = format!("postgres://postgres@127.0.0.1:1/{database}");
            }
            for (legacy, new) in [(&stand.legacy_url, &wrong), (&wrong, &stand.new_url)] {
                let error = open(legacy, new, usual_mapping()).await.expect_err(to);
                for word in *says {
                    assert!(error.contains(word), "{to} does not say {word:?}: {error}");
                }
            }
        }
        assert_eq!(stand.census().await, before);
    }
}

#[test]
fn wrong_urls_say_what_to_write() {
    for (url, says) in [
        (
            "oracle://root@localhost/shop",
            "starts with postgres:, mysql: or sqlite:",
        ),
        ("shop.db", "starts with postgres:, mysql: or sqlite:"),
        ("", "starts with postgres:, mysql: or sqlite:"),
        (
            "postgres://u:secret@host:port/x",
            "postgres://user:password@host:port/database",
        ),
        (
            "mysql://u:secret@localhost",
            "mysql://user:password@host:port/database",
        ),
        ("sqlite:x?mode=nonsense", "sqlite:path/to/file.db"),
        ("sqlite::memory:", "a database in memory cannot be migrated"),
    ] {
        let error = chain(&Database::open(url).expect_err(url));
        assert!(
            error.contains(says) && !error.contains("secret"),
            "{url}: {error}"
        );
    }
}

/// A mistyped path must not become an empty database.
#[tokio::test]
async fn a_missing_file_is_not_created() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("typo.db");
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let error = open(&url, &url, usual_mapping())
        .await
        .expect_err("no file");
    assert!(
        error.contains("typo.db") && error.contains("create the database first"),
        "{error}"
    );
    assert!(!path.exists());
    std::fs::write(
        &path,
        "this is not a database, but long enough to have a header of one",
    )
    .unwrap();
    let error = open(&url, &url, usual_mapping())
        .await
        .expect_err("no database");
    assert!(
        error.contains("not a SQLite database") && error.contains("correct the path"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_settings_that_lose_commits_are_refused() {
    let stand = Stand::usual(true).await;
    let before = stand.census().await;
    let database = stand
        .new_url
        .split('/')
        .next_back()
        .unwrap()
        .split('?')
        .next()
        .unwrap()
        .to_owned();
    let role = format!("careless_{database}");
    for (set, reset, says) in [
        (
            format!("ALTER DATABASE {database} SET synchronous_commit = off"),
            format!("ALTER DATABASE {database} RESET synchronous_commit"),
            "synchronous_commit".to_owned(),
        ),
        (
            format!(
                "CREATE ROLE {role}; ALTER ROLE {role} IN DATABASE {database} SET synchronous_commit = off"
            ),
            format!(
                "ALTER ROLE {role} IN DATABASE {database} RESET synchronous_commit; DROP ROLE {role}"
            ),
            format!("synchronous_commit of role {role} in database {database}"),
        ),
    ] {
        stand.new.run(&set).await;
        let error = stand.open(MAPPING).await.expect_err("commits can be lost");
        for word in [
            says.as_str(),
            "new: ",
            "is \"off\"",
            "acknowledged writes can be lost",
            "set it to on",
        ] {
            assert!(
                error.contains(word),
                "{set}: does not say {word:?}: {error}"
            );
        }
        stand.new.run(&reset).await;
        stand.open(MAPPING).await.unwrap();
    }
    assert_eq!(stand.census().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_and_a_missing_database_say_so() {
    let server = Postgres::start();
    let plain = crate::protocol::market::Plain::open(&server.url("postgres")).await;
    plain.run("CREATE ROLE locked LOGIN PASSWORD 'right'").await;
    let rules = server.folder().join("data/pg_hba.conf");
    let trust = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(
        &rules,
        format!("host all locked all scram-sha-256\n{trust}"),
    )
    .unwrap();
    plain.run("SELECT pg_reload_conf()").await;
    let (folder, sqlite, _) = support::sqlite_pair();
    let file = crate::protocol::market::Plain::open(&sqlite).await;
    file.run(super::stand::LEGACY).await;
    let url = server.url("postgres");
    // The reload is done by another process, in its own time: a wrong password that is taken for
    // right is tried again.
    let wrong = url.replace("postgres@", "locked:wrong-secret@");
    let mut error = String::new();
    for _ in 0..200 {
        error = open(&sqlite, &wrong, usual_mapping())
            .await
            .expect_err("no tables there either");
        if error.contains("password") {
            break;
        }
    }
    assert!(
        error.contains("the role or its password is refused") && !error.contains("wrong-secret"),
        "{error}"
    );
    let error = open(&sqlite, &server.url("nowhere"), usual_mapping())
        .await
        .expect_err("no database");
    assert!(
        error.contains("there is no such database") && error.contains("nowhere"),
        "{error}"
    );
    drop(folder);
}

/// A standby answers every question of the preflight, and would take no trigger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_refused_on_either_side() {
    let stand = Stand::usual(true).await;
    let before = stand.census().await;
    let server = Postgres::start();
    for (name, sql) in [("old", super::stand::LEGACY), ("fresh", super::stand::NEW)] {
        server.create_database(name).await;
        let side = crate::protocol::market::Plain::open(&server.url(name)).await;
        let id = "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY";
        side.run(&sql.replace("{id}", id)).await;
    }
    let (old, fresh) = (server.url("old"), server.url("fresh"));
    open(&old, &fresh, usual_mapping()).await.unwrap();
    server.become_standby();
    for (side, legacy, new) in [
        ("legacy", &old, &stand.new_url),
        ("new", &stand.legacy_url, &fresh),
    ] {
        let error = open(legacy, new, usual_mapping())
            .await
            .expect_err("a standby");
        for word in [side, "is a standby", "connect to the primary"] {
            assert!(error.contains(word), "does not say {word:?}: {error}");
        }
    }
    assert_eq!(stand.census().await, before);
}
