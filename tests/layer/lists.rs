use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use changeover::shadow::Class;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::support;

everywhere!(
    a_list_read_while_writes_go_on_is_never_confirmed_to_differ,
    a_forged_element_is_confirmed_with_its_key_and_field,
);

on_pairs!(a_forged_element_is_confirmed_with_its_key_and_field);

/// An instance that compares every list, and everything whose reads come from new.
async fn comparing(market: &Market) -> Instance {
    let instance = Instance::of(market, true).await;
    instance.read_new(Percent::HUNDRED);
    let flags = instance.wiring.flags();
    flags.set_sample(Percent::HUNDRED).unwrap();
    instance
}

/// Writes through the layer and past it, until told to stop; counts them.
async fn write(
    instance: &Instance,
    market: &Market,
    seed: u64,
    stop: &AtomicBool,
    count: &AtomicU32,
) {
    let mut dice = SmallRng::seed_from_u64(seed);
    while !stop.load(Ordering::SeqCst) {
        let id = dice.random_range(1..=16);
        let writes = count.fetch_add(1, Ordering::SeqCst);
        let past = match dice.random_range(0..9) {
            0 => {
                instance.call(Call::CloseAll).await.unwrap();
                None
            }
            1 | 2 => {
                instance.call(Call::Delete(id)).await.unwrap();
                None
            }
            3 | 4 => Some(format!(
                "INSERT INTO listings (id, tenant_id, title, status) VALUES ({id}, 1, 'back', 'ACTIVE') ON CONFLICT DO NOTHING"
            )),
            5 => Some(format!(
                "UPDATE listings SET title = 'past {writes}', tenant_id = 3 - tenant_id WHERE id = {id}"
            )),
            _ => {
                let title = format!("w{writes}");
                instance.call(Call::Retitle(id, title)).await.unwrap();
                None
            }
        };
        if let Some(sql) = past {
            // A busy file is somebody else's turn.
            let _ = market.legacy.try_run(&sql).await;
        }
    }
}

async fn list(instance: &Instance, after: Option<u32>) {
    for tenant in [1, 2] {
        let call = Call::OfTenant(tenant, after);
        let answer = instance.call(call).await.unwrap();
        assert!(matches!(answer, Reply::Lines(_)), "{answer:?}");
    }
}

mod scenario {
    use super::*;

    pub(super) async fn a_list_read_while_writes_go_on_is_never_confirmed_to_differ(
        topology: Topology,
    ) {
        let seed = support::seed();
        let (market, migration) = ready(topology).await;
        let instance = comparing(&market).await;
        let (stop, writes) = (AtomicBool::new(false), AtomicU32::new(0));
        let moved = || {
            let totals = instance.handle.compared();
            totals.of(Class::Lagging) + totals.of(Class::Healed)
        };
        let raced = || moved() > 5 && writes.load(Ordering::SeqCst) > 20;
        let least = if support::fast() { 100 } else { 250 };
        let reads = async {
            for n in 0..least * 20 {
                if n >= least && raced() {
                    break;
                }
                list(&instance, (n % 2 == 0).then_some(2)).await;
                if n % 7 == 0 {
                    drain(&migration).await;
                }
            }
            stop.store(true, Ordering::SeqCst);
        };
        tokio::join!(write(&instance, &market, seed, &stop, &writes), reads);
        settle(&market, &migration, &[&instance]).await;
        let totals = instance.handle.compared();
        let say = format!("{topology:?}, seed {seed}, {writes:?} writes: {totals:?}");
        assert_eq!(totals.started, totals.total, "{say}");
        assert_eq!(totals.confirmed(), 0, "{say}");
        assert!(raced(), "the race was not run: {say}");
    }

    pub(super) async fn a_forged_element_is_confirmed_with_its_key_and_field(topology: Topology) {
        let (market, migration) = ready(topology).await;
        let of = |id| format!("(SELECT id FROM service_listings WHERE legacy_id = {id})");
        let forged = "UPDATE service_listings SET title = 'forged' WHERE legacy_id = 3".to_owned();
        let lost = format!(
            "DELETE FROM variants WHERE listing_id = {}; DELETE FROM pictures WHERE listing_id = {}; \
             DELETE FROM service_listings WHERE legacy_id = 5",
            of(5),
            of(5)
        );
        let added = "INSERT INTO service_listings (legacy_id, provider_id, status) VALUES (777, 101, 'active')".to_owned();
        for (sql, busy, class, found) in [
            // Whatever happens to other keys.
            (&forged, true, Class::Mismatch, "3 title"),
            (&lost, false, Class::MissingInNew, "5 "),
            (&added, false, Class::ExtraInNew, "777 "),
        ] {
            let instance = comparing(&market).await;
            market.new.force(sql).await;
            let stop = AtomicBool::new(!busy);
            let others = async {
                let mut n = 0;
                while !stop.load(Ordering::SeqCst) {
                    let title = format!("busy {n}");
                    instance.call(Call::Retitle(1, title)).await.unwrap();
                    n += 1;
                }
            };
            let reads = async {
                for _ in 0..50 {
                    list(&instance, None).await;
                    if instance.handle.compared().of(class) > 0 {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                stop.store(true, Ordering::SeqCst);
            };
            tokio::join!(others, reads);
            let drained = instance.handle.close_and_wait(Duration::from_secs(30));
            assert!(drained.await.is_complete());
            let totals = instance.handle.compared();
            assert!(totals.of(class) > 0, "{topology:?}: {totals:?}");
            let samples = instance.handle.samples().fields.into_iter();
            let keys = samples.flat_map(|field| field.kept);
            let keys = keys.map(|one| format!("{} {}", one.key.unwrap_or_default(), one.path));
            let expected = BTreeSet::from([found.to_owned()]);
            assert_eq!(keys.collect::<BTreeSet<_>>(), expected, "{topology:?}");
            // Mended by what the protocol has for it.
            let key = found.split(' ').next().unwrap();
            let keys = [changeover::flags::Key::from(key)];
            migration.repair(false).run(&keys).await.unwrap();
            // What found no room to be copied is dirty, and a missing element waits for it.
            drain(&migration).await;
        }
        settle(&market, &migration, &[]).await;
    }
}
