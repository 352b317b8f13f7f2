//! The harness tried on itself: a test that leans on it must not wonder whether a kill was a kill.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use sqlx::PgConnection;

use super::*;

async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    url.parse::<PgConnectOptions>()?.connect().await
}

async fn number(connection: &mut PgConnection, sql: &'static str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(sql).fetch_one(connection).await
}

#[tokio::test]
async fn a_second_server_is_a_copy_of_the_first_and_leaves_nothing() {
    let mut identifiers = Vec::new();
    for _ in 0..2 {
        let server = Postgres::start();
        let mut connection = connect(&server.url("postgres")).await.unwrap();
        // Given by initdb, which takes seconds: it ran once for both.
        let sql = "SELECT system_identifier FROM pg_control_system()";
        identifiers.push(number(&mut connection, sql).await.unwrap());
        let pids = family(server.postmaster().unwrap());
        assert!(pids.len() > 1, "a server has background processes");
        let folder = server.folder().to_owned();
        drop(server);
        assert!(!folder.exists() && !pids.iter().any(|pid| alive(*pid)));
    }
    assert_eq!(identifiers[0], identifiers[1]);
}

#[tokio::test]
async fn commits_survive_kill9_and_open_connections_do_not() {
    let server = Postgres::start();
    server.create_database("books").await;
    let url = server.url("books");
    let mut open = connect(&url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE t (id bigint); INSERT INTO t VALUES (7)")
        .execute(&mut open)
        .await
        .unwrap();
    assert_eq!(
        sqlx::query_scalar::<_, String>("SHOW fsync")
            .fetch_one(&mut open)
            .await
            .unwrap(),
        "on"
    );

    let pids = family(server.postmaster().unwrap());
    server.kill9();
    assert!(
        !pids.iter().any(|pid| alive(*pid)),
        "a process of the killed server lives"
    );
    assert!(number(&mut open, "SELECT id FROM t").await.is_err());
    assert!(connect(&url).await.is_err());

    for _ in 0..3 {
        server.restart();
        let mut again = connect(&url).await.unwrap();
        assert_eq!(number(&mut again, "SELECT id FROM t").await.unwrap(), 7);
        server.kill9();
    }
    server.restart();
    assert!(
        server.log().contains("was not properly shut down"),
        "the server did not notice the kill"
    );
    server.stop();
    assert!(connect(&url).await.is_err());
    server.restart();
    assert!(connect(&url).await.is_ok());
}

#[tokio::test]
async fn a_frozen_server_answers_nothing_until_thawed() {
    let server = Postgres::start();
    let mut open = connect(&server.url("postgres")).await.unwrap();
    server.freeze();
    {
        let mut answer = Box::pin(number(&mut open, "SELECT 5::bigint"));
        assert!(
            tokio::time::timeout(Duration::from_millis(300), &mut answer)
                .await
                .is_err()
        );
        server.thaw();
        assert_eq!(answer.await.unwrap(), 5);
    }
    // A frozen server can be killed, and dropped.
    server.freeze();
    server.kill9();
    server.restart();
    server.freeze();
    let postmaster = server.postmaster().unwrap();
    drop(server);
    assert!(!alive(postmaster));
}

#[tokio::test]
async fn every_call_for_a_fresh_database_gives_another_one() {
    let (legacy, new) = fresh_pair().await;
    let one = fresh_one().await;
    let mut names = Vec::new();
    for url in [&legacy, &new, &one] {
        let mut connection = connect(url).await.unwrap();
        names.push(
            sqlx::query_scalar::<_, String>("SELECT current_database()::text")
                .fetch_one(&mut connection)
                .await
                .unwrap(),
        );
    }
    assert!(
        names[0].starts_with("legacy_")
            && names[1].starts_with("new_")
            && names[2].starts_with("both_")
    );

    shared().create_dictionary_database("words").await;
    let mut words = connect(&shared().url("words")).await.unwrap();
    let mut bytes = connect(&one).await.unwrap();
    let order = "SELECT ('a' < 'B')::int::bigint";
    assert_eq!(
        (
            number(&mut words, order).await.unwrap(),
            number(&mut bytes, order).await.unwrap()
        ),
        (1, 0)
    );
}

/// Not a test: [`a_killed_test_process_leaves_no_server`] runs it in a process of its own.
#[test]
#[ignore = "a process, not a test: `cargo test --test integration a_killed_test_process` runs it"]
fn holds_a_server_until_killed() {
    let server = Postgres::start();
    println!(
        "\nserver {} {}",
        server.postmaster().unwrap(),
        server.folder().display()
    );
    println!("template {}", template().unwrap().folder.display());
    thread::sleep(PATIENCE);
}

#[test]
fn a_killed_test_process_leaves_no_server() {
    let name = concat!(module_path!(), "::holds_a_server_until_killed");
    let mut process = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "--ignored",
            "--nocapture",
            name.split_once("::").unwrap().1,
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let server = lines
        .find(|line| line.starts_with("server "))
        .expect("the server's pid");
    let template = lines
        .find(|line| line.starts_with("template "))
        .expect("the template's folder");
    let mut words = server.split(' ').skip(1);
    let postmaster: u32 = words.next().unwrap().parse().unwrap();
    let folders = [words.next().unwrap(), template.split(' ').nth(1).unwrap()].map(PathBuf::from);
    assert!(alive(postmaster) && folders.iter().all(|folder| folder.exists()));
    let pids = family(postmaster);

    process.kill().unwrap();
    process.wait().unwrap();
    wait_until("the orphaned server to end", || {
        !pids.iter().any(|pid| alive(*pid)) && !folders.iter().any(|folder| folder.exists())
    });
}

#[test]
fn a_pid_file_is_ready_only_for_its_own_server() {
    let file = "42\n/data\n17\n2000\n/tmp\n127.0.0.1\n  1 2\nready   \n";
    assert!(says_ready(file, 42));
    assert!(!says_ready(file, 43), "the file of a killed server");
    assert!(!says_ready(&file.replace("ready", "starting"), 42));
    assert!(!says_ready("42\n", 42));
}
