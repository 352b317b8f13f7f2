//! What can be asked of a MariaDB server.

use std::time::Duration;

use super::{Mariadb, load};
use crate::dialect::Statement;
use crate::dialect::load::{Load, Question};
use crate::dialect::server::Server;
use crate::dialect::watched::Presence;

impl Server for Mariadb {
    fn presence(&self) -> Presence {
        Presence {
            own: "SELECT CAST(connection_id() AS CHAR)",
            at_work: "SELECT '1' FROM information_schema.processlist WHERE id = {} \
                      AND command <> 'Sleep' AND coalesce(state, '') <> 'Writing to net'",
        }
    }

    fn known_rows(&self, table: &str) -> Statement<'_> {
        let rows = Statement::of(
            self,
            "SELECT CAST(table_rows AS SIGNED) FROM information_schema.tables \
             WHERE table_schema = database() AND table_name = ",
        );
        rows.text(table)
    }

    fn load(&self, load: Load) -> Option<Question> {
        load::question(load)
    }

    fn statement_limit(&self, within: Duration) -> String {
        let seconds = within.as_secs_f64().max(0.001);
        format!("SET SESSION max_statement_time = {seconds}")
    }
}
