//! The kill switch as a signal: for an instance that answers nothing else any more.
//!
//! Off until [`kill_switch`] is called, once, at the start:
//!
//! ```no_run
//! # async fn start(folder: &std::path::Path, mapping: &str, old: &str, new: &str) -> Result<(), Box<dyn std::error::Error>> {
//! # use changeover::wiring::Wiring;
//! let wiring = Wiring::install("listings", mapping, old, new, folder).await?;
//! changeover::signal::kill_switch([wiring.flags().clone()])?;
//! # Ok(())
//! # }
//! ```
//!
//! Then, on the machine,
//!
//! ```sh
//! kill -USR1 <pid>    # every read to the authority, none compared, of every entity handed over
//! kill -USR2 <pid>    # back to where the percentages were
//! ```
//!
//! 1. It acts in memory first, for all entities, and is stored after, so it survives a restart. It
//!    needs no database, no network and no disk.
//! 2. It has a thread and a small runtime of its own: it acts although every thread of the
//!    application's runtime is busy or blocked.
//! 3. A kill that the environment throws is not cleared, and the log says so.
//!
//! Not promised: that a signal is told from the one before it. Several that arrive at once may act
//! as one, and a USR1 and a USR2 that arrive at once in either order.

use std::io;
use std::sync::mpsc;
use std::thread;

use changeover_flags::Flags;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Lets SIGUSR1 throw the kill switch of `flags`, and SIGUSR2 clear it, for the rest of the
/// process. From then on the two signals no longer end the process. Returns when both are heard.
///
/// # Errors
///
/// [`io::Error`] if the thread cannot be started or the system refuses the signals: then nothing
/// is heard.
pub fn kill_switch(flags: impl IntoIterator<Item = Flags>) -> io::Result<()> {
    let flags: Vec<Flags> = flags.into_iter().collect();
    let (ready, is_ready) = mpsc::channel();
    let thread = thread::Builder::new().name("changeover-signal".to_owned());
    thread.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error))),
        };
        runtime.block_on(async {
            match heard() {
                Ok((throw, clear)) => {
                    let _ = ready.send(Ok(()));
                    obey(throw, clear, &flags).await;
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        });
    })?;
    let lost = |_| io::Error::other("the thread that hears the signals ended at once");
    is_ready.recv().map_err(lost)?
}

fn heard() -> io::Result<(Signal, Signal)> {
    let throw = signal(SignalKind::user_defined1())?;
    let clear = signal(SignalKind::user_defined2())?;
    Ok((throw, clear))
}

async fn obey(mut throw: Signal, mut clear: Signal, flags: &[Flags]) {
    loop {
        let kill = tokio::select! {
            // Of two that arrived at once, the kill is obeyed last: the safer one stands.
            biased;
            Some(()) = clear.recv() => false,
            Some(()) = throw.recv() => true,
            else => return,
        };
        if kill {
            // All of them before any disk is waited for.
            flags.iter().for_each(|flags| flags.kill_now("SIGUSR1"));
            for flags in flags {
                // What cannot be stored, the flags say, and the next look at the file tries again.
                let _ = flags.reload();
            }
        } else {
            for flags in flags {
                if let Err(error) = flags.clear_kill() {
                    tracing::error!(entity = %flags.entity(), %error, "clearing the kill switch by SIGUSR2");
                }
            }
        }
    }
}
