//! Several processes that install, start or raise the revision at the same time.

use std::sync::Arc;
use std::time::Duration;

use changeover::flags::{Key, Place, Stage, Version};
use changeover::worker::dialect::catalog::Table;
use changeover::worker::dialect::install::{Patience, Side};
use changeover::worker::dialect::session::Database;
use changeover::worker::image::Image;
use changeover::worker::mapping::{Mapping, MappingError, Shape, SourceRows};
use changeover::worker::migration::MigrationError;
use changeover::worker::store::StoreError;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use super::lifecycle::everywhere;
use super::market::{MAPPING, Market, Plain, Topology, backfill, drain, verify};
use super::races::{key, ready, settle};

everywhere!(
    an_installer_overtaken_by_a_raise_changes_nothing,
    what_was_moved_is_not_taken_back,
    an_older_process_between_the_steps_of_a_raise_is_told_so,
    a_mapping_that_cannot_tell_forgets_no_fingerprint,
);

/// Gives up at the first lock it does not get, after a time that no test waits for.
pub(super) const ONE_TRY: Patience = Patience {
    lock_timeout: Duration::from_secs(60),
    tries: 1,
    pause: Duration::ZERO,
};

pub(super) fn revision(n: u32) -> String {
    MAPPING
        .replace("revision = 1", &format!("revision = {n}"))
        .replace("\"l.title\"", &format!("\"'v{n} ' || l.id\""))
}

/// What the installation of a side asks the catalog for.
pub(super) async fn tables(database: &Database, names: &[&str]) -> Vec<Table> {
    let mut lease = database.session().await.unwrap();
    let mut tables = Vec::new();
    for name in names {
        let table = database.dialect().describe(lease.session(), name).await;
        tables.push(table.unwrap().unwrap());
    }
    tables
}

mod scenario {
    use super::*;

    /// The legacy side of an installer that failed on the new one.
    pub(super) async fn what_was_moved_is_not_taken_back(topology: Topology) {
        let (market, migration) = ready(topology, 4).await;
        let legacy = Database::open(&market.legacy_url).unwrap();
        let (entity, mapping) = (Market::entity(), Market::mapping(MAPPING));
        let authority = Side {
            database: &legacy,
            entity: &entity,
            place: Place::Legacy,
            shape: mapping.shape(),
            tables: &[],
        };
        authority
            .take_back(migration.epoch().await.unwrap().base, ONE_TRY)
            .await
            .unwrap();
        market
            .legacy
            .run("UPDATE listings SET title = 'stamped' WHERE id = 3")
            .await;
        assert_eq!(market.dirty().await.len(), 1, "the stamps were taken out");
        settle(&market, &migration).await;
    }

    /// The follower is raised, the authority not yet.
    pub(super) async fn an_older_process_between_the_steps_of_a_raise_is_told_so(
        topology: Topology,
    ) {
        let (market, old) = ready(topology, 6).await;
        let raised = Market::mapping(&revision(2));
        let fingerprint = raised.shape().fingerprint.unwrap().number();
        let follower = format!(
            "UPDATE changeover_epoch SET revision = 2, mapping = {fingerprint}, incarnation = 1 \
             WHERE place = 'new'"
        );
        market.new.run(&follower).await;
        for refused in [old.install().await, old.raise_revision().await] {
            let error = refused.expect_err("a newer revision is on its way");
            let store = std::error::Error::source(&error);
            let text = store.map_or_else(|| error.to_string(), ToString::to_string);
            let held = ["mapping revision 2", "this process has 1"];
            assert!(held.iter().all(|held| text.contains(held)), "{text}");
        }
        let new = market.open_with(raised).await;
        new.raise_revision().await.unwrap();
        // No side came back from a backup: the copying goes on.
        assert_eq!(new.epoch().await.unwrap().stage(), Stage::DualWrite);
        backfill(&new).await;
        drain(&new).await;
        assert!(verify(&new).await.clean());
    }

    /// It raises what stands there already: another mapping is refused as before.
    pub(super) async fn a_mapping_that_cannot_tell_forgets_no_fingerprint(topology: Topology) {
        let (market, migration) = ready(topology, 4).await;
        let untold = Untold::new(Market::mapping(MAPPING));
        let untold = market.open_with(Arc::new(untold)).await;
        market
            .new
            .run("UPDATE changeover_epoch SET incarnation = 1 WHERE place = 'new'")
            .await;
        untold.install().await.unwrap();
        let base = migration.epoch().await.unwrap().base;
        assert_eq!(base, Version::base(2));
        let changed = MAPPING.replace("\"l.title\"", "\"upper(l.title)\"");
        let changed = market.open_with(Market::mapping(&changed)).await;
        let refused = changed.install().await;
        assert!(
            matches!(refused, Err(MigrationError::Mapping { .. })),
            "{refused:?}"
        );
    }

