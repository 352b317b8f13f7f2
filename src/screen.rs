//! What a person sees while something takes its time: on stderr, as a bar on a terminal and as plain lines
//! elsewhere.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a plain line is written.
const EVERY: Duration = Duration::from_secs(1);

/// How often one says that it is still held back.
const HELD_EVERY: Duration = Duration::from_secs(10);

/// Where progress is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    began: Instant,
}

impl Screen {
    pub(crate) fn new() -> Screen {
        Screen {
            began: Instant::now(),
        }
    }

    /// A line with the time since the start.
    pub(crate) fn say(&self, line: impl AsRef<str>) {
        let line = format!(
            "{:>6.1} s  {}\n",
            self.began.elapsed().as_secs_f64(),
            line.as_ref()
        );
        // A closed stderr is nobody's loss.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    /// A bar of so many rows.
    pub(crate) fn bar(&self, doing: &'static str, rows: u64) -> Bar {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(rows), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template(
                "          {msg} [{bar:32}] {percent}%  {pos}/{len}  {per_sec}  {eta} left{prefix}",
            ) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(doing);
            bar
        });
        let now = Instant::now();
        Bar {
            screen: *self,
            doing,
            rows,
            bar,
            began: now,
            said: Mutex::new(now),
            held: Mutex::default(),
            also: Mutex::default(),
            first: OnceLock::new(),
        }
    }
}

/// Progress over a number of rows.
#[derive(Debug)]
pub(crate) struct Bar {
    screen: Screen,
    doing: &'static str,
    rows: u64,
    bar: Option<ProgressBar>,
    began: Instant,
    said: Mutex<Instant>,
    /// What was last said to hold it back, without numbers, and when.
    held: Mutex<Option<(String, Instant)>>,
    /// What else there is to say of it: how much is dirty, where it stands.
    also: Mutex<String>,
    /// What was done when the first word came: a sweep may go on from an earlier one.
    first: OnceLock<u64>,
}

/// What is said, but for its numbers.
fn words(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// What keeps some work from going on, each said on stderr once while it lasts, and when it comes and goes,
/// once in [`HELD_EVERY`]: a reader who is slow would hold up the work.
pub(crate) struct Trouble<'a> {
    whose: &'a str,
    now: Option<String>,
    /// Whether somebody was told, and not yet that it goes on.
    open: bool,
    said: HashMap<String, Instant>,
}

impl<'a> Trouble<'a> {
    /// None yet.
    pub(crate) fn of(whose: &'a str) -> Trouble<'a> {
        Trouble {
            whose,
            now: None,
            open: false,
            said: HashMap::new(),
        }
    }

    /// This is it.
    pub(crate) fn is(&mut self, what: String) {
        let words = words(&what);
        let told = self.open && self.now.as_ref() == Some(&words);
        self.now = Some(words.clone());
        self.said.retain(|_, at| at.elapsed() < HELD_EVERY);
        if !told && !self.said.contains_key(&words) {
            self.say(&what);
            self.said.insert(words, Instant::now());
            self.open = true;
        }
    }

    /// There is none any more.
    pub(crate) fn is_over(&mut self) {
        self.now = None;
        if std::mem::take(&mut self.open) {
            self.say("goes on");
        }
    }

    fn say(&self, text: &str) {
        // A closed stderr is nobody's loss.
        let _ = writeln!(std::io::stderr(), "{}: {text}", self.whose);
    }
}

impl Bar {
    /// Something holds it back, or nothing any more.
    pub(crate) fn held(&self, why: Option<String>) {
        if let Some(bar) = &self.bar {
            return bar.set_message(match why {
                Some(why) => format!("{}, held back: {why}", self.doing),
                None => self.doing.to_owned(),
            });
        }
        let Ok(mut held) = self.held.lock() else {
            return;
        };
        let Some(why) = why else {
            if held.take().is_some() {
                self.screen.say(format!("  {} goes on", self.doing));
            }
            return;
        };
        // The same again is said from time to time.
        let words = words(&why);
        let said = held.as_ref().filter(|(said, _)| *said == words);
        if said.is_none_or(|(_, at)| at.elapsed() >= HELD_EVERY) {
            self.screen
                .say(format!("  {} held back: {why}", self.doing));
            *held = Some((words, Instant::now()));
        }
    }

    /// A line above it.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => self.screen.say(format!("  {line}")),
        }
    }

    /// So many keys wait to be copied beside it.
    pub(crate) fn dirty(&self, keys: u64) {
        self.also(format!(", {keys} keys dirty"));
    }

    /// It stands behind this key.
    pub(crate) fn behind(&self, key: Option<&str>) {
        if let Some(key) = key {
            self.also(format!(", behind key {key}"));
        }
    }

    fn also(&self, what: String) {
        if let Some(bar) = &self.bar {
            return bar.set_prefix(what);
        }
        if let Ok(mut also) = self.also.lock() {
            *also = what;
        }
    }

    /// So many rows are done.
    pub(crate) fn at(&self, done: u64) {
        let first = *self.first.get_or_init(|| done);
        if let Some(bar) = &self.bar {
            bar.set_length(self.rows.max(done));
            return bar.set_position(done);
        }
        let Ok(mut said) = self.said.lock() else {
            return;
        };
        if said.elapsed() >= EVERY {
            *said = Instant::now();
            let percent = 100.0 * done as f64 / self.rows.max(done).max(1) as f64;
            let rate = (done - first.min(done)) as f64 / self.began.elapsed().as_secs_f64();
            let left = match (self.rows.saturating_sub(done), rate) {
                (0, _) => String::new(),
                (_, rate) if rate < 1.0 => String::new(),
                (rows, rate) => format!(", {} left", Left(rows as f64 / rate)),
            };
            let also = self.also.lock().map(|also| also.clone());
            self.screen.say(format!(
                "  {} {percent:.0} %, {done} rows, {rate:.0} rows/s{left}{}",
                self.doing,
                also.unwrap_or_default()
            ));
        }
    }
}

/// Seconds in words.
struct Left(f64);

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.ceil() as u64;
        let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
        match (hours, minutes) {
            (0, 0) => write!(f, "{seconds} s"),
            (0, minutes) => write!(f, "{minutes} min {} s", seconds % 60),
            (hours, minutes) => write!(f, "{hours} h {minutes} min"),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
