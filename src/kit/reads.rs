//! One read, asked of both repositories.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use changeover_flags::{Key, Place};
use changeover_shadow::{Observe, Redaction, Rules, Value, diff};
use futures_util::future::BoxFuture;

use super::failed::{Errors, Failed};
use super::{Finding, Report, Rule};

/// What a repository answered, observed: nothing, or a value.
type Answered = Result<Option<Value>, Failed>;

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
                Err(error) => Err(Failed::of(error)),
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

    /// Asks both sides for each of `keys` and compares.
    pub(super) async fn check(
        &self,
        keys: &[&Key],
        errors: &Errors,
        redaction: &Redaction,
        report: &mut Report,
    ) {
        let (mut answered, mut silent, mut why) = (false, Vec::new(), String::new());
        for key in keys {
            let legacy = (self.ask)(Place::Legacy, (*key).clone()).await;
            let new = (self.ask)(Place::New, (*key).clone()).await;
            answered |= legacy.is_ok() || new.is_ok();
            match self.compared(legacy, new, errors, redaction) {
                Ok(found) => {
                    report.try_on(Rule::Reads, 1);
                    if let Some(found) = found {
                        report.add(Finding {
                            rule: Rule::Reads,
                            key: Some(key.to_string()),
                            found,
                            remedy: "the copy is right, so one of the repositories reads it otherwise: compare their filters, joins, and what they make of NULL; if both are meant, say so with a rule (Kit::reads_agree_by, and the same rule in the layer)".into(),
                        });
                    }
                }
                Err(failed) => {
                    silent.push(key);
                    why = failed;
                }
            }
        }
        let name = &self.name;
        if let Some(key) = silent.first() {
            let what = format!("{name} of {} keys, such as {key}", silent.len());
            let why = format!("both sides answer an error; legacy: {why}");
            report.add_not_tried(Rule::Reads, what, why);
        }
        if !answered && !keys.is_empty() {
            report.add(Finding {
                rule: Rule::Reads,
                key: None,
                found: format!("{name} answers on neither side for any of {} keys, so nothing was compared", keys.len()),
                remedy: "mend the closures, or what they need: the report says under `not tried` what they answer".into(),
            });
        }
    }

    /// The difference, if there is one; the error where both sides say nothing of the data.
    fn compared(
        &self,
        legacy: Answered,
        new: Answered,
        errors: &Errors,
        redaction: &Redaction,
    ) -> Result<Option<String>, String> {
        let name = &self.name;
        let told = |failed: &Failed| errors.told(failed, redaction);
        Ok(match (legacy, new) {
            (Err(legacy), Err(new)) => match (errors.class(&legacy), errors.class(&new)) {
                (Some(legacy), Some(new)) if legacy == new => None,
                (Some(legacy), Some(new)) => Some(format!(
                    "{name} fails with {legacy} on legacy and with {new} on new"
                )),
                _ => return Err(told(&legacy)),
            },
            (Err(error), Ok(_)) => Some(format!("{name} fails on legacy alone: {}", told(&error))),
            (Ok(_), Err(error)) => Some(format!("{name} fails on new alone: {}", told(&error))),
            (Ok(None), Ok(None)) => None,
            (Ok(Some(_)), Ok(None)) => Some(format!("{name} finds it on legacy and not on new")),
            (Ok(None), Ok(Some(_))) => Some(format!("{name} finds it on new and not on legacy")),
            (Ok(Some(legacy)), Ok(Some(new))) => {
                let fields = diff(&legacy, &new, &self.rules);
                let fields = fields
                    .iter()
                    .map(|field| redaction.field(field).to_string());
                let fields: Vec<String> = fields.collect();
                (!fields.is_empty())
                    .then(|| format!("{name} answers differ: {}", fields.join("; ")))
            }
        })
    }
}