    /// The steps of an installer that read revision and base before they were raised, and gets
    /// its locks after: the triggers it made for the older base must not come into force.
    pub(super) async fn an_installer_overtaken_by_a_raise_changes_nothing(topology: Topology) {
        let (market, old) = ready(topology, 6).await;
        let mapping = Market::mapping(MAPPING);
        let base = old.epoch().await.unwrap().base;
        let legacy = Database::open(&market.legacy_url).unwrap();
        let new = Database::open(&market.new_url).unwrap();
        let sources = tables(&legacy, &["listings", "photos", "tenants"]).await;
        let targets = ["addresses", "service_listings", "variants", "pictures"];
        let targets = tables(&new, &targets).await;
        let entity = Market::entity();
        let side = |place, database, tables| Side {
            database,
            entity: &entity,
            place,
            shape: mapping.shape(),
            tables,
        };
        let authority = side(Place::Legacy, &legacy, &sources[..]);
        let follower = side(Place::New, &new, &targets[..]);

        let raised = market.open_with(Market::mapping(&revision(2))).await;
        raised.raise_revision().await.unwrap();

        for (side, script) in [
            (&authority, authority.authority_script(base)),
            (&follower, follower.follower_script()),
        ] {
            let refused = side.install(&script, base, ONE_TRY).await;
            let Err(StoreError::Refused { advice, .. }) = refused else {
                panic!("{:?}: {refused:?}", side.place);
            };
            assert!(advice.contains("raised or changed meanwhile"), "{advice}");
        }
        backfill(&raised).await;
        market
            .legacy
            .run(
                "INSERT INTO listings (id, tenant_id, title, status) VALUES (70, 1, 'x', 'ACTIVE')",
            )
            .await;
        let version = raised.copier().authority().versions(&key("70")).await;
        assert!(
            version.unwrap()[0] > Version::base(1),
            "stamped below the base"
        );
        drain(&raised).await;
        assert_eq!(market.dirty().await, Vec::<String>::new());
        assert!(verify(&raised).await.clean());
    }
}

/// What a copy holds until it ends.
pub(super) const COPY: &str =
    "SELECT pg_advisory_xact_lock_shared(hashtextextended('changeover_epoch/listings/new', 0))";

/// Waits until a session of the product waits for a lock that `which` describes; answers its pid.
pub(super) async fn waiting(side: &Plain, which: &str) -> String {
    let waiting = format!(
        "SELECT pid::text FROM pg_locks WHERE NOT granted AND {which} AND database = \
         (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    for _ in 0..3_000 {
        if let Some(pid) = side.texts(&waiting).await.pop() {
            return pid;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain for a session that waits: {which}");
}

async fn cancel(side: &Plain, pid: &str) {
    side.run(&format!("SELECT pg_cancel_backend({pid})")).await;
}

/// A transaction that holds what `sql` locks until it is dropped or ended.
pub(super) async fn holding(url: &str, sql: &'static str) -> PgConnection {
    let mut held = PgConnection::connect(url).await.unwrap();
    held.execute("BEGIN").await.unwrap();
    held.execute(sql).await.unwrap();
    held
}

/// An instance of the older deployment starts while the newer one raises the revision and waits for
/// a writer: it neither waits with it nor takes anything back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_during_a_raise_is_refused() {
    let (market, old) = ready(Topology::PostgresTwoDatabases, 6).await;
    let raised = market.open_with(Market::mapping(&revision(2))).await;
    let mut writer = holding(&market.legacy_url, "UPDATE tenants SET name = 'in flight'").await;
    let raising = tokio::spawn({
        let raised = raised.clone().with_patience(ONE_TRY);
        async move { raised.raise_revision().await }
    });
    waiting(&market.legacy, "relation = 'tenants'::regclass").await;
    let refused = old.with_patience(ONE_TRY).install().await;
    assert!(
        matches!(
            refused,
            Err(MigrationError::Revision {
                held: 2,
                mine: 1,
                ..
            })
        ),
        "{refused:?}"
    );
    writer.execute("COMMIT").await.unwrap();
    raising.await.unwrap().unwrap();
    backfill(&raised).await;
    market
        .legacy
        .run("INSERT INTO listings (id, tenant_id, title, status) VALUES (70, 1, 'x', 'ACTIVE')")
        .await;
    drain(&raised).await;
    assert_eq!(market.dirty().await, Vec::<String>::new());
    assert!(verify(&raised).await.clean());
}

/// A mapping that cannot tell what it answers, as one in Rust may be: at one revision it is taken for
/// any other.
struct Untold(Shape, Arc<dyn Mapping>);

impl Untold {
    fn new(mapping: Arc<dyn Mapping>) -> Untold {
        let mut shape = mapping.shape().clone();
        shape.fingerprint = None;
        Untold(shape, mapping)
    }
}

impl Mapping for Untold {
    fn shape(&self) -> &Shape {
        &self.0
    }

    fn image(&self, key: &Key, rows: &SourceRows) -> Result<Image, MappingError> {
        self.1.image(key, rows)
    }
}

/// Two first installers: one gets through, the other is refused by the new side. What it takes
/// back must not be what the first one stands on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_installer_takes_nothing_from_another() {
    let market = Market::start(Topology::PostgresTwoDatabases).await;
    market.fill(6).await;
    market
        .new
        .run("CREATE TABLE aaa (id bigint PRIMARY KEY NOT NULL)")
        .await;
    let more = format!(
        "{MAPPING}\n[[target]]\ntable = \"aaa\"\nowned_by.key = [\"id\"]\nidentity = [\"id\"]\ncolumns = {{ id = \"id\" }}\n"
    );
    let failing = Untold::new(Market::mapping(&more));
    let failing = market.open_with(Arc::new(failing)).await;
    let held = holding(&market.new_url, "INSERT INTO aaa VALUES (1)").await;
    let failing = tokio::spawn(async move { failing.with_patience(ONE_TRY).install().await });
    let pid = waiting(&market.new, "relation = 'aaa'::regclass").await;
    let migration = market.open().await;
    migration.install().await.unwrap();
    cancel(&market.new, &pid).await;
    let error = failing.await.unwrap().expect_err("its table is held");
    assert!(
        matches!(error, MigrationError::Store(StoreError::Locked { .. })),
        "{error:?}"
    );
    drop(held);
    migration.start_copying().await.unwrap();
    backfill(&migration).await;
    market
        .legacy
        .run("UPDATE listings SET title = 'stamped' WHERE id = 3")
        .await;
    assert_eq!(market.dirty().await.len(), 1, "the stamps were taken out");
    settle(&market, &migration).await;
}

