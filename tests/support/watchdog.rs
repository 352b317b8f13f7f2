//! A small shell that owns one server and its folder, and outlives the test process by a moment.
//!
//! It reads orders from a pipe whose other end only the test process holds. When that end closes,
//! for whatever reason (a drop, a panic, a SIGKILL), the shell ends the server by pid and removes
//! the folder. A destructor cannot promise that: statics are never dropped and SIGKILL runs
//! nothing. `PR_SET_PDEATHSIG` cannot either: it fires when the *thread* that started the child
//! ends, and the test harness has one thread per test.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// The user and group ids that a server runs as, when this process is root.
pub type RunAs = Option<(u32, u32)>;

/// What a watchdog starts, and how it ends what still runs when the tests are gone.
pub struct Server {
    /// A program and its arguments; nothing else of it is looked at.
    pub command: Command,
    /// The signal that ends it at once and keeps nothing: its data goes with its folder.
    pub farewell: &'static str,
}

/// `$1` is the folder, `$2` the farewell, the rest the server. Orders: `start`, `reap`.
///
/// At the end stopped processes are continued first, since a stopped one heeds nothing but
/// SIGKILL; the farewell of PostgreSQL is no SIGKILL because only a postmaster that ends itself
/// gives back its shared memory segment. One that was killed has left it behind, named in line 7 of
/// its pid file.
const SCRIPT: &str = r#"
dir=$1 farewell=$2 pid=
shift 2
alive() {
    read -r _ _ state _ 2>/dev/null <"/proc/$pid/stat" && [ "$state" != Z ]
}
family() {
    echo "$pid"
    cat "/proc/$pid/task/$pid/children" 2>/dev/null
}
while read -r order; do
    case $order in
    start)
        "$@" </dev/null >>"$dir/log" 2>&1 &
        pid=$!
        echo "$pid"
        ;;
    reap)
        wait "$pid"
        echo "$?"
        pid=
        ;;
    esac
done
if [ -n "$pid" ]; then
    kill -CONT $(family) 2>/dev/null
    kill -"$farewell" "$pid" 2>/dev/null
    patience=50
    while alive && [ "$patience" -gt 0 ]; do
        sleep 0.1
        patience=$((patience - 1))
    done
    alive && kill -KILL $(family) 2>/dev/null
    wait "$pid"
fi
if [ -f "$dir/data/postmaster.pid" ]; then
    set -- $(sed -n 7p "$dir/data/postmaster.pid")
    [ -n "$2" ] && ipcrm -m "$2" 2>/dev/null
fi
rm -rf "$dir"
"#;

/// The shell. Dropping it ends the server, removes the folder, and waits for both.
pub struct Watchdog {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Watchdog {
    /// Takes over `folder`; nothing is started yet.
    pub fn over(folder: &Path, server: &Server, run_as: RunAs) -> Result<Self, String> {
        let mut command = Command::new("sh");
        // A group of its own: Ctrl-C ends the tests, and the watchdog then ends the server.
        command
            .args(["-c", SCRIPT, "watchdog"])
            .arg(folder)
            .arg(server.farewell)
            .arg(server.command.get_program())
            .args(server.command.get_args())
            .process_group(0);
        if let Some((user, group)) = run_as {
            command.uid(user).gid(group);
        }
        let mut child = command
            .current_dir(folder.parent().unwrap_or(Path::new("/")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start sh: {error}"))?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("sh has no stdout")?);
        Ok(Self {
            child,
            orders,
            answers,
        })
    }

    /// Starts the server and returns the pid of its postmaster.
    pub fn start(&mut self) -> Result<u32, String> {
        let answer = self.order("start")?;
        answer
            .trim()
            .parse()
            .map_err(|_| format!("the watchdog answered {answer:?}"))
    }

    /// Waits until the postmaster has ended, so that its pid is free; returns its exit code.
    pub fn reap(&mut self) -> Result<String, String> {
        self.order("reap")
    }

    fn order(&mut self, order: &str) -> Result<String, String> {
        let pipe = self.orders.as_mut().ok_or("the watchdog has ended")?;
        writeln!(pipe, "{order}").map_err(|error| format!("cannot tell the watchdog: {error}"))?;
        let mut answer = String::new();
        self.answers
            .read_line(&mut answer)
            .map_err(|error| format!("cannot hear the watchdog: {error}"))?;
        Ok(answer)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

/// Sends a signal (`"KILL"`, `"STOP"`, …) to these pids and no others.
pub fn signal(name: &str, pids: &[u32]) {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    // The shell's own `kill`: the program of that name is not on every machine. A pid that has
    // ended meanwhile makes it fail, which is what the sender wanted anyway.
    let _ = Command::new("sh")
        .args(["-c", &format!("kill -{name} {}", pids.join(" "))])
        .stderr(Stdio::null())
        .status();
}

/// The processes whose parent is `pid`, at this moment.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(folder) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    folder
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|child| stat(*child).is_some_and(|(_, parent)| parent == pid))
        .collect()
}

/// Whether the process runs: one that ended and waits for its parent to notice does not.
pub fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// Whether the process has something of its own to do when it is interrupted or told to end.
pub fn listens(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGINT is 2 and SIGTERM 15, from the lowest bit on.
    caught.is_some_and(|mask| mask & (1 << 1) != 0 && mask & (1 << 14) != 0)
}

/// The state letter of a process and its parent.
pub fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets, which may hold spaces and brackets.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
