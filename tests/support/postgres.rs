//! Private PostgreSQL servers: own data folder, own port on 127.0.0.1, own socket folder.
//!
//! A server already running on this machine is neither needed nor touched. `initdb` runs once per
//! process; each server starts from a copy of what it made, with `fsync` on, so that killing it is
//! a fair trial. Everything is ended by pid, never by name, and when the test process vanishes the
//! [`Watchdog`] ends what it left.

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

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, postgres::PgConnectOptions};

use super::{
    postgres_install::{Template, postgres_folder, template},
    server::{PATIENCE, end_of, free_port, run, wait_until},
    watchdog::{Watchdog, alive, children, signal},
};

/// A server of one's own, to be killed and restarted at will. Dropping it ends it and removes its
/// folder. Every method blocks for as long as its work takes; none needs a runtime, except where
/// it is `async`.
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    state: Mutex<State>,
}

struct State {
    watchdog: Watchdog,
    /// `None` while the server is down.
    postmaster: Option<u32>,
}

impl Postgres {
    /// Starts a server.
    ///
    /// # Panics
    /// With instructions when PostgreSQL is not installed, with the end of the server's log when
    /// it does not start.
    pub fn start() -> Self {
        Self::try_start().unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// The address of database `db` over TCP, so that a fault proxy can sit between: user
    /// `postgres`, no password. `"postgres"` is a database that always exists.
    pub fn url(&self, db: &str) -> String {
        format!(
            "postgres://postgres@127.0.0.1:{}/{db}?sslmode=disable",
            self.port
        )
    }

    /// The TCP port, which a restart keeps.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The pid of the postmaster, if the server is up.
    pub fn postmaster(&self) -> Option<u32> {
        self.lock().postmaster
    }

    /// The folder that holds the data, the socket and the log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Creates a database that compares text byte by byte.
    pub async fn create_database(&self, name: &str) {
        self.create(name, "").await;
    }

    /// Creates a database that compares text as an English dictionary does, as most databases in
    /// production do: there `'a' < 'B'`, unlike in SQLite and in `C`.
    pub async fn create_dictionary_database(&self, name: &str) {
        self.create(name, "LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
            .await;
    }

    /// SIGKILL to the postmaster and all its children at once: what a power cut or the kernel's
    /// out-of-memory killer leaves. Returns when all of them are gone.
    pub fn kill9(&self) {
        let mut state = self.lock();
        let Some(postmaster) = state.postmaster.take() else {
            return;
        };
        let family = stopped_family(postmaster);
        signal("KILL", &family);
        state.watchdog.reap().unwrap();
        wait_until("the killed server's processes to end", || {
            !family.iter().any(|p| alive(*p))
        });
    }

    /// SIGSTOP to the postmaster and all its children: connections stay open and nothing answers.
    pub fn freeze(&self) {
        if let Some(postmaster) = self.lock().postmaster {
            stopped_family(postmaster);
        }
    }

    /// SIGCONT after [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        if let Some(postmaster) = self.lock().postmaster {
            signal("CONT", &family(postmaster));
        }
    }

    /// An orderly end that waits for no client ("fast shutdown"). [`restart`](Self::restart)
    /// brings the server back.
    pub fn stop(&self) {
        let mut state = self.lock();
        let Some(postmaster) = state.postmaster.take() else {
            return;
        };
        signal("CONT", &family(postmaster));
        signal("INT", &[postmaster]);
        state.watchdog.reap().unwrap();
    }

    /// Starts the server again with its data and on its port, ending it first if it is up, and
    /// returns when it accepts connections: after crash recovery, if it was killed.
    pub fn restart(&self) {
        self.stop();
        let pid_file = self.folder.join("data/postmaster.pid");
        // A killed postmaster leaves its pid file. The pid may belong to somebody else by now, and
        // then the server would refuse to start; ours was reaped, so the file is stale.
        let _ = fs::remove_file(pid_file);
        let mut state = self.lock();
        self.launch(&mut state)
            .unwrap_or_else(|problem| panic!("{problem}"));
    }

    /// Makes the server what a replica is: a hot standby, which answers questions and takes no
    /// write. It has no primary to follow and waits for one for ever.
    pub fn become_standby(&self) {
        self.set("wal_level = replica\nhot_standby = on");
        // Once as a primary: a standby refuses a log that was written for less.
        self.restart();
        self.stop();
        self.sign_as_standby();
        self.restart();
    }

    /// A replica of this server, which follows it: a copy of its data, taken while it is down. This server
    /// is restarted.
    pub fn replica(&self) -> Postgres {
        self.set("wal_level = replica\nmax_wal_senders = 4");
        self.restart();
        self.stop();
        let replica = template().and_then(Self::prepare).unwrap();
        let settings = replica.folder.join("data/postgresql.conf");
        let text = fs::read_to_string(&settings).unwrap();
        fs::remove_dir_all(replica.folder.join("data")).unwrap();
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(self.folder.join("data"));
        run(copy.arg(&replica.folder)).unwrap();
        fs::write(&settings, text).unwrap();
        replica.set(&format!(
            "wal_level = replica\nhot_standby = on\nmax_wal_senders = 4\nprimary_conninfo = 'host=127.0.0.1 port={} user=postgres'",
            self.port
        ));
        replica.sign_as_standby();
        self.restart();
        replica.restart();
        replica
    }

