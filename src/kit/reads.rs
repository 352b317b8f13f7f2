//! One read, asked of both repositories.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use changeover_flags::{Key, Place};
use changeover_shadow::{
    Answer, Judgement, Look, Observe, Redaction, Rules, Value, Verdict, judge,
};
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

    /// What two answers show beside each other: what the layer would make of them.
    fn seen(
        &self,
        legacy: Answered,
        new: Answered,
        errors: &Errors,
        redaction: &Redaction,
    ) -> Seen {
        let name = &self.name;
        let told = |answered: &Answered| match answered {
            Ok(_) => String::new(),
            Err(failed) => errors.told(failed, redaction),
        };
        let (legacy_told, new_told) = (told(&legacy), told(&new));
        let answer = |answered: Answered| match answered {
            Ok(found) => Answer::from(found),
            Err(failed) => errors
                .class(&failed)
                .map_or(Answer::Failed, Answer::Refused),
        };
        let look = Look {
            legacy: answer(legacy),
            new: answer(new),
            versions: None,
        };
        Seen::Differ(match judged(&look, &self.rules) {
            Verdict::Match | Verdict::Healed => return Seen::Agree,
            Verdict::Neither => return Seen::Nothing,
            Verdict::ErrorsAlike(_) => return Seen::Refused,
            Verdict::ErrorInLegacy | Verdict::ErrorsDiffer { new: None, .. } => {
                format!("{name} fails on legacy alone: {legacy_told}")
            }
            Verdict::ErrorInNew | Verdict::ErrorsDiffer { legacy: None, .. } => {
                format!("{name} fails on new alone: {new_told}")
            }
            Verdict::ErrorsDiffer {
                legacy: Some(legacy),
                new: Some(new),
            } => format!("{name} fails with {legacy} on legacy and with {new} on new"),
            Verdict::MissingInNew => format!("{name} finds it on legacy and not on new"),
            Verdict::ExtraInNew => format!("{name} finds it on new and not on legacy"),
            Verdict::Mismatch(fields) => {
                let fields = fields
                    .iter()
                    .map(|field| redaction.field(field).to_string());
                let fields: Vec<String> = fields.collect();
                format!("{name} answers differ: {}", fields.join("; "))
            }
            // The others are of lists by key, of versions, or of looks that nobody made here.
            Verdict::ErrorInBoth
            | Verdict::Lagging
            | Verdict::Elements(_)
            | Verdict::Noise(_)
            | Verdict::Timeout
            | Verdict::Shed => return Seen::Silent(legacy_told),
        })
    }
}

/// What the layer makes of one look at sides that rest: what differs once would differ again.
fn judged(look: &Look, rules: &Rules) -> Verdict {
    let judged = |second| match judge(look, second, rules) {
        Judgement::Final(verdict) => Some(verdict),
        Judgement::LookAgain => None,
    };
    judged(None)
        .or_else(|| judged(Some(look)))
        .unwrap_or(Verdict::Lagging)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::ready;
    use std::time::Duration;

    use changeover_shadow::Json;
    use serde_json::json;
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

    /// What a read reports of one key that both sides have.
    async fn checked<T>(rules: Rules, legacy: T, new: T) -> Report
    where
        T: serde::Serialize + Clone + Send + Sync + 'static,
    {
        let legacy = move |_| ready(Ok::<T, Infallible>(legacy.clone()));
        let new = move |_| ready(Ok::<T, Infallible>(new.clone()));
        let read = Read::new("list", Json, rules, legacy, new);
        let (errors, redaction) = (Errors::default(), Redaction::new());
        let mut report = Report::default();
        let keys = [Key::new("1")];
        read.check(&keys, &[], &errors, &redaction, &mut report)
            .await;
        report
    }

    #[tokio::test]
    async fn no_rule_makes_an_empty_answer_agree_with_one_that_holds_something() {
        let lenient = || Rules::new().equal_if("**", |_, _| true);
        let found = "key 1: list finds it on legacy and not on new";
        let report = checked(lenient(), vec![7], vec![]).await;
        assert!(report.to_string().contains(found), "{report}");
        let (row, none) = (json!({"updated_at": 7}), json!({}));
        let report = checked(lenient(), row, none).await;
        assert!(report.to_string().contains(found), "{report}");
        let report = checked(lenient(), vec![7], vec![8]).await;
        assert!(report.holds() && report.tried(Rule::Reads) == 1, "{report}");
        let none = || Vec::<i32>::new();
        let report = checked(lenient(), none(), none()).await;
        assert!(report.to_string().contains("on neither side"), "{report}");
    }
}
