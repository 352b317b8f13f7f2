//! Writes of a key: dropped half-way, two at once, their answers lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;

use changeover_flags::Key;
use changeover_shadow::{Redaction, Rules, Value, diff};
use changeover_sync_worker::contract::Contract;
use changeover_sync_worker::store::StoreError;
use futures_util::future::BoxFuture;

use super::failed::{Errors, Failed, called, in_time};
use super::overlap::{Order, Overlap, at_most, overlap};
use super::rest::{Rest, rest};
use super::{Finding, LostAnswers, Report, Rule};

/// The most keys that writes are tried on.
const KEYS: usize = 3;

/// The most polls after which a write is dropped.
const POLLS: u32 = 64;

/// The most polls after which a write is overtaken.
const SUSPENDED: u32 = 3;

/// The rules of writes, in the order in which they are tried.
const RULES: [Rule; 3] = [Rule::Cancelled, Rule::Interleaved, Rule::LostAnswers];

/// Why nothing is tried beside what does not come to rest.
const UNREST: &str = "an earlier write left a transaction open or keys dirty, which would be taken for this one's: mend that one first";

/// What becomes of one call, later.
type Written = BoxFuture<'static, Result<(), Failed>>;

/// A write of the team's, through its layer.
pub(super) struct Write {
    name: String,
    call: Box<dyn Fn(Key, u32) -> Written + Send + Sync>,
}

impl Write {
    pub(super) fn new<T, E, F>(
        name: &str,
        write: impl Fn(Key, u32) -> F + Send + Sync + 'static,
    ) -> Write
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let call = move |key, n| -> Written {
            called(|| {
                let written = write(key, n);
                async move { written.await.map(drop) }
            })
        };
        Write {
            name: name.to_owned(),
            call: Box::new(call),
        }
    }
}

/// What the team gave, and how its errors are told.
pub(super) struct Given<'a> {
    pub(super) writes: &'a [Write],
    pub(super) answers: &'a LostAnswers,
    pub(super) errors: &'a Errors,
    pub(super) redaction: &'a Redaction,
}

/// Every check of writes, on some of `keys`: what holds on the first may fail on a key of another kind.
pub(super) async fn check(
    contract: &Contract,
    given: &Given<'_>,
    keys: &[Key],
    report: &mut Report,
) -> Result<(), StoreError> {
    if given.writes.is_empty() || keys.is_empty() {
        let why = match given.writes.is_empty() {
            true => "none was given (Kit::writes)",
            false => "there is no key on both sides",
        };
        not_tried(report, "writes", why);
        return Ok(());
    }
    let mut known = Known::default();
    // Keys that are held already say nothing about the writes.
    let held = contract.drain().await?.dirty;
    let mut unrest = false;
    for key in some(keys) {
        if unrest {
            not_tried(report, &format!("every write on key {key}"), UNREST);
            continue;
        }
        let mut trial = Trial {
            contract,
            given,
            key,
            held,
            number: 0,
            known: &mut known,
            report,
            rule: Rule::Cancelled,
            names: Vec::new(),
            begun: BTreeSet::new(),
            rest: Rest::Sound,
        };
        trial.all().await?;
        unrest = matches!(trial.rest, Rest::Unrest(_));
    }
    for name in known.refused.difference(&known.accepted) {
        report.add(Finding {
            rule: Rule::Cancelled,
            key: None,
            found: format!("{name} answers an error for every key that it was tried on, so none of the rules of writes was tried"),
            remedy: "mend the closure, or what it needs: the report says under `not tried` what it answers".into(),
        });
    }
    Ok(())
}

/// The first, the last, and as many between them as make [`KEYS`].
fn some(keys: &[Key]) -> BTreeSet<&Key> {
    let last = keys.len().saturating_sub(1);
    let at = (0..KEYS).map(|n| last * n / (KEYS - 1));
    at.filter_map(|at| keys.get(at)).collect()
}

fn not_tried(report: &mut Report, what: &str, why: &str) {
    for rule in RULES {
        report.add_not_tried(rule, what, why);
    }
}

/// What was found of the writes, by name, on any key.
#[derive(Default)]
struct Known {
    /// Carried out undisturbed.
    accepted: BTreeSet<String>,
    /// Answered an error undisturbed.
    refused: BTreeSet<String>,
    /// Broke a rule, first on this key.
    broken: BTreeMap<String, Key>,
}

struct Trial<'a> {
    contract: &'a Contract,
    given: &'a Given<'a>,
    key: &'a Key,
    held: u64,
    number: u32,
    known: &'a mut Known,
    report: &'a mut Report,
    /// What is tried at present, and of whom: what is found is theirs.
    rule: Rule,
    names: Vec<String>,
    /// What was tried of each write on this key, or said not to be.
    begun: BTreeSet<(Rule, String)>,
    /// What the last write left behind.
    rest: Rest,
}

