//! The databases of a run: servers of its own, which are killed, and history.

use tokio::task::block_in_place;

use super::stand::TENANTS;
use crate::protocol::market::{Market, Topology};
use crate::protocol::plain::Engine;
use crate::support::{mariadb::Mariadb, postgres::Postgres};

/// A server of a run's own.
pub(super) enum Server {
    Postgres(Postgres),
    Mariadb(Mariadb),
}

impl Server {
    fn start(engine: Engine) -> Server {
        match engine {
            Engine::Postgres => Server::Postgres(Postgres::start()),
            Engine::Mariadb => Server::Mariadb(Mariadb::start()),
            Engine::Sqlite => panic!("SQLite has no server"),
        }
    }

    async fn database(&self, name: &str) -> String {
        match self {
            Server::Postgres(server) => {
                server.create_database(name).await;
                server.url(name)
            }
            Server::Mariadb(server) => {
                server.create_database(name).await;
                server.url(name)
            }
        }
    }

    pub(super) fn engine(&self) -> &'static str {
        match self {
            Server::Postgres(_) => "PostgreSQL",
            Server::Mariadb(_) => "MariaDB",
        }
    }

    pub(super) fn kill9(&self) {
        match self {
            Server::Postgres(server) => server.kill9(),
            Server::Mariadb(server) => server.kill9(),
        }
    }

    pub(super) fn restart(&self) {
        match self {
            Server::Postgres(server) => server.restart(),
            Server::Mariadb(server) => server.restart(),
        }
    }
}

/// A marketplace on servers of its own, one for each database.
pub(super) async fn on_servers(topology: Topology) -> (Market, Vec<Server>) {
    let mut engines = vec![topology.legacy_engine()];
    if !topology.is_one_database() {
        engines.push(topology.new_engine());
    }
    let servers: Vec<_> = engines
        .into_iter()
        .map(|engine| block_in_place(|| Server::start(engine)))
        .collect();
    let mut urls = Vec::new();
    for server in &servers {
        urls.push(server.database("market").await);
    }
    let (legacy, new) = (urls[0].clone(), urls[urls.len() - 1].clone());
    (Market::on(topology, legacy, new, None).await, servers)
}

/// Some thousand rows of history, with children.
pub(super) async fn fill(market: &Market, rows: i64) {
    let upto = |n: i64| {
        format!("WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {n})")
    };
    let tenants = upto(TENANTS);
    let more = "SELECT n, 'Tenant ' || n FROM n WHERE n > 2";
    market
        .legacy
        .run(&format!("INSERT INTO tenants {tenants} {more}"))
        .await;
    let more = "SELECT n + 100, n FROM n WHERE n > 2";
    market
        .new
        .run(&format!("INSERT INTO providers {tenants} {more}"))
        .await;
    let rows = upto(rows);
    let listings = format!(
        "INSERT INTO listings (id, tenant_id, title, status, house, price, stock, sku) {rows} \
         SELECT n, 1 + n % {TENANTS}, CASE WHEN n % 5 > 0 THEN 'Título ' || n END, 'ACTIVE ', \
         CASE WHEN n % 3 > 0 THEN ' House ' || (n % 17) || ' ' END, n + 0.25, n, 'sku-' || n FROM n"
    );
    let photos = "INSERT INTO photos SELECT id * 2, id, 'u' || id FROM listings WHERE id % 4 = 0; \
                  INSERT INTO photos SELECT id * 2 + 1, id, 'w' || id FROM listings WHERE id % 8 = 0";
    market.legacy.run(&format!("{listings}; {photos}")).await;
}
