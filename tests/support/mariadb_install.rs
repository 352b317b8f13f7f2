//! Where MariaDB is installed, as whom it runs, and the data folder that servers begin with.

use std::{
    env,
    ffi::OsStr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::{
    server::{run, unprivileged, watched_folder},
    watchdog::{RunAs, Server, Watchdog},
};

/// What `mariadb-install-db` made, for servers to be copied from.
pub struct Template {
    pub programs: Programs,
    pub run_as: RunAs,
    pub folder: PathBuf,
    _watchdog: Watchdog,
}

/// The two programs of MariaDB that these tests need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    pub mariadbd: PathBuf,
    pub install_db: PathBuf,
}

/// Both must be the same when data is made and when it is used.
pub const LOG_SIZE: &str = "innodb_log_file_size=32M";

/// Runs `mariadb-install-db` at the first call; all calls share what came of it.
pub fn template() -> Result<&'static Template, String> {
    static TEMPLATE: OnceLock<Result<Template, String>> = OnceLock::new();
    TEMPLATE
        .get_or_init(make_template)
        .as_ref()
        .map_err(Clone::clone)
}

fn make_template() -> Result<Template, String> {
    let programs = find_programs(
        env::var_os("CHANGEOVER_MARIADB_BIN").map(PathBuf::from),
        &env::var_os("PATH").unwrap_or_default(),
    )?;
    let run_as = unprivileged("mysql")?;
    let (folder, watchdog) = mariadb_folder(&programs, run_as)?;
    let mut install = Command::new(&programs.install_db);
    // The server would read the machine's settings otherwise. Root has no password and needs no
    // socket, since the tests come over TCP.
    install
        .args(["--no-defaults", "--skip-name-resolve", "--skip-test-db"])
        .args(["--auth-root-authentication-method=normal", "--skip-log-bin"])
        .arg(format!("--{LOG_SIZE}"))
        .arg("--innodb_flush_log_at_trx_commit=0")
        .arg(format!("--datadir={}", folder.join("data").display()))
        .arg(format!("--tmpdir={}", folder.display()))
        .current_dir(&folder);
    if let Some(base) = programs.mariadbd.parent().and_then(Path::parent) {
        install.arg(format!("--basedir={}", base.display()));
    }
    if let Some((user, group)) = run_as {
        install.uid(user).gid(group);
    }
    run(&mut install)?;
    Ok(Template {
        programs,
        run_as,
        folder,
        _watchdog: watchdog,
    })
}

/// The two programs: under the named folder, else on the path or where Debian puts them, which for
/// the server is a folder that is on root's path alone.
pub fn find_programs(named: Option<PathBuf>, path: &OsStr) -> Result<Programs, String> {
    let folders: Vec<PathBuf> = match &named {
        // A tree that was unpacked by hand has the installer in `scripts`.
        Some(bin) => [".", "../bin", "../sbin", "../scripts"]
            .map(|beside| bin.join(beside))
            .into(),
        None => env::split_paths(path)
            .chain(["/usr/sbin".into(), "/usr/bin".into()])
            .collect(),
    };
    find_in(&folders).ok_or_else(|| match named {
        Some(bin) => format!(
            "CHANGEOVER_MARIADB_BIN={}: no mariadbd and mariadb-install-db there",
            bin.display()
        ),
        None => "these tests start a MariaDB server of their own, and none is installed: run \
                 `scripts/test --install`, or name the folder that holds mariadbd in \
                 CHANGEOVER_MARIADB_BIN"
            .to_owned(),
    })
}

fn find_in(folders: &[PathBuf]) -> Option<Programs> {
    let find = |name: &str| {
        let found = folders.iter().map(|folder| folder.join(name));
        found.into_iter().find(|program| program.exists())
    };
    Some(Programs {
        mariadbd: find("mariadbd")?,
        install_db: find("mariadb-install-db")?,
    })
}

/// A new folder whose watchdog starts a server by the settings in it.
pub fn mariadb_folder(programs: &Programs, run_as: RunAs) -> Result<(PathBuf, Watchdog), String> {
    watched_folder("changeover-mariadb-", run_as, |folder| {
        let mut command = Command::new(&programs.mariadbd);
        // Must come first, or the machine's own settings are read as well.
        let settings = folder.join("my.cnf");
        command.arg(format!("--defaults-file={}", settings.display()));
        Server {
            command,
            farewell: "KILL",
        }
    })
}

mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn programs_are_found_apart_and_missing_ones_explained() {
        let folder = tempfile::tempdir().unwrap();
        let put = |place: &str, name: &str| {
            let place = folder.path().join(place);
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join(name), "").unwrap();
            place
        };
        let (sbin, bin) = (put("sbin", "mariadbd"), put("bin", "mariadb-install-db"));
        let path = env::join_paths([&bin, &sbin]).unwrap();
        let apart = Programs {
            mariadbd: sbin.join("mariadbd"),
            install_db: bin.join("mariadb-install-db"),
        };
        assert_eq!(find_programs(None, &path).unwrap(), apart);
        let named = find_programs(Some(sbin.clone()), OsStr::new("")).unwrap();
        assert!(named.install_db.ends_with("../bin/mariadb-install-db"));
        assert_eq!(find_in(&[sbin]), None, "one of two is not enough");
        let wrong = find_programs(Some("/nowhere".into()), &path).unwrap_err();
        assert!(wrong.contains("CHANGEOVER_MARIADB_BIN=/nowhere"));
    }
}
