//! One read, asked of both repositories.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use changeover_flags::{Key, Place};
use changeover_shadow::{Observe, Redaction, Rules, Value, diff};
use futures_util::future::BoxFuture;

use super::{Finding, Report, Rule};

/// What a repository answered, observed: nothing, or a value.
type Answered = Result<Option<Value>, String>;

/// A read of both repositories.
pub(super) struct Read {
    name: String,
    rules: Rules,
    ask: Box<dyn Fn(Place, Key) -> BoxFuture<'static, Answered> + Send + Sync>,
}

impl Read {
    pub(super) fn new<T, E, L, N>(
        name: &str,
        observe: impl Observe<T> + 'static,
        rules: Rules,
        legacy: impl Fn(Key) -> L + Send + Sync + 'static,
        new: impl Fn(Key) -> N + Send + Sync + 'static,
    ) -> Read
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
        L: Future<Output = Result<T, E>> + Send + 'static,
        N: Future<Output = Result<T, E>> + Send + 'static,
    {
        let observe = Arc::new(observe);
        let ask = move |place, key| -> BoxFuture<'static, Answered> {
            let observe = Arc::clone(&observe);
            let observed = move |answer: Result<T, E>| match answer {
                Ok(answer) => Ok(observe.observe(&answer)),
                Err(error) => Err(error.to_string()),
            };
            match place {
                Place::Legacy => {
                    let asked = legacy(key);
                    Box::pin(async move { observed(asked.await) })
                }
                Place::New => {
                    let asked = new(key);
                    Box::pin(async move { observed(asked.await) })
                }
            }
        };
        Read {
            name: name.to_owned(),
            rules,
            ask: Box::new(ask),
        }
    }

    /// Asks both sides for `key` and compares.
    pub(super) async fn check(&self, key: &Key, redaction: &Redaction, report: &mut Report) {
        let legacy = (self.ask)(Place::Legacy, key.clone()).await;
        let new = (self.ask)(Place::New, key.clone()).await;
        let name = &self.name;
        let found = match (legacy, new) {
            (Err(legacy), Err(_)) => {
                let what = format!("{name} of key {key}");
                let why = format!("both sides answer an error; legacy: {legacy}");
                return report.add_not_tried(Rule::Reads, what, why);
            }
            (Err(error), Ok(_)) => format!("{name} fails on legacy alone: {error}"),
            (Ok(_), Err(error)) => format!("{name} fails on new alone: {error}"),
            (Ok(None), Ok(None)) => String::new(),
            (Ok(Some(_)), Ok(None)) => format!("{name} finds it on legacy and not on new"),
            (Ok(None), Ok(Some(_))) => format!("{name} finds it on new and not on legacy"),
            (Ok(Some(legacy)), Ok(Some(new))) => {
                let fields = diff(&legacy, &new, &self.rules);
                let fields: Vec<String> = fields
                    .iter()
                    .map(|field| redaction.field(field).to_string())
                    .collect();
                match fields.as_slice() {
                    [] => String::new(),
                    fields => format!("{name} answers differ: {}", fields.join("; ")),
                }
            }
        };
        report.try_on(Rule::Reads, 1);
        if !found.is_empty() {
            report.add(Finding {
                rule: Rule::Reads,
                key: Some(key.to_string()),
                found,
                remedy: "the copy is right, so one of the repositories reads it otherwise: compare their filters, joins, and what they make of NULL; if both are meant, say so with a rule (Kit::reads_agree_by, and the same rule in the layer)".into(),
            });
        }
    }
}
