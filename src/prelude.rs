//! `use changeover::prelude::*;`: the names of `docs/adoption.md`, and those that come next.
//!
//! ```
//! use changeover::prelude::*;
//!
//! let sample = Percent::new(10.0)?;
//! let rules: Rules = r#"fold_space = ["name"]"#.parse()?;
//! let list = Operation::list("of_seller").routed_by("ann");
//! # let _ = (sample, rules, list, Redaction::new(), Limits::default(), RunOptions::default());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use changeover_flags::{KeyList, Percent};
pub use changeover_proxy::{Handle, Limits, Operation, Refused};
pub use changeover_shadow::{Json, Redaction, Rules};
pub use changeover_sync_worker::guard;

pub use crate::closures::Closures;
pub use crate::wiring::{InstallError, RunOptions, Running, Wiring};
