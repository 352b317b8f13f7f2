//! A verb that runs meanwhile: what it says, and how somebody ends it.

use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr};

use crate::support::{server::PATIENCE, watchdog};

/// Ends a verb as somebody at a terminal (`"INT"`) or a service manager (`"TERM"`) does.
pub async fn interrupt(name: &str, child: &Child) {
    listening(child).await;
    watchdog::signal(name, &[child.id().unwrap()]);
}

/// Waits until a verb listens to signals, or has ended: before, the system ends it, and it says nothing.
pub async fn listening(child: &Child) {
    let pid = child.id().unwrap();
    let began = Instant::now();
    while watchdog::alive(pid) && !watchdog::listens(pid) {
        assert!(began.elapsed() < PATIENCE, "it never listens");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Reads on until a line is as asked for, and answers it.
pub async fn until_said(
    said: &mut Lines<BufReader<ChildStderr>>,
    asked: impl Fn(&str) -> bool,
) -> String {
    let mut before = Vec::new();
    loop {
        let line = tokio::time::timeout(PATIENCE, said.next_line()).await;
        match line.map(Result::unwrap) {
            Ok(Some(line)) if asked(&line) => return line,
            Ok(Some(line)) => before.push(line),
            ended => panic!("it only said {before:#?}: {ended:?}"),
        }
    }
}

/// What a verb says on stderr, all of it kept.
pub struct Said {
    lines: Lines<BufReader<ChildStderr>>,
    text: String,
}

impl Said {
    pub fn of(child: &mut Child) -> Said {
        let err = child.stderr.take().unwrap();
        Said {
            lines: BufReader::new(err).lines(),
            text: String::new(),
        }
    }

    /// Reads on until a line has these words.
    pub async fn until(&mut self, words: &str) {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
            match line.map(Result::unwrap) {
                Ok(Some(line)) => {
                    self.text += &line;
                    self.text.push('\n');
                    if line.contains(words) {
                        return;
                    }
                }
                ended => panic!("not {words:?} ({ended:?}), but only:\n{}", self.text),
            }
        }
    }

    /// Reads on to its end, and answers all of it.
    pub async fn rest(mut self) -> String {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            self.text += &line;
            self.text.push('\n');
        }
        self.text
    }
}
