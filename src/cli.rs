//! The command line as a library function.
//!
//! A binary of one's own, with mappings written in Rust, has every verb from this `main`:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     changeover::cli::run(std::env::args_os())
//! }
//! ```
//!
//! # Exit codes
//!
//! | code | means |
//! | --- | --- |
//! | 0 | done |
//! | 1 | what was asked for does not hold: a gate stayed shut, a check found something |
//! | 2 | the command line cannot be understood |
//! | 3 | the environment: a database, a port, a file |
//! | 70 | a defect of this program |
//! | 130 | interrupted |
//!
//! What was asked for goes to stdout, everything else to stderr.

use std::error::Error;
use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::demo::{self, DemoError, DemoOptions};

const HOLDS_NOT: u8 = 1;
const USAGE: u8 = 2;
const ENVIRONMENT: u8 = 3;
const DEFECT: u8 = 70;
const INTERRUPTED: u8 = 130;

const AFTER: &str = "\
Exit codes: 0 done; 1 a gate stayed shut or a check found something; 2 usage; 3 the environment \
(a database, a port); 70 a defect of this program; 130 interrupted.
CHANGEOVER_LOG sets what is logged to stderr, e.g. info or changeover_sync_worker=debug.";

/// Moves a live application from legacy tables to new tables: no downtime, no lost write, and a
/// way back at every step.
#[derive(Debug, Parser)]
#[command(name = "changeover", version, after_help = AFTER)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a whole migration of a marketplace under load, on databases made for it
    ///
    /// Needs nothing but a writable temporary folder (or a PostgreSQL server, with --postgres).
    /// A hundred thousand messy legacy rows are moved while callers read and write; the new side
    /// fails half-way; in the end a check that shares no code with the product compares both sides
    /// field by field and holds them against every write that was acknowledged. The summary goes
    /// to stdout, progress to stderr. Takes about a minute.
    Demo(DemoOptions),
}

/// Why a verb did not do what it was told.
struct Failure {
    code: u8,
    hint: Option<String>,
    error: Box<dyn Error + Send + Sync>,
}

/// Runs one command line, the program's name first, and answers its exit code.
///
/// Blocks the thread, on a runtime of its own: call it from `main`, not from async code.
pub fn run<I, T>(args: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, and go to stdout; a closed pipe is nobody's loss.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    log();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return tell(Failure {
                code: ENVIRONMENT,
                hint: None,
                error: error.into(),
            });
        }
    };
    // On a task of its own, so that a panic comes back as an answer.
    let ended = runtime.block_on(async { tokio::spawn(obey(cli.verb)).await });
    // What is still in the background is not waited for.
    runtime.shutdown_background();
    match ended {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => tell(failure),
        Err(panic) => tell(Failure {
            code: DEFECT,
            hint: Some(
                "this is a defect of changeover; please report it with the message above".into(),
            ),
            error: panic.into(),
        }),
    }
}

async fn obey(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Demo(options) => {
            let json = options.json;
            let summary = demo::run(options).await?;
            let text = if json {
                let text = serde_json::to_string_pretty(&summary);
                text.map_err(|error| Failure {
                    code: DEFECT,
                    hint: None,
                    error: error.into(),
                })?
            } else {
                summary.to_string().trim_end().to_owned()
            };
            print(&text)
        }
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let written = writeln!(std::io::stdout().lock(), "{text}");
    written.map_err(|error| Failure {
        code: ENVIRONMENT,
        hint: None,
        error: error.into(),
    })
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Failure {
        let (code, hint) = match &error {
            DemoError::Environment { hint, .. } => (ENVIRONMENT, Some(hint.clone())),
            DemoError::Gate(_) | DemoError::Check(_) => (
                HOLDS_NOT,
                Some("run it with --keep to look at the databases".to_owned()),
            ),
            DemoError::Interrupted => (INTERRUPTED, None),
        };
        Failure {
            code,
            hint,
            error: error.into(),
        }
    }
}

/// Says what went wrong, with every cause, and what to do.
fn tell(failure: Failure) -> ExitCode {
    let mut text = format!("error: {}\n", failure.error);
    let mut source = failure.error.source();
    while let Some(cause) = source {
        text.push_str(&format!("  because: {cause}\n"));
        source = cause.source();
    }
    if let Some(hint) = failure.hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    // A closed stderr is nobody's loss.
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(failure.code)
}

/// Logs to stderr: errors alone, unless `CHANGEOVER_LOG` says otherwise.
fn log() {
    let filter =
        EnvFilter::try_from_env("CHANGEOVER_LOG").unwrap_or_else(|_| EnvFilter::new("error"));
    let ansi = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A subscriber that is there already belongs to the program around us.
    let _ = log.with_ansi(ansi).try_init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_mistakes_are_usage() {
        Cli::command().debug_assert();
        assert_eq!(run(["changeover", "--help"]), ExitCode::SUCCESS);
        assert_eq!(
            run(["changeover", "demo", "--rows", "3"]),
            ExitCode::from(USAGE)
        );
        assert_eq!(
            run(["changeover", "demo", "--metrics", "here"]),
            ExitCode::from(USAGE)
        );
    }

    #[test]
    fn a_server_that_is_not_there_is_the_environment() {
        let args = [
            "changeover",
            "demo",
            "--postgres",
            "postgres://nobody@127.0.0.1:1/none",
        ];
        assert_eq!(run(args), ExitCode::from(ENVIRONMENT));
    }
}
