//! An application's notes: kept in a SQL table, and on their way to the [`keeper`](super::keeper).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use changeover::flags::{Entity, Epoch, Flags, Percent};
use changeover::proxy::{Changeover, Failure, Handle, Limits, Operation, Refused, Replay};
use changeover::shadow::Json;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use thiserror::Error;
use tower::util::BoxCloneSyncService;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::keeper::{self, NoAnswer};
use crate::protocol::market::Plain;

/// How long a replay may take.
pub const COPY_TIME: Duration = Duration::from_secs(3);

#[derive(Debug, Clone)]
pub enum Call {
    Read(i64),
    Append(i64, String),
    /// It is appended, and the answer to its commit is lost.
    AppendUnanswered(i64, String),
}

#[derive(Debug, Error)]
pub enum NoteError {
    #[error("the database")]
    Database(#[from] sqlx::Error),
    #[error("the answer to the commit was lost")]
    Lost,
    #[error("the new service")]
    Keeper(#[from] NoAnswer),
    #[error("the layer")]
    Refused(#[from] Refused),
}

pub type Answer = Result<Option<String>, NoteError>;

/// One instance of the application: the layer, with legacy as the authority and every read from
/// the keeper that may be. What follows a write is a replay.
pub struct Notes {
    service: BoxCloneSyncService<Call, Option<String>, NoteError>,
    pub handle: Handle,
    /// How many reads the keeper answered.
    pub by_new: Arc<AtomicUsize>,
    metrics: Snapshotter,
}

async fn legacy(tables: Plain, call: Call) -> Answer {
    let append = |id: i64, more: String| {
        let tables = tables.clone();
        async move {
            let sql = format!(
                "INSERT INTO notes (id, body) VALUES ({id}, '{more}') \
                 ON CONFLICT (id) DO UPDATE SET body = notes.body || excluded.body"
            );
            tables.try_run(&sql).await?;
            // Two that were under way at once may end in another order than they committed in.
            let pause = Duration::from_millis(rand::random_range(0..4));
            tokio::time::sleep(pause).await;
            Ok::<_, NoteError>(())
        }
    };
    match call {
        Call::Read(id) => Ok(body(&tables, id).await),
        Call::Append(id, more) => {
            append(id, more).await?;
            Ok(None)
        }
        Call::AppendUnanswered(id, more) => {
            append(id, more).await?;
            Err(NoteError::Lost)
        }
    }
}

/// What the legacy table says, by SQL of the test's own.
pub async fn body(tables: &Plain, id: i64) -> Option<String> {
    let sql = format!("SELECT body FROM notes WHERE id = {id}");
    tables.texts(&sql).await.into_iter().next()
}

impl Notes {
    pub fn over(tables: &Plain, folder: PathBuf) -> Notes {
        let times = [200, 500].map(Duration::from_millis);
        Notes::waiting(tables, folder, times)
    }

    /// One that waits so long for an answer of the keeper, and for a comparison.
    pub fn waiting(
        tables: &Plain,
        folder: PathBuf,
        [follower_time, shadow_time]: [Duration; 2],
    ) -> Notes {
        let flags = Flags::memory(Entity::new("notes").unwrap());
        // No worker: the application says itself that the two services start out equal.
        flags.learn(&Epoch::READY).unwrap();
        flags.set_read_new(Percent::HUNDRED).unwrap();
        flags.set_sample(Percent::HUNDRED).unwrap();
        let by_new = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&by_new);
        let new = service_fn(move |call: Call| {
            let (folder, counted) = (folder.clone(), Arc::clone(&counted));
            async move {
                Ok(match call {
                    Call::Read(id) => {
                        let read = keeper::ask(&folder, id, None).await?;
                        counted.fetch_add(1, Ordering::SeqCst);
                        read
                    }
                    Call::Append(id, more) | Call::AppendUnanswered(id, more) => {
                        keeper::ask(&folder, id, Some(more)).await?
                    }
                })
            }
        });
        let recorder = DebuggingRecorder::new();
        let metrics = recorder.snapshotter();
        let builder = Changeover::builder(flags)
            .classify(|call: &Call| match call {
                Call::Read(id) => Operation::read("read", *id),
                Call::Append(id, _) | Call::AppendUnanswered(id, _) => {
                    Operation::write("append", [*id])
                }
            })
            .observe(Json)
            .outcome(|error: &NoteError| match error {
                NoteError::Lost => Failure::Unknown,
                _ => Failure::Definite,
            })
            .operations(["read", "append"])
            .limits(Limits {
                copy_time: COPY_TIME,
                follower_time,
                shadow_time,
                second_look_after: Duration::from_millis(50),
                sweep_every: Duration::from_millis(50),
                ..Limits::default()
            })
            .new_service(new.clone())
            .follow(Replay::new(new, 16));
        let layer = metrics::with_local_recorder(&recorder, || builder.build()).unwrap();
        let tables = tables.clone();
        let authority = service_fn(move |call| legacy(tables.clone(), call));
        Notes {
            handle: layer.handle(),
            service: BoxCloneSyncService::new(layer.layer(authority)),
            by_new,
            metrics,
        }
    }

    pub async fn call(&self, call: Call) -> Answer {
        self.service.clone().oneshot(call).await
    }

    /// Everything counted so far under this name, by label. Reading sets the counters back to 0.
    pub fn counted(&self, name: &str, label: &str) -> Vec<(String, u64)> {
        let all = self.metrics.snapshot().into_vec().into_iter();
        let counters = all.filter_map(|(key, _, _, value)| match value {
            DebugValue::Counter(count) if key.key().name() == name => {
                let mut labels = key.key().labels().filter(|one| one.key() == label);
                Some((labels.next()?.value().to_owned(), count))
            }
            _ => None,
        });
        counters.collect()
    }
}
