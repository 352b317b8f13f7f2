//! One suite for every pair of engines: chance writes and chance work of the worker, beside a map that
//! says what each key was at every moment.
//!
//! After every step the new side is read as a whole, and for each key:
//!
//! 1. it holds something that the map has said of this key, and nothing else: never a mixture;
//! 2. it never goes back to something earlier than what it held before;
//! 3. if the key is not dirty, it holds what the map says now.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use changeover::flags::Key;
use changeover::worker::backfill::BackfillOptions;
use changeover::worker::copy::CopySource;
use changeover::worker::migration::Migration;
use changeover::worker::pace::Pacing;
use changeover::worker::verify::Class;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::lifecycle::everywhere_and_on_pairs;
use super::market::{Market, Topology, backfill, drain, verify};
use crate::support;

everywhere_and_on_pairs!(the_new_side_is_what_the_map_says);

/// How many chance lives each pair of engines has, unless `CHANGEOVER_SEEDS` says so.
const RUNS: u64 = 3;
const STEPS: usize = 60;

/// What a key is: the lines that both sides' SQL answers for it, in order. Nothing where it has no row.
type State = Vec<String>;

const TITLES: &[Option<&str>] = &[
    None,
    Some(""),
    Some(" a "),
    Some("a'b"),
    Some("Größe ✓ 🎵"),
    Some("x\\y"),
    Some("\"q\" %_"),
    Some("NULL"),
    Some("007"),
];
const HOUSES: &[Option<&str>] = &[None, Some("one"), Some(" two "), Some("zwölf"), Some("")];
/// The last one is refused by the new side.
const STATUSES: &[&str] = &["ACTIVE ", "active", "Sold", "Forbidden"];
/// The last one has no provider on the new side.
const TENANTS: &[i64] = &[1, 1, 2, 2, 2, 3];

#[derive(Debug, Clone)]
struct Listing {
    tenant: i64,
    title: Option<&'static str>,
    status: &'static str,
    house: Option<&'static str>,
    cents: Option<i64>,
    stock: i64,
    sku: Option<String>,
}

/// The legacy side as a map, and what each key has been.
struct Map {
    listings: BTreeMap<i64, Listing>,
    /// By their id: their listing, their address.
    photos: BTreeMap<i64, (i64, String)>,
    tenants: BTreeMap<i64, String>,
    history: BTreeMap<i64, Vec<State>>,
    /// Where in its history the new side was seen to be.
    seen: BTreeMap<i64, usize>,
    random: SmallRng,
    next: i64,
}

fn literal(text: Option<&str>) -> String {
    text.map_or("NULL".into(), |text| {
        format!("'{}'", text.replace('\'', "''"))
    })
}

