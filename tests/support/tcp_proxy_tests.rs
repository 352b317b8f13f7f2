//! Every fault against a real server, with plain sqlx.

use std::time::Instant;

use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;

use super::*;
use crate::support::postgres::{fresh_one, shared};

const SHORT: Duration = Duration::from_millis(300);

/// A database with an empty table `t`, a proxy to it, and a connection that avoids the proxy.
async fn table() -> (FaultProxy, String, PgConnection) {
    let url = fresh_one().await;
    let mut direct = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE t (id bigint)")
        .execute(&mut direct)
        .await
        .unwrap();
    let proxy = FaultProxy::to(shared().port()).await;
    let through = proxy.through(&url);
    (proxy, through, direct)
}

async fn rows(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM t")
        .fetch_one(connection)
        .await
}

/// An insert in a transaction; the commit's result.
async fn write(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query("INSERT INTO t VALUES ($1)")
        .bind(1_i64)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

#[tokio::test]
async fn a_lost_commit_answer_is_an_error_with_the_row_there() {
    let (proxy, url, mut direct) = table().await;
    let mut client = PgConnection::connect(&url).await.unwrap();
    write(&mut client).await.unwrap();
    proxy.once(Fault::LoseCommitAnswer);
    assert_eq!(rows(&mut client).await.unwrap(), 1, "a read is no commit");
    write(&mut client).await.expect_err("the answer was lost");
    assert_eq!(rows(&mut direct).await.unwrap(), 2);
    assert!(rows(&mut client).await.is_err(), "the connection was cut");
    assert_eq!(proxy.fired(Fault::LoseCommitAnswer), 1);

    let mut client = PgConnection::connect(&url).await.unwrap();
    write(&mut client).await.expect("the fault struck once");
    assert_eq!(proxy.fired(Fault::LoseCommitAnswer), 1);
}

#[tokio::test]
async fn a_prepared_commit_is_lost_too() {
    let (proxy, url, mut direct) = table().await;
    let mut client = PgConnection::connect(&url).await.unwrap();
    for round in 0..2 {
        for sql in ["BEGIN", "INSERT INTO t VALUES (1)"] {
            sqlx::query(sql).execute(&mut client).await.unwrap();
        }
        // The second round sends no text any more: the statement is prepared.
        if round == 1 {
            proxy.set(Fault::LoseCommitAnswer);
        }
        assert_eq!(
            sqlx::query("COMMIT").execute(&mut client).await.is_ok(),
            round == 0
        );
    }
    assert_eq!(rows(&mut direct).await.unwrap(), 2);
    assert_eq!(proxy.fired(Fault::LoseCommitAnswer), 1);
}

#[tokio::test]
async fn a_lost_commit_is_an_error_with_no_row() {
    let (proxy, url, mut direct) = table().await;
    let mut client = PgConnection::connect(&url).await.unwrap();
    proxy.set(Fault::LoseCommit);
    write(&mut client).await.expect_err("the commit was lost");
    assert_eq!(rows(&mut direct).await.unwrap(), 0);
    assert_eq!(proxy.fired(Fault::LoseCommit), 1);
}

#[tokio::test]
async fn refuse_spares_open_connections_and_cut_does_not() {
    let (proxy, url, _direct) = table().await;
    let mut client = PgConnection::connect(&url).await.unwrap();
    proxy.set(Fault::Refuse);
    assert!(PgConnection::connect(&url).await.is_err());
    assert_eq!(rows(&mut client).await.unwrap(), 0);
    proxy.set(Fault::Cut);
    assert!(rows(&mut client).await.is_err());
    assert!(PgConnection::connect(&url).await.is_err());
    proxy.set(Fault::None);
    assert!(PgConnection::connect(&url).await.is_ok());
    assert_eq!(
        (proxy.fired(Fault::Refuse), proxy.fired(Fault::Cut)),
        (1, 2)
    );
}

#[tokio::test]
async fn a_held_question_is_answered_in_the_end_and_a_swallowed_one_never() {
    let (proxy, url, _direct) = table().await;
    let mut client = PgConnection::connect(&url).await.unwrap();
    proxy.set(Fault::Hold);
    {
        let mut answer = Box::pin(rows(&mut client));
        assert!(timeout(SHORT, &mut answer).await.is_err());
        proxy.set(Fault::None);
        assert_eq!(answer.await.unwrap(), 0);
    }
    proxy.set(Fault::Blackhole);
    let mut answer = Box::pin(rows(&mut client));
    assert!(timeout(SHORT, &mut answer).await.is_err());
    assert!(timeout(SHORT, PgConnection::connect(&url)).await.is_err());
    proxy.set(Fault::None);
    let answer = timeout(10 * SHORT, answer)
        .await
        .expect("a connection that lost bytes is cut");
    assert!(answer.is_err());
    assert_eq!(
        (proxy.fired(Fault::Hold), proxy.fired(Fault::Blackhole)),
        (1, 2)
    );
}

#[tokio::test]
async fn answers_are_late_or_end_in_the_middle() {
    let (proxy, url, _direct) = table().await;
    let mut client = PgConnection::connect(&url).await.unwrap();
    rows(&mut client).await.unwrap();
    proxy.once(Fault::Delay(SHORT));
    let asked = Instant::now();
    rows(&mut client).await.unwrap();
    assert!(asked.elapsed() >= SHORT);
    assert_eq!(proxy.fired(Fault::Delay(SHORT)), 1);

    proxy.set(Fault::CutAfterServerBytes(10_000));
    let long = "SELECT repeat('x', 1000) FROM generate_series(1, $1)";
    let ask = |count: i32| sqlx::query_scalar::<_, String>(long).bind(count);
    assert_eq!(ask(3).fetch_all(&mut client).await.unwrap().len(), 3);
    assert!(ask(30).fetch_all(&mut client).await.is_err());
    assert_eq!(proxy.fired(Fault::CutAfterServerBytes(0)), 1);
}

/// The same of MariaDB: its protocol says what a COMMIT is and where an answer ends in another way.
mod mariadb {
    use sqlx::{Connection as _, MySqlConnection};

    use super::super::*;
    use crate::support::mariadb::fresh_one;

    async fn table() -> (FaultProxy, MySqlConnection, MySqlConnection) {
        let url = fresh_one().await;
        let mut direct = MySqlConnection::connect(&url).await.unwrap();
        sqlx::raw_sql("CREATE TABLE t (id bigint)")
            .execute(&mut direct)
            .await
            .unwrap();
        let (proxy, through) = FaultProxy::before(&url).await;
        let client = MySqlConnection::connect(&through).await.unwrap();
        (proxy, client, direct)
    }

    async fn rows(connection: &mut MySqlConnection) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT count(*) FROM t")
            .fetch_one(connection)
            .await
    }

    async fn write(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        let mut transaction = connection.begin().await?;
        sqlx::query("INSERT INTO t VALUES (?)")
            .bind(1_i64)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    #[tokio::test]
    async fn a_commit_or_its_answer_is_lost() {
        for (fault, arrives) in [(Fault::LoseCommitAnswer, 1), (Fault::LoseCommit, 0)] {
            let (proxy, mut client, mut direct) = table().await;
            write(&mut client).await.unwrap();
            proxy.once(fault);
            assert_eq!(rows(&mut client).await.unwrap(), 1, "a read is no commit");
            write(&mut client).await.expect_err("it was lost");
            assert_eq!(rows(&mut direct).await.unwrap(), 1 + arrives, "{fault:?}");
            assert!(rows(&mut client).await.is_err(), "the connection was cut");
            assert_eq!(proxy.fired(fault), 1);
        }
    }

    #[tokio::test]
    async fn a_commit_among_other_statements_or_prepared_is_lost_too() {
        let (proxy, mut client, mut direct) = table().await;
        proxy.once(Fault::LoseCommitAnswer);
        let several = "BEGIN; SELECT 1; INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2)";
        let lost = sqlx::raw_sql(several).execute(&mut client).await;
        lost.expect_err("the answer was lost");
        assert_eq!(rows(&mut direct).await.unwrap(), 2);
        assert_eq!(proxy.fired(Fault::LoseCommitAnswer), 1);

        let (proxy, mut client, mut direct) = table().await;
        for round in 0..2 {
            for sql in ["START TRANSACTION", "INSERT INTO t VALUES (1)"] {
                sqlx::raw_sql(sql).execute(&mut client).await.unwrap();
            }
            // The second round sends no text any more: the statement is prepared.
            if round == 1 {
                proxy.set(Fault::LoseCommitAnswer);
            }
            let done = sqlx::query("COMMIT").execute(&mut client).await;
            assert_eq!(done.is_ok(), round == 0);
        }
        assert_eq!(rows(&mut direct).await.unwrap(), 2);
        assert_eq!(proxy.fired(Fault::LoseCommitAnswer), 1);
    }

    #[tokio::test]
    async fn requests_are_lost_by_number() {
        for (fault, there) in [
            (Fault::LoseRequest(1), [1, 1]),
            (Fault::LoseAnswer(1), [1, 2]),
        ] {
            let (proxy, mut client, mut direct) = table().await;
            proxy.once(fault);
            for (round, there) in there.into_iter().enumerate() {
                let insert = sqlx::raw_sql("INSERT INTO t VALUES (1)");
                let done = insert.execute(&mut client).await;
                assert_eq!(done.is_ok(), round == 0, "{fault:?}");
                assert_eq!(rows(&mut direct).await.unwrap(), there);
            }
            assert_eq!(proxy.fired(fault), 1);
        }
    }
}
