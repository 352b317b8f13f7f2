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
//! 1. It acts in memory, for all entities, and needs no database, no network and no disk for that.
//! 2. It has a thread and a small runtime of its own: it acts although every thread of the
//!    application's runtime is busy or blocked.
//! 3. It is stored after, so it survives a restart: by another thread, one entity after the other. While a
//!    disk hangs, that one waits, and signals act all the same.
//! 4. A kill that the environment throws is not cleared, and the log says so.
//!
//! Not promised: that a signal is told from the one before it. Several that arrive at once may act
//! as one, and a USR1 and a USR2 that arrive at once in either order. Each is logged: a log that is
//! written where it hangs holds up what comes next.

use std::io;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread;

use changeover_flags::Flags;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Lets SIGUSR1 throw the kill switch of `flags`, and SIGUSR2 clear it, for the rest of the
/// process. From then on the two signals no longer end the process. Returns when both are heard.
///
/// # Errors
///
/// [`io::Error`] if a thread cannot be started or the system refuses the signals: then nothing
/// is heard.
pub fn kill_switch(flags: impl IntoIterator<Item = Flags>) -> io::Result<()> {
    let flags: Vec<Flags> = flags.into_iter().collect();
    let store = storing(flags.clone())?;
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
                    obey(throw, clear, &flags, &store).await;
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

/// Starts the thread that stores what signals have changed, whenever it is told to look, until nobody is
/// left to tell it.
fn storing(flags: Vec<Flags>) -> io::Result<SyncSender<()>> {
    // Room for one: whoever has yet to look sees all that came before.
    let (store, told) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name("changeover-store".to_owned());
    thread.spawn(move || {
        while told.recv().is_ok() {
            for flags in &flags {
                // What cannot be stored, the flags say, and the next look at the file tries again.
                let _ = flags.reload();
            }
        }
    })?;
    Ok(store)
}

/// Nothing in here may wait for a disk: the next signal would not be obeyed.
async fn obey(mut throw: Signal, mut clear: Signal, flags: &[Flags], store: &SyncSender<()>) {
    loop {
        let kill = tokio::select! {
            // Of two that arrived at once, the kill is obeyed last: the safer one stands.
            biased;
            Some(()) = clear.recv() => false,
            Some(()) = throw.recv() => true,
            else => return,
        };
        if kill {
            flags.iter().for_each(|flags| flags.kill_now("SIGUSR1"));
        } else {
            for flags in flags {
                if let Err(error) = flags.clear_kill_now() {
                    tracing::error!(entity = %flags.entity(), %error, "clearing the kill switch by SIGUSR2");
                }
            }
        }
        match store.try_send(()) {
            Ok(()) | Err(TrySendError::Full(())) => {}
            Err(TrySendError::Disconnected(())) => {
                tracing::error!(
                    "what a signal changes is in force and not stored: the thread that stores it has ended"
                );
            }
        }
    }
}
