//! Private MariaDB servers: own data folder, own port on 127.0.0.1, own socket.
//!
//! What `support::postgres` says of its servers holds for these: none that already runs is needed
//! or touched, `mariadb-install-db` runs once per process, each server starts from a copy, a COMMIT
//! is on disk when it was answered, and everything is ended by pid, by the [`Watchdog`] if need be.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, mysql::MySqlConnectOptions};

use super::{
    mariadb_install::{LOG_SIZE, Template, mariadb_folder, template},
    server::{PATIENCE, end_of, free_port, run, wait_until},
    watchdog::{Watchdog, alive, signal},
};

/// A server of one's own, to be killed and restarted at will. Dropping it ends it and removes its
/// folder. Every method blocks for as long as its work takes; none needs a runtime, except where
/// it is `async`.
pub struct Mariadb {
    folder: PathBuf,
    port: u16,
    state: Mutex<State>,
}

struct State {
    watchdog: Watchdog,
    /// `None` while the server is down.
    process: Option<u32>,
}

impl Mariadb {
    /// Starts a server.
    ///
    /// # Panics
    /// With instructions when MariaDB is not installed, with the end of the server's log when it
    /// does not start.
    pub fn start() -> Self {
        Self::try_start().unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// The address of database `db` over TCP, so that a fault proxy can sit between: user `root`,
    /// no password. `"mysql"` is a database that always exists.
    pub fn url(&self, db: &str) -> String {
        format!(
            "mysql://root@127.0.0.1:{}/{db}?ssl-mode=disabled",
            self.port
        )
    }

    /// The TCP port, which a restart keeps.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's pid, if it is up. It is one process.
    pub fn process(&self) -> Option<u32> {
        self.lock().process
    }

    /// The folder that holds the data, the socket and the log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Creates a database as most applications have it: `utf8mb4`, compared without regard to case,
    /// accents and trailing spaces.
    pub async fn create_database(&self, name: &str) {
        self.create(name, "utf8mb4_general_ci").await;
    }

    /// Creates a database that compares text byte by byte, trailing spaces included.
    pub async fn create_binary_database(&self, name: &str) {
        self.create(name, "utf8mb4_nopad_bin").await;
    }

    /// SIGKILL: what a power cut or the kernel's out-of-memory killer leaves. Returns when the
    /// process is gone.
    pub fn kill9(&self) {
        let mut state = self.lock();
        let Some(process) = state.process.take() else {
            return;
        };
        signal("KILL", &[process]);
        state.watchdog.reap().unwrap();
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn freeze(&self) {
        let Some(process) = self.lock().process else {
            return;
        };
        signal("STOP", &[process]);
        wait_until("the server to stop", || {
            super::watchdog::stat(process).is_none_or(|(state, _)| matches!(state, 'T' | 'Z' | 'X'))
        });
    }

    /// SIGCONT after [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        if let Some(process) = self.lock().process {
            signal("CONT", &[process]);
        }
    }

    /// An orderly end that waits for no client. [`restart`](Self::restart) brings the server back.
    pub fn stop(&self) {
        let mut state = self.lock();
        let Some(process) = state.process.take() else {
            return;
        };
        signal("CONT", &[process]);
        signal("TERM", &[process]);
        state.watchdog.reap().unwrap();
    }

    /// Starts the server again with its data and on its port, ending it first if it is up, and
    /// returns when it accepts connections: after crash recovery, if it was killed.
    pub fn restart(&self) {
        self.stop();
        let mut state = self.lock();
        self.launch(&mut state)
            .unwrap_or_else(|problem| panic!("{problem}"));
    }

    /// A server that applies what this one does from now on. To be called before there is anything. The
    /// connection between them is a user's, and has to be begun: `START SLAVE`.
    pub async fn replica(&self) -> Mariadb {
        tokio::task::block_in_place(|| {
            self.set("log-bin = binlog\nsync_binlog = 1\nserver-id = 1");
            self.restart();
        });
        let replica = tokio::task::block_in_place(|| {
            let replica = Mariadb::start();
            replica.set("server-id = 2");
            replica.restart();
            replica
        });
        let sql = format!(
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = 'root', \
             MASTER_CONNECT_RETRY = 1, MASTER_USE_GTID = slave_pos; START SLAVE",
            self.port
        );
        replica.run(&sql).await;
        replica
    }

