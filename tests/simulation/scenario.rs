//! One schedule from its seed: what runs, what goes wrong, and whether everything comes to rest.
//!
//! First *safety*: instances, workers, out-of-band writers, crashes, a raised mapping revision,
//! with faults. Then *liveness*: faults end, and within a budget of calls everything must be
//! copied, clean, equal, and verified to be so.

use std::sync::Arc;
use std::time::Duration;

use changeover::flags::Place;
use changeover::worker::backfill::{Backfill, BackfillControl, BackfillOptions};
use changeover::worker::drain::{Drain, DrainOptions};
use changeover::worker::pace::{Duty, Pacing};
use changeover::worker::verify::{Class, Verify, VerifyOptions, VerifyReport};
use rand::RngExt;
use tokio::task::JoinSet;

use super::app::{self, Call, Instance, Repository, Settings, copier};
use super::bugs::Bug;
use super::config::{Config, configure};
use super::network::{Faults, Net, Sim};
use super::ports::Ports;
use super::world::{Flavour, Process, Reach};

/// Calls to the databases in which everything must come to rest once faults have ended.
const BUDGET: u64 = 10_000;

/// What became of a schedule.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub trace: u64,
    pub violation: Option<String>,
    pub reach: Reach,
    pub calls: u64,
}

/// Runs the schedule of `seed`.
pub fn run(seed: u64, bug: Option<Bug>, verbose: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of this thread");
    runtime.block_on(async {
        let sim = Sim::new(seed, bug, verbose);
        let config = configure(&sim, bug);
        if verbose {
            eprintln!("{config:#?}");
        }
        tokio::select! {
            biased;
            () = sim.deliver() => {}
            () = live(&sim, &config, bug) => {}
        }
        let mut state = sim.state();
        state.world.reach.calls = state.calls();
        let violation = state.world.violation.clone();
        Outcome {
            trace: state.trace,
            violation,
            reach: state.world.reach,
            calls: state.calls(),
        }
    })
}

async fn live(sim: &Arc<Sim>, config: &Config, bug: Option<Bug>) {
    let mut workers = JoinSet::new();
    workers.spawn(work(Arc::clone(sim), config.clone(), 1));
    if let Some(raise) = config.raise {
        workers.spawn(raise_revision(Arc::clone(sim), config.clone(), raise));
    }
    if config.verify {
        workers.spawn(verify_meanwhile(Arc::clone(sim), config.page));
    }
    let mut apps = JoinSet::new();
    for _ in 0..config.instances {
        apps.spawn(serve(Arc::clone(sim), config.clone()));
    }
    apps.spawn(write_out_of_band(Arc::clone(sim), config.clone()));
    let ended = async {
        while let Some(ended) = apps.join_next().await {
            if let Err(error) = ended {
                sim.state()
                    .world
                    .violate(format!("a process panicked: {error}"));
            }
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), ended)
        .await
        .is_err()
    {
        sim.state()
            .world
            .violate("the application does not end".into());
    }
    tokio::time::sleep(Duration::from_millis(sim.draw(150))).await;
    workers.abort_all();
    while let Some(ended) = workers.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            sim.state()
                .world
                .violate(format!("a worker panicked: {error}"));
        }
    }
    settle(sim, config, bug).await;
}

/// An instance of the application, crashed and started again if the seed says so.
async fn serve(sim: Arc<Sim>, config: Config) {
    let net = sim.net(Process::App);
    let serving = write(
        Instance::start(net.clone(), config.settings),
        config.clone(),
    );
    match config.crash_app {
        None => serving.await,
        Some(at) => {
            if tokio::time::timeout(Duration::from_millis(at), serving)
                .await
                .is_err()
            {
                net.crash();
                sim.state().world.reach.crashed += 1;
                let settings = Settings {
                    revision: sim.state().world.follower_revision,
                    ..config.settings
                };
                write(Instance::start(sim.net(Process::App), settings), config).await;
            }
        }
    }
}

/// The callers of one instance.
async fn write(instance: Instance, config: Config) {
    let mut callers = JoinSet::new();
    for _ in 0..config.writers {
        callers.spawn(call_in_turn(instance.clone(), config.clone()));
    }
    while let Some(ended) = callers.join_next().await {
        if let Err(error) = ended {
            instance
                .net
                .sim
                .state()
                .world
                .violate(format!("a caller panicked: {error}"));
        }
    }
}

