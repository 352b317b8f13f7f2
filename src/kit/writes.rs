//! Writes of a key: dropped half-way, two at once, their answers lost.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use changeover_flags::Key;
use changeover_shadow::{Redaction, Rules, Value, diff};
use changeover_sync_worker::contract::Contract;
use changeover_sync_worker::store::StoreError;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout};

use super::failed::{Errors, Failed};
use super::overlap::{Order, Overlap, at_most, overlap};
use super::{Finding, LostAnswers, Report, Rule};

/// The most keys that writes are tried on.
const KEYS: usize = 3;

/// The most polls after which a write is dropped.
const POLLS: u32 = 64;

/// The most polls after which a write is overtaken.
const SUSPENDED: u32 = 3;

/// How long what a write left behind has to come to rest.
const SETTLE: Duration = Duration::from_secs(10);

/// Between two looks at what a write left behind.
const LOOK: Duration = Duration::from_millis(25);

/// How long an undisturbed write may take.
const ONE_WRITE: Duration = Duration::from_secs(60);

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
            let written = write(key, n);
            Box::pin(async move {
                // A panic is an answer like any other: what it left behind is what counts.
                match AssertUnwindSafe(written).catch_unwind().await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(Failed::of(error)),
                    Err(_) => Err(Failed::Kit("it panicked")),
                }
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
    let mut accepted = BTreeSet::new();
    for key in some(keys) {
        let before = report.findings().len();
        // Keys that are held already say nothing about the writes.
        let held = contract.drain().await?.dirty;
        let mut trial = Trial {
            contract,
            given,
            key,
            held,
            number: 0,
            accepted: &mut accepted,
            report,
        };
        trial.all().await?;
        if report.findings().len() > before {
            return Ok(());
        }
    }
    for write in given.writes {
        if !accepted.contains(&write.name) {
            report.add(Finding {
                rule: Rule::Cancelled,
                key: None,
                found: format!("{} answers an error for every key that it was tried on, so none of the rules of writes was tried", write.name),
                remedy: "mend the closure, or what it needs: the report says under `not tried` what it answers".into(),
            });
        }
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
    for rule in [Rule::Cancelled, Rule::Interleaved, Rule::LostAnswers] {
        report.add_not_tried(rule, what, why);
    }
}

struct Trial<'a> {
    contract: &'a Contract,
    given: &'a Given<'a>,
    key: &'a Key,
    held: u64,
    number: u32,
    /// Names of the writes that were carried out undisturbed, on any key.
    accepted: &'a mut BTreeSet<String>,
    report: &'a mut Report,
}

