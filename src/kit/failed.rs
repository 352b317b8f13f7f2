//! What a team's own call failed with, as a report may say it.

use std::any::{Any, type_name};
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use changeover_shadow::{FieldDiff, Redaction, Value};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::timeout;

/// How long one call may take that nobody disturbs.
const ONE_CALL: Duration = Duration::from_secs(60);

/// The class of an error, of any type.
type Class = dyn Fn(&dyn Any) -> Option<&'static str> + Send + Sync;

/// What names the classes of errors, and says how much else of them is shown.
#[derive(Default)]
pub(super) struct Errors {
    classes: Vec<Box<Class>>,
}

impl Errors {
    pub(super) fn classed<E: 'static>(
        &mut self,
        class: impl Fn(&E) -> Option<&'static str> + Send + Sync + 'static,
    ) {
        let class = move |error: &dyn Any| error.downcast_ref::<E>().and_then(&class);
        self.classes.push(Box::new(class));
    }

    pub(super) fn class(&self, failed: &Failed) -> Option<&'static str> {
        let Failed::Answered { error, .. } = failed else {
            return None;
        };
        self.classes.iter().find_map(|class| class(&**error))
    }

    /// The class, or the type and as much of the text as may be shown: it may quote a row.
    pub(super) fn told(&self, failed: &Failed, redaction: &Redaction) -> String {
        match (self.class(failed), failed) {
            (Some(class), _) => class.to_owned(),
            (None, Failed::Kit(why)) => (*why).to_owned(),
            (None, Failed::Answered { text, kind, .. }) => {
                let field = FieldDiff {
                    path: "error".to_owned(),
                    legacy: Some(Value::from(text.as_str())),
                    new: None,
                };
                let shown = redaction.field(&field).legacy;
                format!("{kind}: {shown} (Options::redaction shows it as the field \"error\")")
            }
        }
    }
}

/// Why a call has no answer.
pub(super) enum Failed {
    /// It answered an error.
    Answered {
        error: Box<dyn Any + Send>,
        text: String,
        kind: &'static str,
    },
    /// What the kit itself saw of it.
    Kit(&'static str),
}

impl Failed {
    pub(super) fn of<E: fmt::Display + Send + 'static>(error: E) -> Failed {
        Failed::Answered {
            text: error.to_string(),
            kind: type_name::<E>(),
            error: Box::new(error),
        }
    }
}

/// Calls at once, and answers later. A panic in either is an answer like any other.
pub(super) fn called<T, E, F>(call: impl FnOnce() -> F) -> BoxFuture<'static, Result<T, Failed>>
where
    T: Send + 'static,
    E: fmt::Display + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    const PANICKED: Failed = Failed::Kit("it panicked");
    let Ok(answer) = catch_unwind(AssertUnwindSafe(call)) else {
        return Box::pin(async { Err(PANICKED) });
    };
    // The text of an error is the team's code as well.
    let answer = async move { answer.await.map_err(Failed::of) };
    let answer = AssertUnwindSafe(answer).catch_unwind();
    Box::pin(async move { answer.await.unwrap_or(Err(PANICKED)) })
}

/// What `call` answers, if it ends at all.
pub(super) async fn in_time<T>(call: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    let answer = timeout(ONE_CALL, call).await;
    answer.unwrap_or(Err(Failed::Kit("it did not end")))
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, pending};

    use super::*;

    async fn told<F>(call: impl FnOnce() -> F) -> String
    where
        F: Future<Output = Result<u8, Liar>> + Send + 'static,
    {
        match in_time(called(call)).await {
            Ok(number) => number.to_string(),
            Err(failed) => Errors::default().told(&failed, &Redaction::new()),
        }
    }

    /// An error that cannot even be shown.
    struct Liar;

    impl fmt::Display for Liar {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("the team's own")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_a_call_does_it_has_an_answer() {
        assert_eq!(told(|| async { Ok(7) }).await, "7");
        let early = told(|| -> Ready<_> { panic!("before the first await") });
        assert_eq!(early.await, "it panicked");
        assert_eq!(told(|| async { panic!("later") }).await, "it panicked");
        assert_eq!(told(|| async { Err(Liar) }).await, "it panicked");
        let never = timeout(ONE_CALL * 2, told(pending)).await;
        assert_eq!(never.as_deref(), Ok("it did not end"));
    }
}