/// Another first installer finishes and begins to copy while this one asks both sides. What it has
/// done must not pass for a new side that lost what it held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installer_overtaken_by_another_finds_it_done() {
    let (market, migration) = ready(Topology::PostgresTwoDatabases, 4).await;
    let before = migration.epoch().await.unwrap();
    market
        .new
        .run("CREATE TABLE aside AS TABLE changeover_epoch; DELETE FROM changeover_epoch")
        .await;
    let held = holding(
        &market.legacy_url,
        "LOCK TABLE changeover_epoch IN ACCESS EXCLUSIVE MODE",
    )
    .await;
    let slow = market.open().await;
    let slow = tokio::spawn(async move { slow.install().await });
    // The new side has answered that there is nothing; the legacy side has not answered yet.
    waiting(&market.legacy, "relation = 'changeover_epoch'::regclass").await;
    market
        .new
        .run("INSERT INTO changeover_epoch TABLE aside; DROP TABLE aside")
        .await;
    drop(held);
    slow.await.unwrap().unwrap();
    assert_eq!(migration.epoch().await.unwrap(), before);
    settle(&market, &migration).await;
}

/// Two revisions are raised at once, from the same row. At one incarnation, copies of the earlier
/// mapping would pass for copies of the later one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_revisions_raised_at_once_share_no_incarnation() {
    let (market, _) = ready(Topology::PostgresTwoDatabases, 6).await;
    let two = market.open_with(Market::mapping(&revision(2))).await;
    let three = market.open_with(Market::mapping(&revision(3))).await;
    let again = Patience {
        tries: 2,
        // It rests for a part of this, a fifth at least: for long enough that the other one ends before.
        pause: Duration::from_secs(15),
        ..ONE_TRY
    };
    let copy = holding(&market.new_url, COPY).await;
    let raising = tokio::spawn({
        let three = three.clone().with_patience(again);
        async move { three.raise_revision().await }
    });
    let pid = waiting(&market.new, "locktype = 'advisory'").await;
    cancel(&market.new, &pid).await;
    drop(copy);
    // It rests before its second try, with what it read before the first.
    two.raise_revision().await.unwrap();
    backfill(&two).await;
    let error = raising.await.unwrap().expect_err("the revision was raised");
    assert!(
        format!("{error:?}").contains("raised the mapping revision meanwhile"),
        "{error:?}"
    );
    three.raise_revision().await.unwrap();
    backfill(&three).await;
    drain(&three).await;
    assert_eq!(market.dirty().await, Vec::<String>::new());
    let titles = "SELECT DISTINCT substr(title, 1, 3) FROM service_listings";
    assert_eq!(market.new.texts(titles).await, ["v3 "]);
    assert!(verify(&three).await.clean());
}

/// Waiting long for copies is no reason to wait long for readers: everybody queues behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_trigger_is_waited_for_longer_than_the_patience() {
    let (market, migration) = ready(Topology::PostgresTwoDatabases, 4).await;
    let pictures = MAPPING.find("[[target]]\nname = \"picture\"").unwrap();
    let less = MAPPING[..pictures].replace("revision = 1", "revision = 2");
    let raised = market.open_with(Market::mapping(&less)).await;
    let reader = holding(&market.new_url, "LOCK TABLE pictures IN ACCESS SHARE MODE").await;
    let hasty = Patience {
        lock_timeout: Duration::from_millis(100),
        ..ONE_TRY
    };
    let (raised, leaving) = (raised.with_patience(hasty), migration.with_patience(hasty));
    let refused = async { [raised.raise_revision().await, leaving.uninstall().await] };
    let refused = tokio::time::timeout(Duration::from_secs(6), refused).await;
    for refused in refused.expect("readers queued behind a trigger") {
        assert!(
            matches!(
                refused,
                Err(MigrationError::Store(StoreError::Locked { .. }))
            ),
            "{refused:?}"
        );
    }
    drop(reader);
}