async fn call_in_turn(instance: Instance, config: Config) {
    let sim = Arc::clone(&instance.net.sim);
    let mut cancelled = Vec::new();
    for _ in 0..config.ops {
        tokio::time::sleep(Duration::from_millis(sim.draw(30))).await;
        let call = draw_call(&sim, &config);
        let given_up = sim.draw(100) < config.cancels;
        let patience = given_up.then(|| Duration::from_millis(sim.draw(12)));
        if let (Call::Append { id, .. }, Some(_)) = (&call, patience) {
            cancelled.push(*id);
        }
        instance.call(call.clone(), patience).await;
        let key = match call {
            Call::Append { key, .. } | Call::Delete { key } | Call::Get { key } => key,
            Call::Swap { one, .. } => one,
        };
        instance.call(Call::Get { key }, None).await;
    }
    let mut state = sim.state();
    let completed = cancelled
        .iter()
        .filter(|id| state.world.took_effect(**id))
        .count();
    state.world.reach.cancelled_write_completed += completed as u64;
}

fn draw_call(sim: &Sim, config: &Config) -> Call {
    let mut state = sim.state();
    let random = &mut state.random;
    let key = config.keys[random.random_range(0..config.keys.len())].clone();
    let roll = random.random_range(0..100);
    if roll < config.deletes {
        return Call::Delete { key };
    }
    if roll < config.deletes + config.swaps {
        let other = config.keys[random.random_range(0..config.keys.len())].clone();
        return Call::Swap { one: key, other };
    }
    if roll >= 85 {
        return Call::Get { key };
    }
    let flavour = match random.random_range(0..100) {
        roll if roll < config.poison => Flavour::Refused,
        roll if roll < 2 * config.poison => Flavour::Unmappable,
        _ => Flavour::Plain,
    };
    Call::Append {
        key,
        id: random.random(),
        flavour,
    }
}

/// Somebody at a prompt: no layer, no pins, straight to the authority.
async fn write_out_of_band(sim: Arc<Sim>, config: Config) {
    let repository = Repository {
        net: sim.net(Process::App),
        place: Place::Legacy,
    };
    for _ in 0..config.out_of_band {
        tokio::time::sleep(Duration::from_millis(sim.draw(60))).await;
        let call = draw_call(&sim, &config);
        let _ = repository.send(&call).await;
    }
}

/// A worker's process: drain and backfill, crashed and started again if the seed says so.
async fn work(sim: Arc<Sim>, config: Config, revision: i64) {
    loop {
        let net = sim.net(Process::Drain);
        let mut tasks = JoinSet::new();
        tasks.spawn(drain_for_ever(net.clone(), config.clone(), revision));
        tasks.spawn(backfill_for_ever(
            net.with(Process::Backfill),
            config.clone(),
            revision,
        ));
        if !config.crash_worker {
            while tasks.join_next().await.is_some() {}
        }
        tokio::time::sleep(Duration::from_millis(20 + sim.draw(150))).await;
        net.crash();
        sim.state().world.reach.crashed += 1;
    }
}

fn drain_options(config: &Config, seed: u64) -> DrainOptions {
    DrainOptions {
        batch: config.page,
        concurrency: config.page,
        idle_pause: Duration::from_millis(config.worker_pause),
        waiting_pause: Duration::from_millis(40),
        blocked_pause: Duration::from_millis(80),
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(60),
        seed,
        pacing: Pacing::UNLIMITED,
    }
}

fn backfill_options(
    config: &Config,
    load: bool,
    (parts, workers): (u32, u32),
    seed: u64,
) -> BackfillOptions {
    BackfillOptions {
        load,
        parts,
        workers,
        page: config.page,
        load_page: Some(config.page),
        pacing: Pacing {
            duty: Duty::percent(75),
            ..Pacing::default()
        },
        attempts: None,
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(60),
        seed,
    }
}

async fn drain_for_ever(net: Net, config: Config, revision: i64) {
    let seed = net.sim.draw(u64::MAX);
    let bug = config.settings.bug;
    let copier = copier(&Ports { net, revision }, bug);
    Drain::new(copier, drain_options(&config, seed))
        .run(std::future::pending())
        .await;
}