    /// Appends to the settings, in place, which keeps the file's owner.
    fn set(&self, lines: &str) {
        use std::io::Write as _;
        let settings = self.folder.join("data/postgresql.conf");
        let mut settings = fs::OpenOptions::new().append(true).open(settings).unwrap();
        writeln!(settings, "{lines}").unwrap();
    }

    fn sign_as_standby(&self) {
        use std::os::unix::fs::PermissionsExt as _;
        let sign = self.folder.join("data/standby.signal");
        fs::write(&sign, "").unwrap();
        fs::set_permissions(&sign, fs::Permissions::from_mode(0o666)).unwrap();
    }

    fn try_start() -> Result<Self, String> {
        let template = template()?;
        // Another process can take the free port between our look and the server's bind.
        let mut problem = String::new();
        for _ in 0..10 {
            let server = Self::prepare(template)?;
            match server.launch(&mut server.lock()) {
                Ok(()) => {}
                Err(error) if error.contains("could not bind") => {
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
        let (folder, watchdog) = postgres_folder(&template.bin, template.run_as)?;
        run(Command::new("cp")
            .arg("-a")
            .arg(template.folder.join("data"))
            .arg(&folder))?;
        let port = free_port()?;
        let settings = folder.join("data/postgresql.conf");
        let text = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\n\
             max_connections = 100\nshared_buffers = 32MB\nfsync = on\n\
             wal_level = minimal\nmax_wal_senders = 0\ntimezone = 'UTC'\nlog_timezone = 'UTC'\n\
             # One call instead of one per file: a killed server is back in a tenth of the time.\n\
             recovery_init_sync_method = syncfs\n\
             # Shared memory as files in the data folder: a killed server leaves none elsewhere.\n\
             dynamic_shared_memory_type = mmap\n",
            folder.display()
        );
        // Written in place, which keeps the file's owner.
        fs::write(&settings, text).map_err(|e| format!("{}: {e}", settings.display()))?;
        Ok(Self {
            folder,
            port,
            state: Mutex::new(State {
                watchdog,
                postmaster: None,
            }),
        })
    }

    fn launch(&self, state: &mut State) -> Result<(), String> {
        let pid = state.watchdog.start()?;
        state.postmaster = Some(pid);
        let pid_file = self.folder.join("data/postmaster.pid");
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if says_ready(&fs::read_to_string(&pid_file).unwrap_or_default(), pid) {
                return Ok(());
            }
            if !alive(pid) {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(format!(
            "PostgreSQL did not start; the end of its log:\n{}",
            end_of(&self.log())
        ))
    }

    async fn create(&self, name: &str, rest: &str) {
        // Without a pool: a pool's time limits would strike in a test whose time is paused.
        let options: PgConnectOptions = self.url("postgres").parse().unwrap();
        let mut connection = options.connect().await.unwrap();
        let sql = format!("CREATE DATABASE \"{name}\" TEMPLATE template0 {rest}");
        sqlx::raw_sql(AssertSqlSafe(sql))
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
pub fn shared() -> &'static Postgres {
    static SHARED: OnceLock<Result<Postgres, String>> = OnceLock::new();
    SHARED
        .get_or_init(Postgres::try_start)
        .as_ref()
        .unwrap_or_else(|problem| panic!("{problem}"))
}

/// Two new empty databases of the shared server: `(URL of legacy, URL of new)`.
pub async fn fresh_pair() -> (String, String) {
    (fresh("legacy").await, fresh("new").await)
}

/// A new empty database of the shared server, for both sides in one database.
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

/// Reads `postmaster.pid` as `pg_ctl` does: line 1 is the pid, line 8 the state, which is
/// `standby` for ever on a standby that takes connections.
fn says_ready(pid_file: &str, pid: u32) -> bool {
    let mut lines = pid_file.lines();
    lines
        .next()
        .is_some_and(|line| line.trim() == pid.to_string())
        && lines
            .nth(6)
            .is_some_and(|line| matches!(line.trim(), "ready" | "standby"))
}

fn family(postmaster: u32) -> Vec<u32> {
    let mut pids = vec![postmaster];
    pids.extend(children(postmaster));
    pids
}

/// Stops the postmaster first, so that it starts no child while we list them.
fn stopped_family(postmaster: u32) -> Vec<u32> {
    signal("STOP", &[postmaster]);
    wait_until("the postmaster to stop", || {
        super::watchdog::stat(postmaster).is_none_or(|(state, _)| matches!(state, 'T' | 'Z' | 'X'))
    });
    let pids = family(postmaster);
    signal("STOP", &pids);
    pids
}

#[path = "postgres_tests.rs"]
mod tests;
