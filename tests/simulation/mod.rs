//! Deterministic simulation of the product's own code: layer, copy, drain, backfill, verify.
//!
//! The databases are in memory ([`world`]), behind a network that loses, delays and repeats
//! ([`network`]); everything else is the product. One seed decides everything, so a seed repeats
//! its schedule call by call: `CHANGEOVER_SEED=n cargo test --test integration simulation`
//! replays one and prints it. `CHANGEOVER_FAST=1` runs a tenth of the schedules.

mod alone;
mod app;
mod bugs;
mod config;
mod network;
mod ports;
mod scenario;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bugs::Bug;
use scenario::{Outcome, run};
use world::Reach;

fn schedules() -> u64 {
    if std::env::var_os("CHANGEOVER_FAST").is_some() {
        2_000
    } else {
        SOUGHT
    }
}

fn replayed() -> Option<u64> {
    std::env::var("CHANGEOVER_SEED").ok()?.parse().ok()
}

/// A schedule that broke a rule.
struct Broken {
    seed: u64,
    outcome: Outcome,
}

impl Broken {
    fn rule(&self) -> &str {
        self.outcome.violation.as_deref().unwrap_or_default()
    }
}

/// Runs `seeds` on as many threads as there are, until one breaks a rule. Answers what all of
/// them reached, or the lowest broken seed that was come across.
fn run_all(seeds: u64, bug: Option<Bug>) -> Result<Reach, Box<Broken>> {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(4);
    let search = || {
        let mut reach = Reach::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return Ok(reach);
            }
            let outcome = run(seed, bug, false);
            reach.add(&outcome.reach);
            if outcome.violation.is_some() {
                next.store(seeds, Ordering::Relaxed);
                return Err(Box::new(Broken { seed, outcome }));
            }
        }
    };
    let ends: Vec<Result<Reach, Box<Broken>>> = std::thread::scope(|scope| {
        let searches: Vec<_> = (0..threads).map(|_| scope.spawn(search)).collect();
        searches
            .into_iter()
            .map(|search| search.join().expect("a search ends"))
            .collect()
    });
    let mut all = Reach::default();
    let mut broken: Option<Box<Broken>> = None;
    for end in ends {
        match end {
            Ok(reach) => all.add(&reach),
            Err(found) if broken.as_ref().is_none_or(|known| found.seed < known.seed) => {
                broken = Some(found);
            }
            Err(_) => {}
        }
    }
    broken.map_or(Ok(all), Err)
}

#[test]
fn no_schedule_breaks_a_rule_and_every_rare_state_is_reached() {
    if let Some(seed) = replayed() {
        let outcome = run(seed, None, true);
        assert_eq!(outcome.violation, None, "CHANGEOVER_SEED={seed}");
        return;
    }
    let begun = Instant::now();
    let reach = match run_all(schedules(), None) {
        Ok(reach) => reach,
        Err(broken) => panic!(
            "CHANGEOVER_SEED={} breaks a rule after {} calls: {}",
            broken.seed,
            broken.outcome.calls,
            broken.rule()
        ),
    };
    let per_second = schedules() as f64 / begun.elapsed().as_secs_f64();
    println!("{} schedules, {per_second:.0} per second", schedules());
    println!("{} calls to the databases", reach.calls);
    for (state, times) in reach.all() {
        println!("reach: {state}: {times}");
        assert!(times > 0, "no schedule reached: {state}");
    }
}

#[test]
fn a_seed_repeats_its_schedule() {
    for seed in 0..200 {
        let (once, again) = (run(seed, None, false), run(seed, None, false));
        assert_eq!(
            (once.trace, once.calls),
            (again.trace, again.calls),
            "seed {seed}"
        );
    }
}

/// Workers whose parts end at the same moment: the last page of either is this process's own, and none
/// waits for somebody else to go on with it.
#[test]
fn workers_of_one_process_do_not_take_each_other_for_somebody_else() {
    for seed in 0..300 {
        let done = alone::load(seed, 9, 2);
        assert_eq!(done, (9, 9), "seed {seed}");
    }
}

/// What tells the fence `>` from the fence `>=`.
#[test]
fn a_stale_image_of_a_held_version_is_harmless_behind_the_fence() {
    if let Err(broken) = run_all(1_000, Some(Bug::StaleImageOfAHeldVersion)) {
        panic!("seed {}: {}", broken.seed, broken.rule());
    }
}

/// As many schedules as a bug is looked for in. The search ends with the first that shows it.
const SOUGHT: u64 = 20_000;

fn must_be_found(bug: Bug) {
    match run_all(SOUGHT, Some(bug)) {
        Ok(_) => panic!("{bug:?} was not found in {SOUGHT} schedules"),
        Err(broken) => println!("{bug:?}: seed {}: {}", broken.seed, broken.rule()),
    }
}

macro_rules! found {
    ($($test:ident: $bug:ident,)*) => {$(
        #[test]
        fn $test() {
            must_be_found(Bug::$bug);
        }
    )*};
}

found! {
    finds_a_fence_that_was_removed: FenceRemoved,
    finds_a_fence_that_takes_a_stale_image_of_an_equal_version: FenceTakesEqual,
    finds_a_mark_without_a_version: MarkWithoutVersion,
    finds_a_mark_before_the_commit: MarkBeforeCommit,
    finds_a_fence_deleted_with_its_row: FenceRowDeletedWithItsRow,
    finds_an_image_read_inside_the_write: ImageReadInsideTheWrite,
    finds_a_stamp_outside_the_transaction: StampOutsideTheTransaction,
    finds_a_timeout_taken_for_done: TimeoutTakenForDone,
    finds_an_unknown_write_that_is_retried: UnknownWriteRetried,
    finds_a_key_unpinned_before_it_is_copied: UnpinnedBeforeCopied,
    finds_a_copy_of_an_older_revision: OldRevisionAccepted,
    finds_a_revision_raised_on_the_authority_first: RaisedAuthorityFirst,
    finds_stamps_below_the_base_that_are_forgotten: StampsBelowTheBaseForgotten,
    finds_copies_that_pass_a_load: CopiesPassTheLoad,
    finds_a_late_page_that_is_loaded: LatePageLoaded,
    finds_a_page_of_more_than_its_part: PartWithoutItsEnd,
    finds_a_load_that_is_over_with_one_part: OverWithOnePart,
    finds_a_sweep_that_is_over_with_one_part: SweptWithOnePart,
    finds_a_load_over_copies: LoadedOverCopies,
    finds_a_second_load: LoadedAgain,
    finds_a_sweep_that_goes_on_where_a_load_stood: GivenUpWhereItStood,
}
