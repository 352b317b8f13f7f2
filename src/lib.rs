//! `changeover` moves a live application from legacy tables to new tables, up to all reads at the
//! new ones: no downtime, no lost write, and a way back at every step. Taking the writes over, the
//! last step, is not built yet; by hand it takes a stop, and has no way back.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`prelude`] | what a first shadow read needs, for one `use` |
//! | [`proxy`] | Tower layers: dual write, shadow read, routing by percentage |
//! | [`flags`] | stage, read percentage, sampling, kill switch |
//! | [`shadow`] | comparing: values, rules, verdicts, tally |
//! | [`worker`] | install, copy, backfill, drain, verify, repair |
//! | [`wiring`] | the layers' ports, answered by the worker; the worker inside the application |
//! | [`macro@layered`] | an attribute: a trait of `async fn` behind the layers |
//! | [`repository`](mod@repository) | a `dyn` trait of boxed futures behind the layers |
//! | [`closures`] | two closures behind the layers |
//! | [`kit`] | a contract test for your own mapping and repositories |
//! | `router` | status and switches over HTTP (cargo feature `router`) |
//! | `signal` | the kill switch as a signal (Unix) |
//! | [`demo`] | a whole migration under load, on databases made for it |
//! | [`config`] | `changeover.toml`, from which the command line works |
//! | [`cli`] | the command line as a function, for binaries with mappings in Rust |

pub use changeover_flags as flags;
pub use changeover_macros::layered;
pub use changeover_proxy as proxy;
pub use changeover_shadow as shadow;
pub use changeover_sync_worker as worker;

mod causes;
pub mod cli;
pub mod closures;
pub mod config;
pub mod demo;
pub mod kit;
pub mod prelude;
pub mod repository;
#[cfg(feature = "router")]
pub mod router;
mod screen;
#[cfg(unix)]
pub mod signal;
pub mod wiring;