fn dollars(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

impl Map {
    fn new(seed: u64) -> Map {
        Map {
            listings: BTreeMap::new(),
            photos: BTreeMap::new(),
            tenants: [(1, "Ada".into()), (2, "Bo".into())].into(),
            history: BTreeMap::new(),
            seen: BTreeMap::new(),
            random: SmallRng::seed_from_u64(seed),
            next: 0,
        }
    }

    fn state(&self, id: i64) -> State {
        let Some(one) = self.listings.get(&id) else {
            return State::new();
        };
        let or = |text: Option<&str>| text.unwrap_or("-").to_owned();
        let mut lines = vec![format!(
            "l {id}|{}|{}|{}|{}|{}|{}|{}|{}",
            one.tenant,
            or(self.tenants.get(&one.tenant).map(String::as_str)),
            or(one.title),
            one.status.trim_matches(' ').to_lowercase(),
            or(one.house.map(|house| house.trim_matches(' '))),
            or(one.sku.as_deref()),
            one.cents.map_or("-".into(), dollars),
            one.stock
        )];
        let photos = self.photos.values().filter(|photo| photo.0 == id);
        lines.extend(photos.map(|photo| format!("p {id}|{}", photo.1)));
        lines.sort_unstable();
        lines
    }

    /// Keeps what each key is now.
    fn remember(&mut self) {
        let known = self.history.keys().chain(self.listings.keys());
        let ids: BTreeSet<i64> = known.copied().collect();
        for id in ids {
            let now = self.state(id);
            let past = self.history.entry(id).or_insert_with(|| vec![vec![]]);
            if past.last() != Some(&now) {
                past.push(now);
            }
        }
    }

    fn any(&mut self) -> i64 {
        let ids: Vec<i64> = self.listings.keys().copied().collect();
        ids.choose(&mut self.random).copied().unwrap_or(1)
    }

    fn fresh(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    fn chance_listing(&mut self) -> Listing {
        let random = &mut self.random;
        let sku = random.random_bool(0.6).then(|| {
            let taken = |sku: &String| self.listings.values().any(|l| l.sku.as_ref() == Some(sku));
            let sku = format!("k{}", random.random_range(0..20));
            (!taken(&sku)).then_some(sku)
        });
        Listing {
            tenant: *TENANTS.choose(random).unwrap(),
            title: *TITLES.choose(random).unwrap(),
            // Few are refused.
            status: STATUSES[random.random_range(0..30usize).saturating_sub(26)],
            house: *HOUSES.choose(random).unwrap(),
            cents: random
                .random_bool(0.8)
                .then(|| random.random_range(0..1_000_000)),
            stock: random.random_range(0..100),
            sku: sku.flatten(),
        }
    }

    /// A write of the application: its SQL. The map is as it will be.
    fn write(&mut self) -> String {
        let sql = match self.random.random_range(0..16) {
            0..5 => self.put(),
            5..8 => self.change(),
            8..10 => self.delete(),
            10 => self.rename_key(),
            11..14 => self.photograph(),
            14 => {
                let (tenant, n) = (self.random.random_range(1..=2), self.fresh());
                self.tenants.insert(tenant, format!("Tenant {n}"));
                format!("UPDATE tenants SET name = 'Tenant {n}' WHERE id = {tenant};")
            }
            _ => self.swap(),
        };
        self.remember();
        sql
    }

    fn put(&mut self) -> String {
        // Ids of deleted rows come back.
        let id = self.random.random_range(1..60);
        let gone = match self.listings.remove(&id) {
            Some(_) => format!("DELETE FROM listings WHERE id = {id};"),
            None => String::new(),
        };
        let one = self.chance_listing();
        let sql = format!(
            "{gone}INSERT INTO listings (id, tenant_id, title, status, house, price, stock, sku) \
             VALUES ({id}, {}, {}, '{}', {}, {}, {}, {});",
            one.tenant,
            literal(one.title),
            one.status,
            literal(one.house),
            one.cents.map_or("NULL".into(), dollars),
            one.stock,
            literal(one.sku.as_deref())
        );
        self.listings.insert(id, one);
        sql
    }

    fn change(&mut self) -> String {
        let (from, to) = (self.any(), self.any());
        let (title, stock) = (*TITLES.choose(&mut self.random).unwrap(), self.fresh());
        for (_, one) in self.listings.range_mut(from.min(to)..=from.max(to)) {
            (one.title, one.stock) = (title, stock);
        }
        format!(
            "UPDATE listings SET title = {}, stock = {stock} WHERE id BETWEEN {} AND {};",
            literal(title),
            from.min(to),
            from.max(to)
        )
    }

    fn delete(&mut self) -> String {
        let id = self.any();
        self.listings.remove(&id);
        let mut sql = format!("DELETE FROM listings WHERE id = {id};");
        // Photos that stay belong to no row, which the worker must hold.
        if self.random.random_bool(0.7) {
            self.photos.retain(|_, photo| photo.0 != id);
            sql += &format!("DELETE FROM photos WHERE listing_id = {id};");
        }
        sql
    }

    fn rename_key(&mut self) -> String {
        let (id, to) = (self.any(), 100 + self.fresh());
        if let Some(one) = self.listings.remove(&id) {
            self.listings.insert(to, one);
        }
        let photos = self.photos.values_mut().filter(|photo| photo.0 == id);
        photos.for_each(|photo| photo.0 = to);
        format!(
            "UPDATE listings SET id = {to} WHERE id = {id}; \
             UPDATE photos SET listing_id = {to} WHERE listing_id = {id};"
        )
    }

    fn photograph(&mut self) -> String {
        let (listing, photo) = (self.any(), self.random.random_range(1..30));
        match self.photos.get_mut(&photo) {
            None if self.listings.is_empty() => String::new(),
            None => {
                self.photos.insert(photo, (listing, format!("u{photo}")));
                format!("INSERT INTO photos VALUES ({photo}, {listing}, 'u{photo}');")
            }
            Some(known) if known.0 != listing => {
                known.0 = listing;
                format!("UPDATE photos SET listing_id = {listing} WHERE id = {photo};")
            }
            Some(_) => {
                self.photos.remove(&photo);
                format!("DELETE FROM photos WHERE id = {photo};")
            }
        }
    }

    /// Two rows exchange what is unique.
    fn swap(&mut self) -> String {
        let (a, b) = (self.any(), self.any());
        let sku = |map: &Map, id| map.listings.get(&id).and_then(|one| one.sku.clone());
        let (of_a, of_b) = (sku(self, a), sku(self, b));
        for (id, sku) in [(a, &of_b), (b, &of_a)] {
            if let Some(one) = self.listings.get_mut(&id) {
                one.sku.clone_from(sku);
            }
        }
        format!(
            "BEGIN; UPDATE listings SET sku = NULL WHERE id = {a}; \
             UPDATE listings SET sku = {} WHERE id = {b}; \
             UPDATE listings SET sku = {} WHERE id = {a}; COMMIT;",
            literal(of_a.as_deref()),
            literal(of_b.as_deref())
        )
    }

    /// The three properties.
    async fn check(&mut self, market: &Market, backfilled: bool) {
        let mut held: BTreeMap<i64, State> = BTreeMap::new();
        for line in market.both().await.1 {
            let id = line[2..].split('|').next().unwrap().parse().unwrap();
            held.entry(id).or_default().push(line);
        }
        let dirty = market.dirty().await;
        let dirty: BTreeSet<i64> = dirty
            .iter()
            .map(|line| line.split(' ').next().unwrap().parse().unwrap())
            .collect();
        let of_nobody = held.keys().find(|id| !self.history.contains_key(id));
        assert_eq!(of_nobody, None, "a key that never was");
        for (id, past) in &self.history {
            let now = held.remove(id).unwrap_or_default();
            let from = self.seen.get(id).copied().unwrap_or_default();
            let at = (from..past.len()).find(|at| past[*at] == now);
            let at = at.unwrap_or_else(|| panic!("key {id} is {now:?}, after {:?}", &past[from..]));
            self.seen.insert(*id, at);
            let known = !backfilled || dirty.contains(id) || past.last() == Some(&now);
            assert!(known, "key {id} is clean, and is {now:?}: {past:?}");
        }
    }
}

/// Something that the worker does, perhaps not to its end.
async fn work(map: &mut Map, migration: &Migration, backfilled: bool) -> String {
    let sweep = BackfillOptions {
        page: map.random.random_range(1..20),
        first_pause: Duration::from_millis(1),
        pacing: Pacing::UNLIMITED,
        ..BackfillOptions::default()
    };
    let within = Duration::from_micros(map.random.random_range(0..30_000));
    match map.random.random_range(0..8) {
        0..3 => drain(migration).await,
        3 => {
            let keys: Vec<Key> = (0..3).map(|_| Key::from(map.any())).collect();
            let copied = migration.copier().copy(&keys, CopySource::Inline).await;
            copied.unwrap();
        }
        4 => {
            let once = migration.drain(Default::default());
            let _ = tokio::time::timeout(within, once.once()).await;
            return format!("a drain dropped after {within:?}");
        }
        5 if !backfilled => {
            let sweep = migration.backfill(sweep);
            let _ = tokio::time::timeout(within, sweep.run(|_| ())).await;
            return format!("a backfill dropped after {within:?}");
        }
        6 if backfilled => {
            let report = verify(migration).await;
            let wrong = [
                Class::Divergent,
                Class::Missing,
                Class::Extra,
                Class::FollowerAhead,
                Class::Unrecorded,
            ];
            let wrong: u64 = wrong.map(|class| report.count(class)).iter().sum();
            assert_eq!(wrong, 0, "{report:?}");
        }
        _ => {}
    }
    "work".into()
}

mod scenario {
    use super::*;

    pub(super) async fn the_new_side_is_what_the_map_says(topology: Topology) {
        for seed in support::seeds(RUNS) {
            let run = std::panic::AssertUnwindSafe(run(topology, seed));
            if let Err(why) = futures_util::FutureExt::catch_unwind(run).await {
                eprintln!("{topology:?}: CHANGEOVER_SEED={seed} replays this");
                std::panic::resume_unwind(why);
            }
        }
    }

    async fn run(topology: Topology, seed: u64) {
        let mut map = Map::new(seed);
        let market = Market::start(topology).await;
        let begun = map.random.random_range(0..STEPS / 4);
        let swept = map.random.random_range(begun..STEPS / 2);
        let mut migration = None;
        for step in 0..STEPS {
            if step == begun {
                // What history is before that is nobody's to have seen.
                migration = Some(market.installed().await);
            }
            let sql = map.write();
            market.legacy.run(&sql).await;
            let Some(migration) = &migration else {
                continue;
            };
            if step == swept {
                backfill(migration).await;
            }
            println!("{step}: {sql}");
            if map.random.random_bool(0.5) {
                let done = work(&mut map, migration, step >= swept).await;
                println!("{step}: {done}");
                map.check(&market, step >= swept).await;
            }
        }
        let migration = migration.unwrap();
        // What was held is mended.
        for one in map.listings.values_mut() {
            one.status = if one.status == "Forbidden" {
                "Sold"
            } else {
                one.status
            };
        }
        map.photos
            .retain(|_, photo| map.listings.contains_key(&photo.0));
        map.remember();
        market
            .legacy
            .run(
                "UPDATE listings SET status = 'Sold' WHERE status = 'Forbidden'; \
                 DELETE FROM photos WHERE listing_id NOT IN (SELECT id FROM listings)",
            )
            .await;
        market
            .new
            .run("INSERT INTO providers VALUES (103, 3)")
            .await;
        drain(&migration).await;
        assert_eq!(market.dirty().await, Vec::<String>::new(), "seed {seed}");
        map.check(&market, true).await;
        let mut all: State = map.listings.keys().flat_map(|id| map.state(*id)).collect();
        all.sort_unstable();
        assert_eq!(market.both().await, (all.clone(), all), "seed {seed}");
        let report = verify(&migration).await;
        assert!(report.clean(), "seed {seed}: {report:?}");
    }
}
