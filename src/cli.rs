//! The command line as a library function.
//!
//! A binary of one's own has every verb from this `main`:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     changeover::cli::run(std::env::args_os())
//! }
//! ```
//!
//! The verbs work on what [`changeover.toml`](crate::config) names; `--json` prints what they have to
//! say for programs. All of them may run beside the application, and again: what is done is not done
//! twice.
//!
//! # Exit codes
//!
//! | code | means |
//! | --- | --- |
//! | 0 | done |
//! | 1 | what was asked for does not hold: a gate stayed shut, a check found something |
//! | 2 | the command line, or the configuration, cannot be understood |
//! | 3 | the environment: a database, a port, a file; a check that could not be ended |
//! | 70 | a defect of this program |
//! | 130 | interrupted before it was done, by Ctrl-C or SIGTERM; what goes on until then ends with 0, or with what it found last |
//!
//! What was asked for goes to stdout, everything else to stderr. With `--json` an error is a line of JSON there,
//! the last one: `{"error":…,"hint":…,"exit_code":…}`. A command line that is not understood has no such line.

mod backfill;
mod check;
mod drain;
mod edits;
mod failure;
mod install;
mod preview;
mod repair;
mod status;
mod verify;
mod which;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use failure::{DEFECT, ENVIRONMENT, Failure, USAGE};
use tracing_subscriber::EnvFilter;

use crate::demo::{self, DemoOptions};

const AFTER: &str = "\
Exit codes: 0 done; 1 a gate stayed shut or a check found something; 2 usage; 3 the environment \
(a database, a port, a file); 70 a defect of this program; 130 interrupted.
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
    Install(install::Install),
    Uninstall(install::Uninstall),
    Status(status::Status),
    Preview(preview::Preview),
    Backfill(backfill::Backfill),
    Drain(drain::Drain),
    Verify(verify::Verify),
    Repair(repair::Repair),
    Check(check::Check),
}

/// Runs one command line, the program's name first, and answers its exit code.
///
/// Blocks the thread, on a runtime of its own: call it from `main`, not from async code.
pub fn run<I, T>(args: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let json = args.iter().any(|arg| arg == "--json");
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
        Err(error) => return Failure::new(ENVIRONMENT, error).tell(json),
    };
    // On a task of its own, so that a panic comes back as an answer.
    let ended = runtime.block_on(async { tokio::spawn(obey(cli.verb)).await });
    // What is still in the background is not waited for.
    runtime.shutdown_background();
    match ended {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => failure.tell(json),
        Err(panic) => Failure::new(DEFECT, panic)
            .with_hint("this is a defect of changeover; please report it with the message above")
            .tell(json),
    }
}

async fn obey(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Demo(options) => {
            let json = options.json;
            let summary = demo::run(options).await?;
            which::print(&summary, json)
        }
        Verb::Install(verb) => verb.run().await,
        Verb::Uninstall(verb) => verb.run().await,
        Verb::Status(verb) => verb.run().await,
        Verb::Preview(verb) => verb.run().await,
        Verb::Backfill(verb) => verb.run().await,
        Verb::Drain(verb) => verb.run().await,
        Verb::Verify(verb) => verb.run().await,
        Verb::Repair(verb) => verb.run().await,
        Verb::Check(verb) => verb.run().await,
    }
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