impl Trial<'_> {
    /// Every check on this key.
    async fn all(&mut self) -> Result<(), StoreError> {
        let mut sound = Vec::new();
        for write in self.given.writes {
            if self.cancelled(write).await? {
                sound.push(write);
            }
        }
        for (index, first) in sound.iter().enumerate() {
            for second in sound.iter().skip(index) {
                self.interleaved(first, second).await?;
                if index > 0 || !std::ptr::eq(*first, *second) {
                    self.interleaved(second, first).await?;
                }
            }
            self.lost(first).await?;
        }
        Ok(())
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
        // Twice: the first may change what every later one leaves as it is.
        for _ in 0..2 {
            let before = self.contract.image(self.key).await?;
            let answer = timeout(ONE_WRITE, self.call(write)).await;
            if let Err(why) = answer.unwrap_or(Err(Failed::Kit("it did not end"))) {
                let why = format!(
                    "undisturbed, on key {}, it answers an error: {}",
                    self.key,
                    self.told(&why)
                );
                not_tried(self.report, name, &why);
                return Ok(false);
            }
            self.accepted.insert(name.clone());
            let doing = format!("{name}, undisturbed");
            if !self.settled(Rule::Cancelled, &doing).await? {
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
            let ended = at_most(polls, &mut call).await;
            drop(call);
            match ended {
                None => {}
                Some(Ok(())) => {
                    if polls == 1 {
                        let why = "it ended at its first poll: there is nothing to drop";
                        self.report
                            .add_not_tried(Rule::Cancelled, name.as_str(), why);
                    }
                    let doing = format!("{name}, after others were dropped");
                    return self.settled(Rule::Cancelled, &doing).await;
                }
                Some(Err(why)) => {
                    let found = format!("fails: {}", self.told(&why));
                    let doing = format!("{name}, after others were dropped");
                    self.broken(Rule::Cancelled, &doing, &found);
                    return Ok(false);
                }
            }
            self.report.try_on(Rule::Cancelled, 1);
            let doing = format!("{name}, dropped after {polls} polls");
            if !self.settled(Rule::Cancelled, &doing).await? {
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
        self.report.add(Finding {
            rule: Rule::Cancelled,
            key: Some(self.key.to_string()),
            found: format!("{doing}, changed {}; undisturbed it changes {}", list(part), list(whole)),
            remedy: "call it through the layer, which ends what it began without its caller, or make it one transaction".into(),
        });
    }

    /// Two writes at once, in both orders of their ends.
    async fn interleaved(&mut self, first: &Write, second: &Write) -> Result<(), StoreError> {
        let name = format!("{} and {}", first.name, second.name);
        for (order, word) in [
            (Order::Overtaking, "overtaking"),
            (Order::InTurn, "in turn"),
        ] {
            let mut done = false;
            let mut why = "the first ended before it could be suspended";
            for polls in 1..=SUSPENDED {
                let (one, other) = (self.call(first), self.call(second));
                let doing = format!("{name}, {word}, suspended after {polls} polls");
                let overlapped = overlap(one, other, polls, order).await;
                if overlapped == Overlap::Stuck {
                    let found = "neither ended: they wait for each other";
                    self.broken(Rule::Interleaved, &doing, found);
                    return Ok(());
                }
                if !self.settled(Rule::Interleaved, &doing).await? {
                    return Ok(());
                }
                match overlapped {
                    Overlap::TooShort => break,
                    Overlap::Locked => {
                        why = "one waits for the other's lock, so they end in one order alone";
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
        answers.arm();
        let answer = timeout(ONE_WRITE, self.call(write)).await;
        let name = &write.name;
        if answers.disarm() == 0 {
            let why = "no answer went through Kit::lost_answers: put it around the legacy repository's calls";
            self.report
                .add_not_tried(Rule::LostAnswers, name.as_str(), why);
            return Ok(());
        }
        self.report.try_on(Rule::LostAnswers, 1);
        let doing = format!("{name}, its answer lost");
        if matches!(answer, Ok(Ok(()))) {
            self.broken(Rule::LostAnswers, &doing, "was told to its caller as done");
        }
        self.settled(Rule::LostAnswers, &doing).await.map(drop)
    }

    /// Waits until nothing is open or dirty, and compares the key. Answers whether all is well.
    async fn settled(&mut self, rule: Rule, doing: &str) -> Result<bool, StoreError> {
        let until = Instant::now() + SETTLE;
        let mut quiet = 0;
        // Twice: a write that goes on without its caller may not have begun at the first look.
        while quiet < 2 {
            sleep(LOOK).await;
            let (open, dirty) = match self.look().await {
                Ok(seen) => seen,
                // What is in the way may be the write itself, which goes on without its caller.
                Err(error) if error.is_transient() && Instant::now() < until => {
                    quiet = 0;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let rests = open.is_empty() && dirty <= self.held;
            quiet = if rests { quiet + 1 } else { 0 };
            if rests || Instant::now() < until {
                continue;
            }
            let found = match open.first() {
                Some(open) => format!("leaves a transaction open: {open}"),
                None => format!("leaves {dirty} keys dirty that no copy makes clean"),
            };
            self.broken(rule, doing, &found);
            return Ok(false);
        }
        let compared = self.contract.verify(std::slice::from_ref(self.key)).await?;
        if compared.clean() {
            return Ok(true);
        }
        let sample = compared.samples.first();
        let found = sample.map_or_else(String::new, |sample| {
            let fields: Vec<&str> = sample.fields.iter().map(|one| one.path.as_str()).collect();
            format!(
                "leaves the new side {}: {}",
                sample.class.as_str(),
                fields.join(", ")
            )
        });
        self.broken(rule, doing, &found);
        Ok(false)
    }

    /// Transactions that are open, and how many keys are dirty after a pass over them.
    async fn look(&self) -> Result<(Vec<String>, u64), StoreError> {
        let open = self.contract.open_transactions().await?;
        if open.is_empty() {
            return Ok((open, self.contract.drain().await?.dirty));
        }
        Ok((open, self.held))
    }

    fn broken(&mut self, rule: Rule, doing: &str, found: &str) {
        self.report.add(Finding {
            rule,
            key: Some(self.key.to_string()),
            found: format!("{doing}: {found}"),
            remedy: "call it through the layer, in one transaction per call, with the pool behind worker::guard; what it writes must be stamped (see the rule stamps)".into(),
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
