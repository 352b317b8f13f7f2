//! Which items of two lists are equal, when their order does not matter.

use std::cmp::Ordering;

use crate::{MAX_DEPTH, Value};

/// Items that have no equal on the other side, by number.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Left {
    pub(crate) in_legacy: Vec<usize>,
    pub(crate) in_new: Vec<usize>,
}

/// Pairs off what is the same. `same` has the last word on two items that look it.
pub(crate) fn without_same(
    legacy: &[Value],
    new: &[Value],
    same: impl Fn(&Value, &Value) -> bool,
) -> Left {
    let (mut legacy, mut new) = (sorted(legacy).peekable(), sorted(new).peekable());
    let mut left = Left::default();
    loop {
        let order = match (legacy.peek(), new.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((_, one)), Some((_, other))) => order(one, other, MAX_DEPTH),
        };
        let in_legacy = if order.is_le() { legacy.next() } else { None };
        let in_new = if order.is_ge() { new.next() } else { None };
        if let (Some((_, one)), Some((_, other))) = (in_legacy, in_new)
            && same(one, other)
        {
            continue;
        }
        left.in_legacy.extend(in_legacy.map(|(number, _)| number));
        left.in_new.extend(in_new.map(|(number, _)| number));
    }
    left.in_legacy.sort_unstable();
    left.in_new.sort_unstable();
    left
}

/// Pairs off as many as can be at once, of what `alike` says may be a pair: being alike is not
/// transitive, so the first that fits is not always the right one.
pub(crate) fn without_alike(left: Left, mut alike: impl FnMut(usize, usize) -> bool) -> Left {
    let Left { in_legacy, in_new } = left;
    let mut may: Vec<Vec<usize>> = Vec::with_capacity(in_legacy.len());
    for one in &in_legacy {
        let places = in_new.iter().enumerate();
        let fits = places.filter(|(_, other)| alike(*one, **other));
        may.push(fits.map(|(place, _)| place).collect());
    }
    let mut taken: Vec<Option<usize>> = vec![None; in_new.len()];
    let mut alone = Vec::new();
    for (place, number) in in_legacy.iter().enumerate() {
        if !placed(place, &may, &mut taken, &mut vec![false; in_new.len()]) {
            alone.push(*number);
        }
    }
    let free = in_new.iter().zip(&taken);
    let free = free.filter(|(_, taken)| taken.is_none());
    Left {
        in_legacy: alone,
        in_new: free.map(|(number, _)| *number).collect(),
    }
}

/// Finds a place for one item, if others that have one move on. Recurses once per item at most.
fn placed(
    item: usize,
    may: &[Vec<usize>],
    taken: &mut [Option<usize>],
    asked: &mut [bool],
) -> bool {
    for place in may.get(item).into_iter().flatten().copied() {
        match asked.get_mut(place) {
            Some(asked) if !*asked => *asked = true,
            _ => continue,
        }
        let holder = taken.get(place).copied().flatten();
        if holder.is_none_or(|holder| placed(holder, may, taken, asked)) {
            if let Some(taken) = taken.get_mut(place) {
                *taken = Some(item);
            }
            return true;
        }
    }
    false
}

fn sorted(items: &[Value]) -> impl Iterator<Item = (usize, &Value)> {
    let mut sorted: Vec<(usize, &Value)> = items.iter().enumerate().collect();
    sorted.sort_by(|(_, one), (_, other)| order(one, other, MAX_DEPTH));
    sorted.into_iter()
}

/// A total order in which what is the same is equal. Below `levels` all lists are equal, and all
/// records, so that deep values cost no stack.
fn order(one: &Value, other: &Value, levels: usize) -> Ordering {
    let below = levels.saturating_sub(1);
    match (one, other) {
        (Value::Boolean(one), Value::Boolean(other)) => one.cmp(other),
        (Value::Integer(one), Value::Integer(other)) => one.cmp(other),
        (Value::Float(one), Value::Float(other)) => one.to_bits().cmp(&other.to_bits()),
        (Value::Decimal(one), Value::Decimal(other)) | (Value::Text(one), Value::Text(other)) => {
            one.cmp(other)
        }
        (Value::Bytes(one), Value::Bytes(other)) => one.cmp(other),
        (Value::List(_), Value::List(_)) | (Value::Record(_), Value::Record(_)) if levels == 0 => {
            Ordering::Equal
        }
        (Value::List(one), Value::List(other)) => {
            let items = one.iter().zip(other);
            let items = items.map(|(one, other)| order(one, other, below));
            first(items).then(one.len().cmp(&other.len()))
        }
        (Value::Record(one), Value::Record(other)) => {
            let fields = one.iter().zip(other.iter());
            let fields = fields.map(|((name, one), (other_name, other))| {
                name.cmp(other_name).then_with(|| order(one, other, below))
            });
            first(fields).then(one.len().cmp(&other.len()))
        }
        (one, other) => one.kind().cmp(other.kind()),
    }
}

fn first(mut orders: impl Iterator<Item = Ordering>) -> Ordering {
    orders
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}