    /// Puts other settings in the place of what was set of them.
    fn set(&self, lines: &str) {
        let settings = self.folder.join("my.cnf");
        let text = fs::read_to_string(&settings).unwrap();
        let text = format!("{}{lines}\n", text.replace("skip-log-bin\n", ""));
        fs::write(&settings, text).unwrap();
    }

    fn try_start() -> Result<Self, String> {
        let template = template()?;
        // Another process can take the free port between our look and the server's bind.
        let mut problem = String::new();
        for _ in 0..10 {
            let server = Self::prepare(template)?;
            match server.launch(&mut server.lock()) {
                Ok(()) => {}
                Err(error) if error.contains("Address already in use") => {
                    problem = error;
                    continue;
                }
                Err(error) => return Err(error),
            }
            return Ok(server);
        }
        Err(problem)
    }

    fn prepare(template: &Template) -> Result<Self, String> {
        let (folder, watchdog) = mariadb_folder(&template.programs, template.run_as)?;
        run(Command::new("cp")
            .arg("-a")
            .arg(template.folder.join("data"))
            .arg(&folder))?;
        let port = free_port()?;
        let settings = folder.join("my.cnf");
        let place = folder.display();
        let text = format!(
            "[mariadbd]\n\
             datadir = {place}/data\nsocket = {place}/socket\npid-file = {place}/pid\n\
             tmpdir = {place}\n\
             bind-address = 127.0.0.1\nport = {port}\nskip-name-resolve\nmax_connections = 100\n\
             {LOG_SIZE}\ninnodb_buffer_pool_size = 64M\nperformance_schema = OFF\ntable_open_cache = 400\nskip-log-bin\n\
             character-set-server = utf8mb4\ncollation-server = utf8mb4_general_ci\n\
             # Of no session: one that forgets its own is found.\n\
             default-time-zone = '+05:30'\n\
             # A COMMIT that was answered is on disk.\n\
             innodb_flush_log_at_trx_commit = 1\n\
             # What makes starts and ends slow, and no test needs.\n\
             innodb_buffer_pool_load_at_startup = OFF\ninnodb_buffer_pool_dump_at_shutdown = OFF\n",
        );
        fs::write(&settings, text).map_err(|e| format!("{}: {e}", settings.display()))?;
        Ok(Self {
            folder,
            port,
            state: Mutex::new(State {
                watchdog,
                process: None,
            }),
        })
    }

    fn launch(&self, state: &mut State) -> Result<(), String> {
        // The log is one file for all starts.
        let before = self.log().len();
        let process = state.watchdog.start()?;
        state.process = Some(process);
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let log = self.log();
            let said = log.get(before..).unwrap_or_default();
            if said.contains("ready for connections") {
                return Ok(());
            }
            if !alive(process) {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(format!(
            "MariaDB did not start; the end of its log:\n{}",
            end_of(&self.log())
        ))
    }

    async fn create(&self, name: &str, collation: &str) {
        self.run(&format!(
            "CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE {collation}"
        ))
        .await;
    }

    /// Runs statements as `root`.
    pub async fn run(&self, sql: &str) {
        // Without a pool: a pool's time limits would strike in a test whose time is paused.
        let options: MySqlConnectOptions = self.url("mysql").parse().unwrap();
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server that this process's tests share. Never kill or freeze it.
pub fn shared() -> &'static Mariadb {
    static SHARED: OnceLock<Result<Mariadb, String>> = OnceLock::new();
    SHARED
        .get_or_init(Mariadb::try_start)
        .as_ref()
        .unwrap_or_else(|problem| panic!("{problem}"))
}

/// Two new empty databases of the shared server: `(URL of legacy, URL of new)`.
pub async fn fresh_pair() -> (String, String) {
    (fresh("legacy").await, fresh("new").await)
}

/// A new empty database of the shared server: for both sides in one database, or for one side of a
/// pair of engines.
pub async fn fresh_one() -> String {
    fresh("both").await
}

async fn fresh(kind: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let name = format!("{kind}_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let server = shared();
    server.create_database(&name).await;
    server.url(&name)
}

#[path = "mariadb_tests.rs"]
mod tests;
