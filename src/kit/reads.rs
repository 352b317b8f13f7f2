//! One read, asked of both repositories.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use changeover_flags::{Key, Place};
use changeover_shadow::{Observe, Redaction, Rules, Value, diff};
use futures_util::future::BoxFuture;

use super::failed::{Errors, Failed, called, in_time};
use super::{Finding, Report, Rule};

/// What a repository answered, observed: nothing, or a value.
type Answered = Result<Option<Value>, Failed>;

/// A read of both repositories.
pub(super) struct Read {
    name: String,
    rules: Rules,
    ask: Box<dyn Fn(Place, Key) -> BoxFuture<'static, Answered> + Send + Sync>,
}

/// What both answers for one key show.
enum Seen {
    Agree,
    Differ(String),
    /// Errors of one class: alike, and nothing of a row was compared.
    Refused,
    /// No row and no element, on either side.
    Nothing,
    /// Errors that say nothing of the data.
    Silent(String),
}

/// Keys that were not compared for one reason.
#[derive(Default)]
struct Left<'a> {
    first: Option<&'a Key>,
    count: usize,
    why: String,
}

impl<'a> Left<'a> {
    fn add(&mut self, key: &'a Key, why: impl Into<String>) {
        self.first.get_or_insert(key);
        self.count += 1;
        self.why = why.into();
    }

    fn tell(self, name: &str, report: &mut Report) {
        if let Some(key) = self.first {
            let what = format!("{name} of {} keys, such as {key}", self.count);
            report.add_not_tried(Rule::Reads, what, self.why);
        }
    }
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
            let observed = move |answer: T| observe.observe(&answer);
            match place {
                Place::Legacy => called(|| {
                    let asked = legacy(key);
                    async move { asked.await.map(observed) }
                }),
                Place::New => called(|| {
                    let asked = new(key);
                    async move { asked.await.map(observed) }
                }),
            }
        };
        Read {
            name: name.to_owned(),
            rules,
            ask: Box::new(ask),
        }
    }

    /// Asks both sides for each key and compares: those that were `copied`, and those that are `absent`.
    pub(super) async fn check(
        &self,
        copied: &[Key],
        absent: &[Key],
        errors: &Errors,
        redaction: &Redaction,
        report: &mut Report,
    ) {
        let name = &self.name;
        let (mut compared, mut empty, mut silent) = (false, Left::default(), Left::default());
        let rows = copied.iter().map(|key| (key, true));
        for (key, row) in rows.chain(absent.iter().map(|key| (key, false))) {
            let legacy = in_time((self.ask)(Place::Legacy, key.clone())).await;
            let new = in_time((self.ask)(Place::New, key.clone())).await;
            match self.seen(legacy, new, errors, redaction) {
                Seen::Agree => compared |= row,
                Seen::Refused => {}
                Seen::Differ(found) => {
                    compared |= row;
                    report.add(Finding {
                        rule: Rule::Reads,
                        key: Some(key.to_string()),
                        found,
                        remedy: "the copy is right, so one of the repositories reads it otherwise: compare their filters, joins, and what they make of NULL; if both are meant, say so with a rule (Kit::reads_agree_by, and the same rule in the layer)".into(),
                    });
                }
                // Of a key that no row has it is the answer.
                Seen::Nothing if !row => {}
                Seen::Nothing => {
                    empty.add(key, "both sides show nothing: no row, or an empty list");
                    continue;
                }
                Seen::Silent(why) => {
                    silent.add(key, format!("both sides answer an error; legacy: {why}"));
                    continue;
                }
            }
            report.try_on(Rule::Reads, 1);
        }
        empty.tell(name, report);
        silent.tell(name, report);
        if copied.is_empty() {
            report.add_not_tried(Rule::Reads, name, "there is no key on both sides");
        } else if !compared {
            report.add(Finding {
                rule: Rule::Reads,
                key: None,
                found: format!("{name} shows something on neither side for any of {} keys that are on both, so nothing was compared", copied.len()),
                remedy: "mend the closures until they show rows: what they make of the key, what they filter, and what they need to answer".into(),
            });
        }
    }

    /// What two answers show beside each other.
    fn seen(
        &self,
        legacy: Answered,
        new: Answered,
        errors: &Errors,
        redaction: &Redaction,
    ) -> Seen {
        let name = &self.name;
        let told = |failed: &Failed| errors.told(failed, redaction);
        Seen::Differ(match (legacy, new) {
            (Err(legacy), Err(new)) => match (errors.class(&legacy), errors.class(&new)) {
                (Some(legacy), Some(new)) if legacy == new => return Seen::Refused,
                (Some(legacy), Some(new)) => {
                    format!("{name} fails with {legacy} on legacy and with {new} on new")
                }
                _ => return Seen::Silent(told(&legacy)),
            },
            (Err(error), Ok(_)) => format!("{name} fails on legacy alone: {}", told(&error)),
            (Ok(_), Err(error)) => format!("{name} fails on new alone: {}", told(&error)),
            (Ok(None), Ok(None)) => return Seen::Nothing,
            (Ok(Some(_)), Ok(None)) => format!("{name} finds it on legacy and not on new"),
            (Ok(None), Ok(Some(_))) => format!("{name} finds it on new and not on legacy"),
            (Ok(Some(legacy)), Ok(Some(new))) => {
                let fields = diff(&legacy, &new, &self.rules);
                if fields.is_empty() {
                    return match is_empty(&legacy) && is_empty(&new) {
                        true => Seen::Nothing,
                        false => Seen::Agree,
                    };
                }
                let fields = fields
                    .iter()
                    .map(|field| redaction.field(field).to_string());
                let fields: Vec<String> = fields.collect();
                format!("{name} answers differ: {}", fields.join("; "))
            }
        })
    }
}

/// Whether an answer is a list or a record that holds nothing, as the layer has it (class `neither`).
fn is_empty(answer: &Value) -> bool {
    match answer {
        Value::List(items) => items.is_empty(),
        Value::Record(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use changeover_shadow::Json;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_read_that_never_ends_is_named_beside_the_rest() {
        let answer = |key: Key| async move { Ok::<_, Infallible>(key.to_string()) };
        let hangs = move |key: Key| async move {
            match key.as_str() {
                "2" => std::future::pending().await,
                _ => answer(key).await,
            }
        };
        let read = Read::new("get", Json, Rules::new(), hangs, answer);
        let keys = ["1", "2", "3"].map(Key::new);
        let mut report = Report::default();
        let (errors, redaction) = (Errors::default(), Redaction::new());
        let check = read.check(&keys, &[], &errors, &redaction, &mut report);
        let hour = Duration::from_secs(3_600);
        timeout(hour, check).await.expect("it ends");
        assert_eq!(report.tried(Rule::Reads), 3, "{report}");
        assert_eq!(report.findings().len(), 1, "{report}");
        let found = "key 2: get fails on legacy alone: it did not end";
        assert!(report.to_string().contains(found), "{report}");
    }
}
