use super::*;

fn pins(capacity: usize) -> Arc<Pins> {
    Arc::new(Pins::new(capacity))
}

fn key(id: i64) -> Touched {
    Touched::keys([id])
}

#[test]
fn a_copy_that_began_before_a_later_write_ended_releases_nothing() {
    let pins = pins(8);
    let mut first = pins.begin(&key(1));
    first.end();
    let early = pins.now();
    let mut second = pins.begin(&key(1));
    second.end();
    let late = pins.now();
    first.copied(early);
    assert!(pins.holds(&key(1), None), "the second write is not copied");
    second.copied(late);
    assert!(!pins.holds(&key(1), None));
    assert_eq!(pins.count(), PinCount::default());
}

#[test]
fn a_copy_during_a_write_releases_nothing() {
    let pins = pins(8);
    let mut first = pins.begin(&key(1));
    first.end();
    let second = pins.begin(&key(1));
    let began = pins.now();
    first.copied(began);
    assert!(pins.holds(&key(1), None));
    pins.release(&[Key::from(1)], pins.now());
    assert!(pins.holds(&key(1), None), "the second write has not ended");
    drop(second);
    assert!(pins.holds(&key(1), None), "a vanished write stays pinned");
    assert_eq!(pins.waiting(None, 9), [Key::from(1)]);
    pins.release(&[Key::from(1)], pins.now());
    assert!(!pins.holds(&key(1), None));
}

#[test]
fn what_does_not_fit_pins_the_entity_until_its_own_copy() {
    let pins = pins(1);
    let mut held = pins.begin(&key(1));
    let mut over = pins.begin(&key(2));
    assert!(pins.holds(&key(3), None), "the entity is pinned");
    let early = pins.now();
    over.end();
    over.copied(early);
    assert!(pins.holds(&key(3), None), "that copy began before the end");

    let mut again = pins.begin(&key(2));
    again.end();
    held.end();
    pins.release_coarse(pins.now());
    assert!(!pins.holds(&key(3), None));
    assert!(pins.holds(&key(1), None), "its own pin stays");
    // Its write was accounted for by the release above: it must not release another's.
    let mut third = pins.begin(&key(4));
    third.end();
    again.copied(pins.now());
    assert!(pins.holds(&key(3), None));
    third.copied(pins.now());
    assert!(!pins.holds(&key(3), None));
    held.copied(pins.now());
    assert_eq!(pins.count().total(), 0);
}

#[test]
fn a_scope_holds_its_own_reads_and_those_without_a_scope() {
    let pins = pins(8);
    let mut bulk = pins.begin(&Touched::Scope("a".into()));
    assert!(pins.holds(&key(1), Some("a")) && pins.holds(&key(1), None));
    assert!(!pins.holds(&key(1), Some("b")));
    bulk.end();
    pins.release_coarse(Moment(0));
    assert!(pins.holds(&Touched::None, Some("a")));
    pins.release_coarse(pins.now());
    assert!(!pins.holds(&Touched::None, None));
    assert_eq!(pins.count().total(), 0);
}

#[test]
fn a_list_is_held_by_any_key() {
    let pins = pins(8);
    let ticket = pins.begin(&key(1));
    assert!(pins.holds(&Touched::None, Some("a")));
    ticket.let_go();
    assert!(!pins.holds(&Touched::None, Some("a")));
}

#[test]
fn waiting_keys_are_listed_once_in_pages() {
    let pins = pins(100);
    drop(pins.begin(&Touched::keys(0..50)));
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = pins.waiting(after.as_ref(), 7);
        after = page.last().cloned();
        seen.extend(page);
        if after.is_none() {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 50);
    assert_eq!(pins.count().keys, 50);
}

#[test]
fn a_replay_releases_a_key_only_with_every_other_write_of_it() {
    let pins = pins(8);
    let mut first = pins.begin(&key(1));
    first.end();
    drop(first);
    for _ in 0..3 {
        pins.begin(&key(1)).replayed();
    }
    assert!(pins.holds(&key(1), None), "the first was never replayed");

    pins.begin(&key(2)).replayed();
    assert!(!pins.holds(&key(2), None));
    let (one, other) = (pins.begin(&key(2)), pins.begin(&key(2)));
    one.replayed();
    other.replayed();
    assert!(pins.holds(&key(2), None), "nobody knows which came first");

    // The word of the databases releases it, and what was owed until then is forgotten.
    let late = {
        let mut late = pins.begin(&key(3));
        late.end();
        late
    };
    pins.release(&[Key::from(3)], pins.now());
    let mut new = pins.begin(&key(3));
    new.end();
    late.replayed();
    assert!(pins.holds(&key(3), None), "that was another pin's write");
    new.replayed();
    assert!(!pins.holds(&key(3), None));
}
