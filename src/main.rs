//! The binary: everything it does is [`changeover::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    changeover::cli::run(std::env::args_os())
}