async fn backfill_for_ever(net: Net, config: Config, revision: i64) {
    let sim = Arc::clone(&net.sim);
    tokio::time::sleep(Duration::from_millis(sim.draw(40))).await;
    let seed = sim.draw(u64::MAX);
    let copier = copier(&Ports { net, revision }, config.settings.bug);
    // One worker in four gives up what another has begun.
    let load = config.load && sim.draw(4) > 0;
    let parts = (1 + sim.draw(3) as u32, 1 + sim.draw(2) as u32);
    let backfill = Backfill::new(copier, backfill_options(&config, load, parts, seed));
    let sweep = async {
        while backfill.run(|_| ()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::join!(sweep, change_range(&sim, &config, backfill.control()));
}

/// Some workers have a range whose end changes a few times, at once or after a look or two, before it has none.
async fn change_range(sim: &Sim, config: &Config, control: BackfillControl) {
    for _ in 0..sim.draw(2) * sim.draw(4) {
        let key = sim.draw(config.keys.len() as u64) as usize;
        control.set_upto(config.keys.get(key).cloned());
        let most = [60, 60, 2_500][sim.draw(3) as usize];
        tokio::time::sleep(Duration::from_millis(sim.draw(most))).await;
    }
    control.set_upto(None);
}

/// Raises the mapping revision: the follower first, so that copiers of the old one are out before
/// the authority's versions rise. Instances and workers of both revisions run meanwhile.
async fn raise_revision(sim: Arc<Sim>, config: Config, (first, second): (u64, u64)) {
    let wrong_way_round = config.settings.bug == Some(Bug::RaisedAuthorityFirst);
    tokio::time::sleep(Duration::from_millis(first)).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(work(Arc::clone(&sim), config.clone(), 2));
    let raise_follower = |sim: &Sim| sim.state().world.raise_follower();
    let raise_authority = |sim: &Sim| sim.state().world.raise_authority();
    if wrong_way_round {
        raise_authority(&sim)
    } else {
        raise_follower(&sim)
    }
    tokio::time::sleep(Duration::from_millis(second)).await;
    if wrong_way_round {
        raise_follower(&sim)
    } else {
        raise_authority(&sim)
    }
    while tasks.join_next().await.is_some() {}
}

/// A verify while everything else runs: what it reports must be true.
async fn verify_meanwhile(sim: Arc<Sim>, page: u32) {
    loop {
        tokio::time::sleep(Duration::from_millis(sim.draw(80))).await;
        let ports = Ports {
            net: sim.net(Process::Verify),
            revision: 1,
        };
        let verify = Verify::new(
            copier(&ports, None),
            VerifyOptions {
                page,
                ..VerifyOptions::default()
            },
        );
        let Ok(report) = verify.run().await else {
            continue;
        };
        let mut state = sim.state();
        for class in [
            Class::Divergent,
            Class::Missing,
            Class::Extra,
            Class::FollowerAhead,
            Class::Unrecorded,
        ] {
            if report.count(class) > 0 && state.world.bug.is_none() {
                state
                    .world
                    .violate(format!("the verify reports what is not so: {report:?}"));
            }
        }
    }
}

/// Liveness: without faults everything comes to rest, and the verify says so.
async fn settle(sim: &Arc<Sim>, config: &Config, bug: Option<Bug>) {
    let begun = {
        let mut state = sim.state();
        state.faults = Faults::default();
        if state.world.follower_revision > 1 {
            state.world.raise_authority();
        }
        state.calls()
    };
    let revision = sim.state().world.follower_revision;
    let ports = Ports {
        net: sim.net(Process::Drain),
        revision,
    };
    let copier = app::copier(&ports, bug);
    let looking = app::copier(
        &Ports {
            net: sim.net(Process::Verify),
            revision,
        },
        None,
    );
    let drain = Drain::new(copier.clone(), drain_options(config, 1));
    let backfill = Backfill::new(
        copier.clone(),
        backfill_options(config, config.load, (1, 1), 1),
    );
    let rest = async {
        backfill.run(|_| ()).await?;
        // Some calls of the safety phase are still on their way, and arrive.
        while !sim.state().is_quiet() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        sim.state().world.mend();
        drain.until_clean(None).await?;
        let options = VerifyOptions {
            page: config.page,
            ..VerifyOptions::default()
        };
        Verify::new(looking, options).run().await
    };
    let rest = tokio::time::timeout(Duration::from_secs(120), rest).await;
    let mut state = sim.state();
    let spent = state.calls() - begun;
    if spent > BUDGET {
        state
            .world
            .violate(format!("coming to rest took {spent} calls"));
    }
    match rest {
        Err(_) => state
            .world
            .violate("everything does not come to rest".into()),
        Ok(Err(error)) => state
            .world
            .violate(format!("coming to rest failed: {error}")),
        Ok(Ok(report)) => {
            state.world.check_rest();
            let equal = |report: &VerifyReport| report.count(Class::Equal) == report.compared;
            if !report.clean() || !equal(&report) {
                state
                    .world
                    .violate(format!("at rest the verify is not clean: {report:?}"));
            }
        }
    }
}
