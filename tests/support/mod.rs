//! What the scenarios stand on: real servers ([`postgres`], [`mariadb`]), named faults between a
//! client and a server ([`tcp_proxy`]), SQLite files and random seeds.
#![allow(dead_code, reason = "not every scenario uses every part")]

pub mod mariadb;
mod mariadb_install;
mod mysql_wire;
pub mod postgres;
mod postgres_install;
pub mod server;
pub mod source;
pub mod tcp_proxy;
pub mod tree;
pub mod watchdog;
mod wire;

use tempfile::TempDir;

/// Two SQLite files in a folder of their own, which goes when the [`TempDir`] is dropped:
/// `(folder, URL of legacy, URL of new)`. The files are created by the first connection.
pub fn sqlite_pair() -> (TempDir, String, String) {
    let folder = tempfile::Builder::new()
        .prefix("changeover-sqlite-")
        .tempdir()
        .unwrap();
    let url = |name: &str| format!("sqlite://{}?mode=rwc", folder.path().join(name).display());
    let (legacy, new) = (url("legacy.db"), url("new.db"));
    (folder, legacy, new)
}

/// The seed of a random run. It is printed, so a failed run shows it, and
/// `CHANGEOVER_SEED=<seed>` replays it.
pub fn seed() -> u64 {
    let seed = match std::env::var("CHANGEOVER_SEED") {
        Ok(text) => read_seed(&text),
        Err(_) => rand::random(),
    };
    let test = std::thread::current().name().unwrap_or("test").to_owned();
    println!("{test}: seed {seed} (CHANGEOVER_SEED={seed} replays it)");
    seed
}

/// The seeds of a random run that is made several times: each prints its own. `CHANGEOVER_SEEDS` says how
/// many, `CHANGEOVER_SEED` replays one.
pub fn seeds(usually: u64) -> impl Iterator<Item = u64> {
    let many = match std::env::var("CHANGEOVER_SEEDS") {
        _ if std::env::var_os("CHANGEOVER_SEED").is_some() => 1,
        Ok(many) => many.trim().parse().expect("CHANGEOVER_SEEDS is a number"),
        Err(_) if fast() => 1,
        Err(_) => usually,
    };
    (0..many).map(|_| seed())
}

/// True in the short run, `scripts/test --fast`: long random runs take fewer rounds.
pub fn fast() -> bool {
    std::env::var("CHANGEOVER_FAST").is_ok_and(|value| value != "0" && !value.is_empty())
}

/// Says that a test could not run, past the capture of a passing test's output. `scripts/test`
/// names a file in `CHANGEOVER_SKIPPED` and counts its lines.
pub fn skipped(test: &str, why: &str) {
    use std::io::Write as _;
    let line = format!("{test}: {why}\n");
    let _ = std::io::stderr().write_all(format!("SKIPPED {line}").as_bytes());
    if let Some(path) = std::env::var_os("CHANGEOVER_SKIPPED") {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .unwrap();
    }
}

fn read_seed(text: &str) -> u64 {
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("CHANGEOVER_SEED is not a number: {text:?}"))
}

mod tests {
    use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

    use super::*;

    #[tokio::test]
    async fn a_sqlite_pair_is_two_files() {
        let (folder, legacy, new) = sqlite_pair();
        for url in [&legacy, &new] {
            let options: SqliteConnectOptions = url.parse().unwrap();
            let mut connection = options.connect().await.unwrap();
            sqlx::raw_sql("CREATE TABLE only_once (id INTEGER)")
                .execute(&mut connection)
                .await
                .unwrap();
            connection.close().await.unwrap();
        }
        let path = folder.path().to_owned();
        assert!(path.join("legacy.db").exists() && path.join("new.db").exists());
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_seed_is_read_as_printed() {
        assert_eq!(read_seed(" 18446744073709551615\n"), u64::MAX);
        assert!(std::panic::catch_unwind(|| read_seed("0x12")).is_err());
    }
}
