//! Where PostgreSQL is installed, as whom it runs, and the data folder that servers begin with.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::watchdog::{RunAs, Watchdog};

/// What `initdb` made, for servers to be copied from.
pub struct Template {
    pub bin: PathBuf,
    pub run_as: RunAs,
    pub folder: PathBuf,
    _watchdog: Watchdog,
}

/// Runs `initdb` at the first call; all calls share what came of it.
pub fn template() -> Result<&'static Template, String> {
    static TEMPLATE: OnceLock<Result<Template, String>> = OnceLock::new();
    TEMPLATE
        .get_or_init(make_template)
        .as_ref()
        .map_err(Clone::clone)
}

fn make_template() -> Result<Template, String> {
    let bin = find_bin(
        env::var_os("CHANGEOVER_PG_BIN").map(PathBuf::from),
        Path::new("/usr/lib/postgresql"),
        &env::var_os("PATH").unwrap_or_default(),
    )?;
    let run_as = unprivileged()?;
    let (folder, watchdog) = owned_folder(&bin, run_as)?;
    let mut initdb = Command::new(bin.join("initdb"));
    initdb
        .args(["--no-sync", "--username=postgres", "--auth=trust"])
        .args(["--encoding=UTF8", "--locale=C.UTF-8", "--pgdata"])
        .arg(folder.join("data"))
        .current_dir(&folder);
    if let Some((user, group)) = run_as {
        initdb.uid(user).gid(group);
    }
    run(&mut initdb)?;
    Ok(Template {
        bin,
        run_as,
        folder,
        _watchdog: watchdog,
    })
}

/// The folder with `initdb` and `postgres`: the named one, else the highest version installed the
/// Debian way, else the one on the path.
pub fn find_bin(named: Option<PathBuf>, debian: &Path, path: &OsStr) -> Result<PathBuf, String> {
    let complete = |bin: &Path| bin.join("initdb").exists() && bin.join("postgres").exists();
    if let Some(bin) = named {
        return if complete(&bin) {
            Ok(bin)
        } else {
            Err(format!(
                "CHANGEOVER_PG_BIN={}: no initdb and postgres there",
                bin.display()
            ))
        };
    }
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(debian)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, bin)| complete(bin))
        .collect();
    versions.sort();
    let installed = versions.pop().map(|(_, bin)| bin);
    installed
        .or_else(|| env::split_paths(path).find(|bin| complete(bin)))
        .ok_or_else(|| {
            "these tests start a PostgreSQL server of their own, and none is installed: run \
         `scripts/test --install`, or name the folder that holds initdb and postgres in \
         CHANGEOVER_PG_BIN"
                .to_owned()
        })
}

/// PostgreSQL refuses to run as root: then, the ids of its own user, or of `nobody`.
fn unprivileged() -> Result<RunAs, String> {
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
    let found = ids("postgres").or_else(|| ids("nobody"));
    found
        .map(Some)
        .ok_or_else(|| "root, and neither user postgres nor nobody exists".to_owned())
}

/// A new folder that the server's user owns and a watchdog removes.
pub fn owned_folder(bin: &Path, run_as: RunAs) -> Result<(PathBuf, Watchdog), String> {
    // A socket's path has 107 bytes, and root's own temporary folder may be closed to others.
    let ours = env::temp_dir();
    let base = if run_as.is_some() || ours.as_os_str().len() > 60 {
        Path::new("/tmp")
    } else {
        &ours
    };
    let folder = tempfile::Builder::new()
        .prefix("changeover-pg-")
        .tempdir_in(base)
        .map_err(|error| format!("{}: {error}", base.display()))?;
    if let Some((user, group)) = run_as {
        chown(folder.path(), Some(user), Some(group)).map_err(|error| error.to_string())?;
    }
    let watchdog = Watchdog::over(folder.path(), bin, run_as)?;
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

mod tests {
    use super::*;

    #[test]
    fn the_highest_version_is_found_and_a_missing_one_explained() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["9", "15", "junk"] {
            let bin = folder.path().join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            fs::write(bin.join("initdb"), "").unwrap();
            fs::write(bin.join("postgres"), "").unwrap();
        }
        fs::create_dir_all(folder.path().join("16/bin")).unwrap();
        let (nowhere, no_path) = (Path::new("/nowhere"), OsStr::new(""));
        assert_eq!(
            find_bin(None, folder.path(), no_path).unwrap(),
            folder.path().join("15/bin")
        );
        let on_path = folder.path().join("9/bin");
        assert_eq!(
            find_bin(None, nowhere, on_path.as_os_str()).unwrap(),
            on_path
        );
        assert!(
            find_bin(None, nowhere, no_path)
                .unwrap_err()
                .contains("scripts/test --install")
        );
        let wrong = find_bin(Some(nowhere.to_owned()), folder.path(), no_path);
        assert!(wrong.unwrap_err().contains("CHANGEOVER_PG_BIN=/nowhere"));
    }
}
