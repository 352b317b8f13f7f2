//! The kill switch as a signal, sent to a real process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use changeover::flags::{Entity, Flags};

use super::file::Hanging;
use super::{FORGED, LEGACY, ramped};
use crate::support::watchdog;

/// The environment variable by which the child knows that it is meant.
const CHILD: &str = "CHANGEOVER_SIGNAL_CHILD";

/// How long a child may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers the orders on its standard input. It waits for them without leaving its runtime's one
/// thread, as an application does that is stuck: nothing but a thread of its own can hear a signal.
#[tokio::test]
#[ignore = "a process, not a test: `cargo test --test integration operate::signal` sends it signals"]
async fn application() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_market, instance) = ramped(folder.path()).await;
    let flags = instance.wiring.flags().clone();
    changeover::signal::kill_switch([flags.clone()]).unwrap();
    let file = folder.path().join("listings.toml");
    println!("@ready");
    for order in std::io::stdin().lines() {
        match order.unwrap().as_str() {
            "killed" => println!("@{}", flags.load().kill),
            "stored" => {
                let text = std::fs::read_to_string(&file).unwrap();
                println!("@{}", text.contains("kill = \"SIGUSR1\""));
            }
            "read" => println!("@{}", instance.title(1).await.unwrap_or_default()),
            other => panic!("no such order: {other}"),
        }
    }
}

/// The same with two entities, of which the first has its flags on a disk that hangs.
#[test]
#[ignore = "a process, not a test: `cargo test --test integration operate::signal` sends it signals"]
fn application_on_a_disk_that_hangs() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let disk = Hanging::default();
    let first = Flags::open(Entity::new("listings").unwrap(), disk.clone()).unwrap();
    let second = Flags::memory(Entity::new("orders").unwrap());
    disk.hang(true);
    changeover::signal::kill_switch([first.clone(), second.clone()]).unwrap();
    println!("@ready");
    for order in std::io::stdin().lines() {
        match order.unwrap().as_str() {
            "killed" => println!("@{} {}", first.load().kill, second.load().kill),
            "stored" => println!("@{}", disk.kept().kill.is_some()),
            "answer" => {
                disk.hang(false);
                println!("@it does");
            }
            other => panic!("no such order: {other}"),
        }
    }
}

struct Application {
    process: Child,
    said: Receiver<String>,
}

impl Application {
    fn start(name: &str) -> Application {
        let (_, path) = module_path!().split_once("::").unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                &format!("{path}::{name}"),
                "--ignored",
                "--nocapture",
            ])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (say, said) = channel();
        let out = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            let lines = out.lines().map_while(Result::ok);
            for line in
                lines.filter_map(|line| line.split_once('@').map(|(_, said)| said.to_owned()))
            {
                let _ = say.send(line);
            }
        });
        let application = Application { process, said };
        assert_eq!(application.hear(), "ready");
        application
    }

    fn hear(&self) -> String {
        self.said.recv_timeout(PATIENCE).unwrap()
    }

    fn ask(&mut self, order: &str) -> String {
        writeln!(self.process.stdin.as_mut().unwrap(), "{order}").unwrap();
        self.hear()
    }

    fn signal(&self, name: &str) {
        watchdog::signal(name, &[self.process.id()]);
    }

    fn becomes(&mut self, order: &str, answer: &str) {
        let began = Instant::now();
        while self.ask(order) != answer {
            let waited = began.elapsed();
            assert!(
                waited < Duration::from_secs(10),
                "{order} did not become {answer}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // Its standard input ends, and so does it; if not, it is ended.
        drop(self.process.stdin.take());
        let began = Instant::now();
        while began.elapsed() < PATIENCE
            && self.process.try_wait().is_ok_and(|ended| ended.is_none())
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_signal_throws_the_kill_switch_of_a_stuck_process_and_another_clears_it() {
    let mut application = Application::start("application");
    assert_eq!(application.ask("read"), FORGED);
    for _ in 0..3 {
        application.signal("USR1");
        // It never leaves the thread of its runtime between two orders.
        application.becomes("killed", "true");
        assert_eq!(
            application.ask("read"),
            LEGACY,
            "the next read is the authority's"
        );
        application.becomes("stored", "true");
        application.signal("USR2");
        application.becomes("killed", "false");
        assert_eq!(application.ask("read"), FORGED, "back to the percentage");
        application.becomes("stored", "false");
    }
}

#[test]
fn signals_are_obeyed_for_all_entities_while_the_disk_of_one_hangs() {
    let mut application = Application::start("application_on_a_disk_that_hangs");
    for (name, both) in [
        ("USR1", "true true"),
        ("USR2", "false false"),
        ("USR1", "true true"),
    ] {
        application.signal(name);
        application.becomes("killed", both);
        assert_eq!(application.ask("stored"), "false");
    }
    assert_eq!(application.ask("answer"), "it does");
    application.becomes("stored", "true");
}
