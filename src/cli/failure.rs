//! Why a verb did not do what it was told, and how it says so.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use changeover_sync_worker::migration::MigrationError;
use changeover_sync_worker::preflight::PreflightError;
use changeover_sync_worker::store::StoreError;

use crate::causes::Causes;
use crate::config::{BadConfig, CannotOpen};
use crate::demo::DemoError;

pub(super) const HOLDS_NOT: u8 = 1;
pub(super) const USAGE: u8 = 2;
pub(super) const ENVIRONMENT: u8 = 3;
pub(super) const DEFECT: u8 = 70;
pub(super) const INTERRUPTED: u8 = 130;

/// What went wrong, the exit code that says of what kind it is, and what to do.
pub(super) struct Failure {
    code: u8,
    hint: Option<String>,
    error: Box<dyn Error + Send + Sync>,
}

impl Failure {
    pub(super) fn new(code: u8, error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure {
            code,
            hint: None,
            error: error.into(),
        }
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// The same with one more hint.
    pub(super) fn and_hint(self, hint: String) -> Failure {
        match self.hint.clone() {
            None => self.with_hint(hint),
            Some(first) if first.is_empty() => self.with_hint(hint),
            Some(first) => self.with_hint(format!("{first}; {hint}")),
        }
    }

    /// Whether somebody ended it.
    pub(super) const fn is_interrupted(&self) -> bool {
        self.code == INTERRUPTED
    }

    /// Whether a database or the machine is in the way, which may pass.
    pub(super) const fn is_environment(&self) -> bool {
        self.code == ENVIRONMENT
    }

    /// What went wrong, with every cause.
    pub(super) fn causes(&self) -> String {
        Causes(&*self.error).to_string()
    }

    /// Says what went wrong, with every cause, and what to do; for programs, as a line of JSON.
    pub(super) fn tell(self, json: bool) -> ExitCode {
        let (error, hint) = (self.causes(), self.hint.filter(|hint| !hint.is_empty()));
        let text = match (json, hint) {
            (true, hint) => {
                let told =
                    serde_json::json!({ "error": error, "hint": hint, "exit_code": self.code });
                format!("{told}\n")
            }
            (false, Some(hint)) => format!("error: {error}\nhint: {hint}\n"),
            (false, None) => format!("error: {error}\n"),
        };
        // A closed stderr is nobody's loss.
        let _ = std::io::stderr().write_all(text.as_bytes());
        ExitCode::from(self.code)
    }
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
            hint,
            ..Failure::new(code, error)
        }
    }
}

impl From<BadConfig> for Failure {
    fn from(error: BadConfig) -> Failure {
        let unreadable = matches!(error, BadConfig::Unreadable { .. });
        let failure = Failure::new(USAGE, error);
        if unreadable {
            failure
                .with_hint("--config names another file; docs/changeover.toml is a commented one")
        } else {
            failure
        }
    }
}

impl From<CannotOpen> for Failure {
    fn from(error: CannotOpen) -> Failure {
        match error {
            CannotOpen::Config(error) => error.into(),
            CannotOpen::Preflight(PreflightError::Problems(_)) => Failure::new(HOLDS_NOT, error),
            CannotOpen::Database(_) | CannotOpen::Preflight(_) => Failure::new(ENVIRONMENT, error),
        }
    }
}

impl From<MigrationError> for Failure {
    fn from(error: MigrationError) -> Failure {
        match error {
            MigrationError::Store(error) => error.into(),
            error => Failure::new(HOLDS_NOT, error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let code = match error {
            StoreError::Revision { .. }
            | StoreError::Mapping { .. }
            | StoreError::NotInstalled { .. } => HOLDS_NOT,
            _ => ENVIRONMENT,
        };
        Failure::new(code, error)
    }
}