impl Trial<'_> {
    /// Every check on this key.
    async fn all(&mut self) -> Result<(), StoreError> {
        // What broke a rule on another key may have reached this one.
        if !self.known.broken.is_empty() {
            self.rest = rest(self.contract, self.key, self.held).await?;
        }
        let given = self.given;
        let mut usable = Vec::new();
        for write in given.writes {
            if self.may_try(write) && self.cancelled(write).await? {
                usable.push(write);
            }
        }
        // Each with itself first: what is wrong alone is not taken for another's.
        for apart in 0..usable.len() {
            for (first, second) in usable.iter().zip(usable.iter().cycle().skip(apart)) {
                if self.may_try(first) && self.may_try(second) {
                    self.interleaved(first, second).await?;
                }
            }
        }
        for write in usable {
            if self.may_try(write) {
                self.lost(write).await?;
            }
        }
        self.tell_left_out();
        Ok(())
    }

    /// Whether what is found next would be this write's own, and not be known already.
    fn may_try(&self, write: &Write) -> bool {
        matches!(self.rest, Rest::Sound) && !self.known.broken.contains_key(&write.name)
    }

    fn begin(&mut self, rule: Rule, writes: &[&Write]) {
        self.rule = rule;
        self.names = writes.iter().map(|write| write.name.clone()).collect();
        let begun = self.names.iter().map(|name| (rule, name.clone()));
        self.begun.extend(begun);
    }

    /// Says what was not tried on this key, and why.
    fn tell_left_out(&mut self) {
        for Write { name, .. } in self.given.writes {
            let why = match (self.known.broken.get(name), &self.rest) {
                (Some(key), _) => format!("it broke a rule on key {key}"),
                (None, Rest::Unrest(_)) => UNREST.to_owned(),
                (None, Rest::Apart(_)) => {
                    "an earlier write left the sides different on this key".to_owned()
                }
                (None, Rest::Sound) => continue,
            };
            for rule in RULES {
                if !self.begun.contains(&(rule, name.clone())) {
                    let what = format!("{name} on key {}", self.key);
                    self.report.add_not_tried(rule, what, why.as_str());
                }
            }
        }
    }

    fn told(&self, failed: &Failed) -> String {
        self.given.errors.told(failed, self.given.redaction)
    }

    fn call(&mut self, write: &Write) -> Written {
        self.number += 1;
        (write.call)(self.key.clone(), self.number)
    }

    /// Drops the write after 1, 2, 3, … polls. Answers whether the write can be used further.
    async fn cancelled(&mut self, write: &Write) -> Result<bool, StoreError> {
        let mut whole = BTreeSet::new();
        let name = &write.name;
        self.begin(Rule::Cancelled, &[write]);
        // Twice: the first may change what every later one leaves as it is.
        for _ in 0..2 {
            let before = self.contract.image(self.key).await?;
            if let Err(why) = in_time(self.call(write)).await {
                let why = format!(
                    "undisturbed, on key {}, it answers an error: {}",
                    self.key,
                    self.told(&why)
                );
                not_tried(self.report, name, &why);
                self.begun.extend(RULES.map(|rule| (rule, name.clone())));
                self.known.refused.insert(name.clone());
                return Ok(false);
            }
            self.known.accepted.insert(name.clone());
            let doing = format!("{name}, undisturbed");
            if !self.settled(&doing).await? {
                return Ok(false);
            }
            whole = changed(&before, &self.contract.image(self.key).await?);
        }
        if whole.is_empty() {
            let what = format!("whether {name} is all or nothing");
            let why = "it changed no field that the mapping reads; let it write something else for each n";
            self.report.add_not_tried(Rule::Cancelled, what, why);
        }
        for polls in 1..=POLLS {
            let before = self.contract.image(self.key).await?;
            let mut call = self.call(write);
            let ended = in_time(async { at_most(polls, &mut call).await.transpose() }).await;
            drop(call);
            match ended {
                Ok(None) => {}
                Ok(Some(())) => {
                    if polls == 1 {
                        let why = "it ended at its first poll: there is nothing to drop";
                        self.report
                            .add_not_tried(Rule::Cancelled, name.as_str(), why);
                    }
                    let doing = format!("{name}, after others were dropped");
                    return self.settled(&doing).await;
                }
                Err(why) => {
                    let found = format!("fails: {}", self.told(&why));
                    let doing = format!("{name}, after others were dropped");
                    self.broken(&doing, &found);
                    self.settled(&doing).await?;
                    return Ok(false);
                }
            }
            self.report.try_on(Rule::Cancelled, 1);
            let doing = format!("{name}, dropped after {polls} polls");
            if !self.settled(&doing).await? {
                return Ok(false);
            }
            let part = changed(&before, &self.contract.image(self.key).await?);
            if !part.is_empty() && part != whole && !whole.is_empty() {
                self.torn(&doing, &part, &whole);
                return Ok(false);
            }
        }
        let what = format!("{name} dropped after more than {POLLS} polls");
        self.report
            .add_not_tried(Rule::Cancelled, what, "the kit stops there");
        Ok(true)
    }

    fn torn(&mut self, doing: &str, part: &BTreeSet<String>, whole: &BTreeSet<String>) {
        let list =
            |fields: &BTreeSet<String>| fields.iter().cloned().collect::<Vec<_>>().join(", ");
        let found = format!(
            "{doing}, changed {}; undisturbed it changes {}",
            list(part),
            list(whole)
        );
        let remedy = "call it through the layer, which ends what it began without its caller, or make it one transaction";
        self.found(found, remedy);
    }

    /// Two writes at once, in both orders of their ends.
    async fn interleaved(&mut self, first: &Write, second: &Write) -> Result<(), StoreError> {
        let name = format!("{} and {}", first.name, second.name);
        self.begin(Rule::Interleaved, &[first, second]);
        for (order, word) in [
            (Order::Overtaking, "overtaking"),
            (Order::InTurn, "in turn"),
        ] {
            let mut done = false;
            let mut why = "the first ended before it could be suspended".to_owned();
            for polls in 1..=SUSPENDED {
                let (one, other) = (self.call(first), self.call(second));
                let doing = format!("{name}, {word}, suspended after {polls} polls");
                let overlapped = overlap(one, other, polls, order).await;
                if matches!(overlapped, Overlap::Stuck) {
                    let found = "they do not end: one waits for the other, or for what never comes";
                    self.broken(&doing, found);
                    return self.settled(&doing).await.map(drop);
                }
                if !self.settled(&doing).await? {
                    return Ok(());
                }
                match overlapped {
                    Overlap::TooShort => break,
                    Overlap::Locked => {
                        why = "one waits for the other's lock, so they end in one order alone"
                            .to_owned();
                    }
                    Overlap::Refused(error) => {
                        let told = self.told(&error);
                        why = format!("when they meet, one of them answers an error: {told}");
                    }
                    Overlap::Done | Overlap::Stuck => {
                        done = true;
                        self.report.try_on(Rule::Interleaved, 1);
                    }
                }
            }
            if !done {
                let what = format!("{name}, {word}");
                self.report.add_not_tried(Rule::Interleaved, what, why);
            }
        }
        Ok(())
    }

    async fn lost(&mut self, write: &Write) -> Result<(), StoreError> {
        let answers = self.given.answers;
        self.begin(Rule::LostAnswers, &[write]);
        answers.arm();
        let answer = in_time(self.call(write)).await;
        let name = &write.name;
        if answers.disarm() == 0 {
            let why = "no answer went through Kit::lost_answers: put it around the legacy repository's calls";
            self.report
                .add_not_tried(Rule::LostAnswers, name.as_str(), why);
            return Ok(());
        }
        self.report.try_on(Rule::LostAnswers, 1);
        let doing = format!("{name}, its answer lost");
        if answer.is_ok() {
            self.broken(&doing, "was told to its caller as done");
        }
        self.settled(&doing).await.map(drop)
    }

    /// Waits until what was done came to rest. Answers whether all is well.
    async fn settled(&mut self, doing: &str) -> Result<bool, StoreError> {
        self.rest = rest(self.contract, self.key, self.held).await?;
        let (Rest::Apart(found) | Rest::Unrest(found)) = &self.rest else {
            return Ok(true);
        };
        let found = found.clone();
        self.broken(doing, &found);
        Ok(false)
    }

    fn broken(&mut self, doing: &str, found: &str) {
        let remedy = "call it through the layer, in one transaction per call, with the pool behind worker::guard; what it writes must be stamped (see the rule stamps)";
        self.found(format!("{doing}: {found}"), remedy);
    }

    /// What is tried at present breaks its rule.
    fn found(&mut self, found: String, remedy: &str) {
        for name in &self.names {
            let on = self.known.broken.entry(name.clone());
            on.or_insert_with(|| self.key.clone());
        }
        self.report.add(Finding {
            rule: self.rule,
            key: Some(self.key.to_string()),
            found,
            remedy: remedy.to_owned(),
        });
    }
}

/// The fields in which an image changed.
fn changed(before: &Result<Value, String>, after: &Result<Value, String>) -> BTreeSet<String> {
    match (before, after) {
        (Ok(before), Ok(after)) => {
            let found = diff(before, after, &Rules::new());
            found.into_iter().map(|field| field.path).collect()
        }
        (Err(before), Err(after)) if before == after => BTreeSet::new(),
        _ => BTreeSet::from(["whether there is an image".to_owned()]),
    }
}
