//! [`Observe`]: how an answer of the application's own type becomes a [`Value`].

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::Value;

/// Reads an answer as a [`Value`], so that two answers can be compared.
///
/// A shadow read calls it once per answer and look, on whichever task holds the answer; each side
/// may have an observer of its own, for answers of different types. It borrows the answer, must not
/// block, and must give equal values for answers that mean the same: leave out what is born anew at
/// each read (a timestamp of the read, say), or ignore it by a rule.
///
/// `None` says that **the row does not exist**. It never stands for "could not be read": a failed
/// call is [`Answer::Failed`](crate::Answer::Failed) and is not observed at all, or two failing
/// stores would agree on absence.
///
/// Two answers of `None`, or of an empty list, are no match ([`Verdict::Neither`](crate::Verdict::Neither)):
/// nothing was compared. What wraps an empty list, or is a zero (`{ items: [], total: 0 }`, the answer of a
/// `count()`), is an answer like any other: two of them match. An observer of such answers says `None` itself where
/// there is nothing to show; [`Json`] cannot know.
///
/// ```
/// use changeover_shadow::{Json, Observe, Value};
///
/// struct Listing { title: String }
/// let by_hand = |found: &Option<Listing>| {
///     found.as_ref().map(|listing| Value::record([("title", listing.title.trim())]))
/// };
/// let chair = Some(Listing { title: "chair ".to_owned() });
/// assert_eq!(by_hand.observe(&chair), Json.observe(&serde_json::json!({"title": "chair"})));
/// assert_eq!(by_hand.observe(&None), None);
/// ```
pub trait Observe<T: ?Sized>: Send + Sync {
    /// The answer as a value; `None` when the row does not exist.
    fn observe(&self, answer: &T) -> Option<Value>;
}

impl<T: ?Sized, F> Observe<T> for F
where
    F: Fn(&T) -> Option<Value> + Send + Sync,
{
    fn observe(&self, answer: &T) -> Option<Value> {
        self(answer)
    }
}

/// Observes whatever can be serialised, as JSON.
///
/// 1. What serialises to `null` at the top level (`None`, `()`) does not exist.
/// 2. What cannot be serialised (a map whose keys are not text, say) observes as a value that is
///    equal to no other, so it shows as a mismatch and never as a match.
/// 3. JSON has no `NaN` and no infinity; both read as null. Write a closure where they matter.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl<T: Serialize + ?Sized> Observe<T> for Json {
    fn observe(&self, answer: &T) -> Option<Value> {
        match serde_json::to_value(answer) {
            Ok(serde_json::Value::Null) => None,
            Ok(value) => Some(value.into()),
            // The error itself may quote the answer, so it is not kept.
            Err(_) => Some(unequalled()),
        }
    }
}

/// A value that no other observation gives.
fn unequalled() -> Value {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    Value::Text(format!(
        "an answer that could not be serialised, number {number} of this process"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{Rules, diff};

    #[test]
    fn null_is_absence_and_an_empty_answer_is_not() {
        assert_eq!(Json.observe(&None::<i64>), None);
        assert_eq!(Json.observe(&Vec::<i64>::new()), Some(Value::List(vec![])));
        assert_eq!(Json.observe("text"), Some("text".into()));
    }

    #[test]
    fn what_cannot_be_serialised_matches_nothing_not_even_itself() {
        let broken = BTreeMap::from([(vec![1], 1)]);
        let (first, second) = (Json.observe(&broken), Json.observe(&broken));
        let (first, second) = (first.expect("not absent"), second.expect("not absent"));
        assert_eq!(diff(&first, &second, &Rules::new()).len(), 1);
    }
}
