//! What private servers of every kind share: the user they run as, a folder, a port, patience.

use std::{
    collections::BTreeSet,
    env, fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::watchdog::{RunAs, Server, Watchdog};

/// How long a start or an end may take before the test fails. Crash recovery is part of a start.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Database servers refuse to run as root: then, the ids of the first of these users that exists,
/// or of `nobody`.
pub fn unprivileged(own: &str) -> Result<RunAs, String> {
    let me = fs::metadata("/proc/self").map_err(|e| format!("these tests need /proc: {e}"))?;
    if me.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").map_err(|e| format!("/etc/passwd: {e}"))?;
    let ids = |name: &str| {
        let fields: Vec<&str> = users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|f| f.first() == Some(&name))?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    let found = ids(own).or_else(|| ids("nobody"));
    found
        .map(Some)
        .ok_or_else(|| format!("root, and neither user {own} nor nobody exists"))
}

/// A new folder that the server's user owns, and its watchdog, which removes it. `server` says what
/// is started in the folder.
pub fn watched_folder(
    prefix: &str,
    run_as: RunAs,
    server: impl FnOnce(&Path) -> Server,
) -> Result<(PathBuf, Watchdog), String> {
    // A socket's path has 107 bytes, and root's own temporary folder may be closed to others.
    let ours = env::temp_dir();
    let base = match env::var_os("CHANGEOVER_SERVERS_IN") {
        Some(folder) => PathBuf::from(folder),
        None if run_as.is_some() || ours.as_os_str().len() > 60 => PathBuf::from("/tmp"),
        None => ours,
    };
    let folder = tempfile::Builder::new()
        .prefix(prefix)
        .tempdir_in(&base)
        .map_err(|error| format!("{}: {error}", base.display()))?;
    if let Some((user, group)) = run_as {
        chown(folder.path(), Some(user), Some(group)).map_err(|error| error.to_string())?;
    }
    let watchdog = Watchdog::over(folder.path(), &server(folder.path()), run_as)?;
    Ok((folder.keep(), watchdog))
}

/// Runs a program to its end; what it said is part of the error.
pub fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// A free port below the range from which the kernel takes the near ends of connections: the port
/// must still be free when a killed server comes back to it. None is given twice: its server may be away.
pub fn free_port() -> Result<u16, String> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    (0..1000)
        .map(|_| rand::random_range(15_000..32_000))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok() && given.insert(*port))
        .ok_or_else(|| "no free port on 127.0.0.1".to_owned())
}

/// The last lines of a log, for the message of a server that did not start.
pub fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
