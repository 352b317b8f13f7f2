//! Where PostgreSQL is installed, as whom it runs, and the data folder that servers begin with.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::{
    server::{run, unprivileged, watched_folder},
    watchdog::{RunAs, Server, Watchdog},
};

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
    let run_as = unprivileged("postgres")?;
    let (folder, watchdog) = postgres_folder(&bin, run_as)?;
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

/// A new folder whose watchdog starts a server from the data in it.
pub fn postgres_folder(bin: &Path, run_as: RunAs) -> Result<(PathBuf, Watchdog), String> {
    watched_folder("changeover-pg-", run_as, |folder| {
        let mut command = Command::new(bin.join("postgres"));
        command.arg("-D").arg(folder.join("data"));
        Server {
            command,
            farewell: "QUIT",
        }
    })
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
