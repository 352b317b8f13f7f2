//! The demo: a whole migration of a marketplace, under load, on two databases made for it.
//!
//! ```text
//! changeover demo                      two SQLite files in a temporary folder
//! changeover demo --postgres URL       two PostgreSQL databases made on that server
//! ```
//!
//! 1. A hundred thousand listings are made, with the mess of real tables (`mess`), and callers
//!    begin to read and write through the layer (`load`). They never stop.
//! 2. Install, start copying. The mapping is wrong in one field: shadow reads find it while history is
//!    copied, a new revision mends it, everything is copied again. Verify, shadow reads, then 10, 25, 50 and
//!    100 percent of the reads to the new side (`story`).
//! 3. The new side fails for some seconds, the kill switch is thrown and cleared.
//! 4. The callers stop, what is dirty is drained, everything is verified once more.
//! 5. A check that shares no code with the product compares both sides field by field, and holds
//!    them against a ledger of every acknowledged write (`check`, `ledger`).
//!
//! The mapping is `marketplace.toml`; the two schemas are `legacy.sql` and `new.sql`.

mod check;
mod counted;
mod database;
mod ledger;
mod load;
mod market;
mod mess;
mod sabotage;
mod store;
mod story;
mod summary;

use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use crate::screen::Screen;
use counted::Counted;
use database::Databases;
use story::Story;

pub use sabotage::Sabotage;
pub use summary::Summary;

/// How the demo goes about it.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoOptions {
    /// Legacy listings to make, from 200 to 10 million
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(i64).range(200..=10_000_000))]
    pub rows: i64,
    /// Seed of the rows and of the load: the same seed makes the same rows
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Run on this PostgreSQL server instead of SQLite files. The role must be allowed to create
    /// databases; two are made, and dropped at the end
    #[arg(long, value_name = "URL")]
    pub postgres: Option<String>,
    /// Serve metrics in the text form of Prometheus during the run. A port alone listens on
    /// 127.0.0.1
    #[arg(long, value_name = "[HOST:]PORT", value_parser = listen)]
    pub metrics: Option<SocketAddr>,
    /// Leave the two databases behind and say where they are
    #[arg(long)]
    pub keep: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
    /// How long each step of the ramp lasts, in milliseconds
    #[arg(long, default_value_t = 500, value_name = "MS", hide = true)]
    pub step_ms: u64,
    /// Make a defect on purpose; the demo must then fail
    #[arg(long, value_enum, hide = true)]
    pub sabotage: Option<Sabotage>,
}

impl DemoOptions {
    fn step(&self) -> Duration {
        Duration::from_millis(self.step_ms)
    }
}

/// Reads `9464`, `:9464` or `0.0.0.0:9464`.
fn listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.trim_start_matches(':').parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    text.parse()
        .map_err(|_| "write it as a port, such as 9464, or as address:port".to_owned())
}

/// Why the demo did not end well.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DemoError {
    /// A database or a port did not do its part.
    #[error("{doing} failed")]
    Environment {
        /// What was being done.
        doing: &'static str,
        /// What to do about it.
        hint: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A gate of the migration did not open.
    #[error("the demo stopped at a gate: {0}")]
    Gate(String),
    /// The independent check found something.
    #[error("the independent check failed:\n  {}", .0.join("\n  "))]
    Check(Vec<String>),
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl DemoError {
    fn environment<E>(doing: &'static str, hint: impl Into<String>) -> impl FnOnce(E) -> DemoError
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let hint = hint.into();
        move |error| DemoError::Environment {
            doing,
            hint,
            source: error.into(),
        }
    }
}

/// Runs the demo. The databases that it makes are removed however it ends, unless they are to be
/// kept.
///
/// Installs a metrics recorder for the process unless there is one.
///
/// # Errors
///
/// [`DemoError`]: what did not hold, or what the environment did not give.
pub async fn run(options: DemoOptions) -> Result<Summary, DemoError> {
    let screen = Screen::new();
    let counted = Counted::install(options.metrics).map_err(DemoError::environment(
        "serving metrics",
        "choose another --metrics address",
    ))?;
    if let Some(address) = options.metrics {
        screen.say(format!("metrics: http://{address}/metrics"));
    }
    let databases = match &options.postgres {
        None => Databases::files().await,
        Some(url) => Databases::on_server(url).await,
    }
    .map_err(DemoError::environment(
        "making the databases",
        making(&options),
    ))?;
    screen.say(format!("databases: {}", databases.describe()));
    let told = {
        let mut story = Story::new(&options, screen, counted, &databases);
        tokio::select! {
            told = story.tell() => told,
            Ok(()) = tokio::signal::ctrl_c() => Err(DemoError::Interrupted),
        }
    };
    let ended = databases.end(options.keep).await;
    let kept = ended.map_err(DemoError::environment(
        "removing the databases",
        "remove them by hand",
    ));
    match (told, kept) {
        (Ok(summary), Ok(kept)) => {
            if let Some(place) = kept {
                screen.say(format!("kept: {place}"));
            }
            Ok(summary)
        }
        // What went wrong first is what matters.
        (Err(error), _) | (Ok(_), Err(error)) => Err(error),
    }
}

fn making(options: &DemoOptions) -> &'static str {
    if options.postgres.is_some() {
        "check the URL, and that its role may create databases (ALTER ROLE … CREATEDB)"
    } else {
        "check that the temporary folder is writable and has room; TMPDIR names another"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One after the other: what is answered by whom is read from the metrics of the process.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_demo_passes_and_the_check_alone_finds_every_defect() {
        let mut options = DemoOptions {
            rows: 300,
            seed: 3,
            postgres: None,
            metrics: None,
            keep: false,
            json: false,
            step_ms: 150,
            sabotage: None,
        };
        let summary = run(options.clone()).await.expect("nothing is wrong");
        assert!(summary.reads_answered_by_new > 0 && summary.problems.is_empty());
        // A write is followed once at most: the keys that the worker copies are counted elsewhere.
        let written = summary.ledger.as_ref().expect("the ledger was read");
        let written = written.acknowledged + written.refused + written.unknown;
        let follows = summary.follows.values().sum::<u64>();
        assert!((1..=written).contains(&follows), "{summary}");
        assert!(
            summary
                .copies
                .keys()
                .any(|name| name.starts_with("backfill "))
        );
        let defects = [
            (Sabotage::Changed, "differs"),
            (Sabotage::Missing, "0 variants"),
            (Sabotage::Lost, "acknowledged and is lost"),
        ];
        for (defect, found) in defects {
            options.sabotage = Some(defect);
            let ended = run(options.clone()).await;
            assert!(
                matches!(&ended, Err(DemoError::Check(wrong)) if wrong.join("; ").contains(found)),
                "{defect:?} was not found: {ended:?}"
            );
        }
    }
}
