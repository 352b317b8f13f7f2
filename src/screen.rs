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
        let terminal = std::io::stderr().is_terminal();
        self.bar_on(terminal.then(ProgressDrawTarget::stderr), doing, rows)
    }

    /// One that is drawn there, or, without a terminal, said in lines.
    fn bar_on(&self, terminal: Option<ProgressDrawTarget>, doing: &'static str, rows: u64) -> Bar {
        let bar = terminal.map(|terminal| {
            let bar = ProgressBar::with_draw_target(Some(rows), terminal);
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
        let begins = self.first.get().is_none();
        let first = *self.first.get_or_init(|| done);
        if let Some(bar) = &self.bar {
            bar.set_length(self.rows.max(done));
            bar.set_position(done);
            if begins {
                // What was done before is no progress of this run, whose rate counts from here.
                bar.reset_eta();
                bar.tick();
            }
            return;
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use indicatif::TermLike;

    use super::*;

    /// A terminal that keeps what is written to it.
    #[derive(Debug, Clone, Default)]
    struct Paper(Arc<Mutex<Vec<String>>>);

    impl Paper {
        fn write(&self, text: &str) -> io::Result<()> {
            let mut lines = self.0.lock().map_err(|_| io::ErrorKind::Other)?;
            lines.extend((!text.trim().is_empty()).then(|| text.trim().to_owned()));
            Ok(())
        }

        /// What was drawn last.
        fn last(&self) -> String {
            let lines = self.0.lock().expect("no test panics while it draws");
            lines.last().cloned().unwrap_or_default()
        }
    }

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            200
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.write(text)
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A bar of so many rows, and what it is drawn on.
    fn drawn(rows: u64) -> (Bar, Paper) {
        let paper = Paper::default();
        let terminal = ProgressDrawTarget::term_like(Box::new(paper.clone()));
        let bar = Screen::new().bar_on(Some(terminal), "backfill", rows);
        (bar, paper)
    }

    /// The rows per second that a line says.
    fn rate(line: &str) -> f64 {
        let words = line.split_whitespace();
        let rate = words.filter_map(|word| word.strip_suffix("/s")).next();
        let rate = rate.and_then(|rate| rate.replace(',', "").parse().ok());
        rate.unwrap_or_else(|| panic!("no rate: {line}"))
    }

    const A_WHILE: Duration = Duration::from_millis(300);

    #[test]
    fn a_bar_on_a_terminal_shows_place_rate_time_left_lag_and_what_holds_it_back() {
        let (bar, paper) = drawn(1_000);
        bar.at(0);
        std::thread::sleep(A_WHILE);
        bar.at(100);
        bar.dirty(7);
        let line = paper.last();
        assert!(line.starts_with("backfill [==="), "{line}");
        assert!(line.contains("] 10%  100/1000  "), "{line}");
        assert!(line.ends_with("s left, 7 keys dirty"), "{line}");
        let most = 100.0 / A_WHILE.as_secs_f64();
        assert!(rate(&line) > 0.0 && rate(&line) <= most * 1.01, "{line}");
        bar.held(Some("paused".to_owned()));
        let line = paper.last();
        assert!(line.starts_with("backfill, held back: paused ["), "{line}");
        bar.say("the file has changed");
        bar.held(None);
        bar.behind(Some("k"));
        assert!(paper.last().ends_with(" left, behind key k"));
        let lines = paper.0.lock().expect("no test panics while it draws");
        assert!(lines.iter().any(|line| line == "the file has changed"));
    }

    #[test]
    fn what_an_earlier_run_has_passed_is_no_part_of_the_rate() {
        let (bar, paper) = drawn(6_000_000);
        bar.at(3_000_000);
        let line = paper.last();
        assert!(line.contains("50%  3000000/6000000  "), "{line}");
        assert!(rate(&line) < 1.0, "nothing is done yet: {line}");
        std::thread::sleep(A_WHILE);
        bar.at(3_000_100);
        let line = paper.last();
        let most = 100.0 / A_WHILE.as_secs_f64();
        assert!(rate(&line) > 0.0 && rate(&line) <= most * 1.01, "{line}");
        assert!(
            line.ends_with("h left") || line.ends_with("d left"),
            "{line}"
        );
    }
}
