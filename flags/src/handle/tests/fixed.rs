//! What the environment fixes, against everything else that changes flags.

use super::*;

fn environment(variables: &[(&str, &str)]) -> Environment {
    let named = variables
        .iter()
        .map(|(name, value)| (format!("CHANGEOVER_LISTINGS_{name}"), value));
    Environment::read_from(&listings(), named).expect("valid")
}

fn refused(done: Result<(), Refused>) -> String {
    match done.expect_err("refused") {
        Refused::Fixed { variable } => variable,
        other => panic!("{other}"),
    }
}

#[test]
fn what_the_environment_sets_stands_above_the_file_and_above_calls() {
    let store = Faulty::new();
    let clone = ramped(&store);
    let set = [("READ_NEW", "25"), ("SAMPLE", "2"), ("KILL", "by hand")];
    let flags = clone.clone().fixed_by(environment(&set));
    let in_force = |flags: &Flags| {
        let now = flags.load();
        (now.read_new, now.sample, now.kill)
    };
    assert_eq!(in_force(&clone), (percent(25.0), percent(2.0), true));
    assert_eq!(flags.killed(), Some(Kill::new("by hand")));

    assert_eq!(
        refused(flags.set_read_new(percent(10.0))),
        "CHANGEOVER_LISTINGS_READ_NEW"
    );
    assert_eq!(
        refused(flags.set_sample(percent(10.0))),
        "CHANGEOVER_LISTINGS_SAMPLE"
    );
    assert_eq!(refused(flags.clear_kill()), "CHANGEOVER_LISTINGS_KILL");
    assert_eq!(refused(flags.clear_kill_now()), "CHANGEOVER_LISTINGS_KILL");
    store.edit(|saved| (saved.read_new, saved.sample) = (percent(30.0), percent(30.0)));
    flags.reload().expect("a good edit");
    assert_eq!(in_force(&flags), (percent(25.0), percent(2.0), true));
    assert_eq!(flags.troubles(), Vec::<String>::new());

    // Without the variables the next start has what was stored, and nothing of theirs.
    drop((flags, clone));
    assert_eq!(
        in_force(&open(&store)),
        (percent(30.0), percent(30.0), false)
    );
}

#[test]
fn the_environment_only_adds_a_kill() {
    let store = Faulty::new();
    let flags = ramped(&store).fixed_by(environment(&[("KILL", "false")]));
    assert!(!flags.load().kill);
    flags.kill("slow").expect("saved");
    assert!(flags.load().kill, "false clears nothing");
    flags.clear_kill().expect("not fixed");
    assert!(!flags.load().kill);
    let flags = flags.fixed_by(environment(&[("KILL", "true"), ("READ_NEW", "5")]));
    flags.kill("slow").expect("a kill is never refused");
    assert_eq!(flags.killed(), Some(Kill::new("slow")));
    assert_eq!(refused(flags.clear_kill()), "CHANGEOVER_LISTINGS_KILL");
    assert_eq!(
        flags.saved().kill,
        Some(Kill::new("slow")),
        "nothing changed"
    );
}

#[test]
fn a_percentage_of_the_environment_waits_for_evidence_and_falls_with_it() {
    let store = Faulty::new();
    let flags = open(&store).fixed_by(environment(&[("READ_NEW", "25")]));
    let row = epoch(2, Stage::DualWrite);
    let unproved = Epoch {
        verified: false,
        ..row
    };
    let trouble = |flags: &Flags| flags.troubles().join("; ");
    for known in [false, true] {
        if known {
            flags.learn(&unproved).expect("saved");
        }
        assert_eq!(flags.load().read_new, Percent::ZERO, "{known}");
        assert!(trouble(&flags).contains("CHANGEOVER_LISTINGS_READ_NEW: 25% of the reads"));
        assert!(trouble(&flags).contains("finish a backfill"));
    }
    flags.learn(&row).expect("saved");
    assert_eq!(flags.load().read_new, percent(25.0));
    assert_eq!(trouble(&flags), "");
    flags.learn(&unproved).expect("saved");
    assert_eq!(flags.load().read_new, Percent::ZERO);
    flags.learn(&row).expect("saved");
    assert_eq!(
        flags.load().read_new,
        Percent::ZERO,
        "it does not come back by itself"
    );
    assert!(
        trouble(&flags).contains("start again"),
        "{}",
        trouble(&flags)
    );
    let again = open(&store).fixed_by(environment(&[("READ_NEW", "25")]));
    assert_eq!(
        again.load().read_new,
        percent(25.0),
        "a start orders it anew"
    );
}

#[test]
fn a_variable_that_is_taken_for_another_entitys_is_logged() {
    let warned = |name: &str| {
        let (_, before) = watched::logged();
        environment(&[(name, "0")]);
        watched::logged().1 - before
    };
    assert_eq!(warned("READ_KILL"), 1);
    assert_eq!(warned("KILL") + warned("API_SERVICE_PORT"), 0);
}
