//! The harness tried on itself, as `postgres_tests.rs` does.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use sqlx::MySqlConnection;

use super::*;

async fn connect(url: &str) -> Result<MySqlConnection, sqlx::Error> {
    url.parse::<MySqlConnectOptions>()?.connect().await
}

async fn text(connection: &mut MySqlConnection, sql: &'static str) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(sql).fetch_one(connection).await
}

#[tokio::test]
async fn a_server_runs_by_its_own_settings_and_leaves_nothing() {
    let server = Mariadb::start();
    server.create_database("books").await;
    server.create_binary_database("bytes").await;
    let mut connection = connect(&server.url("books")).await.unwrap();
    let settings = "SELECT CONCAT_WS(' ', DATABASE(), @@collation_database, \
                    @@innodb_flush_log_at_trx_commit, @@performance_schema, @@log_bin)";
    assert_eq!(
        text(&mut connection, settings).await.unwrap(),
        "books utf8mb4_general_ci 1 OFF OFF"
    );
    let alike = "SELECT CONCAT('a' = 'A ')";
    assert_eq!(text(&mut connection, alike).await.unwrap(), "1");
    let mut bytes = connect(&server.url("bytes")).await.unwrap();
    sqlx::raw_sql(
        "CREATE TABLE t (k varchar(9) PRIMARY KEY); INSERT INTO t VALUES ('a'), ('a '), ('A')",
    )
    .execute(&mut bytes)
    .await
    .unwrap();

    let (process, folder) = (server.process().unwrap(), server.folder().to_owned());
    assert!(alive(process) && folder.join("socket").exists());
    drop(server);
    assert!(!folder.exists() && !alive(process));
}

#[tokio::test]
async fn commits_survive_kill9_and_open_connections_do_not() {
    let server = Mariadb::start();
    server.create_database("books").await;
    let url = server.url("books");
    let mut open = connect(&url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE t (id varchar(9)); INSERT INTO t VALUES ('seven')")
        .execute(&mut open)
        .await
        .unwrap();
    let process = server.process().unwrap();
    server.kill9();
    assert!(!alive(process), "the killed server lives");
    assert!(text(&mut open, "SELECT id FROM t").await.is_err());
    assert!(connect(&url).await.is_err());

    for _ in 0..2 {
        server.restart();
        let mut again = connect(&url).await.unwrap();
        let kept = text(&mut again, "SELECT id FROM t").await.unwrap();
        assert_eq!(kept, "seven");
        server.kill9();
    }
    server.restart();
    assert!(
        server.log().contains("Starting crash recovery"),
        "the server did not notice the kill"
    );
    server.stop();
    assert!(connect(&url).await.is_err());
    server.restart();
    assert!(connect(&url).await.is_ok());
}

#[tokio::test]
async fn a_frozen_server_answers_nothing_until_thawed() {
    let server = Mariadb::start();
    let mut open = connect(&server.url("mysql")).await.unwrap();
    server.freeze();
    {
        let mut answer = Box::pin(text(&mut open, "SELECT 'five'"));
        assert!(
            tokio::time::timeout(Duration::from_millis(300), &mut answer)
                .await
                .is_err()
        );
        server.thaw();
        assert_eq!(answer.await.unwrap(), "five");
    }
    // A frozen server can be dropped.
    server.freeze();
    let process = server.process().unwrap();
    drop(server);
    assert!(!alive(process));
}

#[tokio::test]
async fn every_call_for_a_fresh_database_gives_another_one() {
    let ((legacy, new), one) = (fresh_pair().await, fresh_one().await);
    let mut names = Vec::new();
    for url in [&legacy, &new, &one] {
        let mut connection = connect(url).await.unwrap();
        names.push(text(&mut connection, "SELECT DATABASE()").await.unwrap());
    }
    assert!(
        names[0].starts_with("legacy_")
            && names[1].starts_with("new_")
            && names[2].starts_with("both_")
    );
}

/// Not a test: [`a_killed_test_process_leaves_no_server`] runs it in a process of its own.
#[test]
#[ignore = "a process, not a test: `cargo test --test integration a_killed_test_process` runs it"]
fn holds_a_server_until_killed() {
    let server = Mariadb::start();
    let (process, template) = (server.process().unwrap(), template().unwrap());
    println!("\nserver {process} {}", server.folder().display());
    println!("template 0 {}", template.folder.display());
    thread::sleep(PATIENCE);
}

#[test]
fn a_killed_test_process_leaves_no_server() {
    let name = concat!(module_path!(), "::holds_a_server_until_killed");
    let name = name.split_once("::").unwrap().1;
    let mut process = Command::new(env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", name])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let said: Vec<(u32, PathBuf)> = lines
        .map_while(Result::ok)
        .filter(|line| line.starts_with("server ") || line.starts_with("template "))
        .map(|line| {
            let mut words = line.split(' ').skip(1);
            let pid = words.next().unwrap().parse().unwrap();
            (pid, words.next().unwrap().into())
        })
        .take(2)
        .collect();
    assert!(alive(said[0].0) && said.iter().all(|(_, folder)| folder.exists()));

    process.kill().unwrap();
    process.wait().unwrap();
    wait_until("the orphaned server to end", || {
        !alive(said[0].0) && !said.iter().any(|(_, folder)| folder.exists())
    });
}
