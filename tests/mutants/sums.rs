//! Sums that do not see all: each is found by the differences that the shipped ones find.

use changeover::worker::migration::Migration;

use super::dialect::{Rewrite, database};
use super::rewrites::no_change;
use super::{Rewrites, found};
use crate::protocol::lifecycle::{everywhere, on_pairs, within_mariadb};
use crate::protocol::market::{Market, Topology, backfill};
use crate::protocol::stock::{Stock, found as differing, verify_by};
use crate::protocol::sums::{differences, filled};

everywhere!(
    a_null_that_is_summed_as_the_empty_text_is_found,
    sums_without_versions_are_found,
    a_column_that_is_not_summed_is_found,
    a_target_that_is_not_summed_is_found,
    spans_without_their_last_key_are_found,
    spans_that_begin_with_the_first_key_are_found,
    rows_that_are_all_in_the_first_span_are_found,
    a_follower_whose_moved_keys_are_not_listed_is_found,
);

within_mariadb!(
    a_null_that_is_summed_as_the_empty_text_is_found,
    sums_without_versions_are_found,
    a_column_that_is_not_summed_is_found,
    a_target_that_is_not_summed_is_found,
    spans_without_their_last_key_are_found,
    spans_that_begin_with_the_first_key_are_found,
    rows_that_are_all_in_the_first_span_are_found,
    a_follower_whose_moved_keys_are_not_listed_is_found,
);
on_pairs!(
    a_null_that_is_summed_as_the_empty_text_is_found,
    sums_without_versions_are_found,
    a_column_that_is_not_summed_is_found,
    a_target_that_is_not_summed_is_found,
    spans_without_their_last_key_are_found,
    spans_that_begin_with_the_first_key_are_found,
    rows_that_are_all_in_the_first_span_are_found,
    a_follower_whose_moved_keys_are_not_listed_is_found,
);

/// What a verify by sums finds of each way in which a key can differ.
async fn sees(topology: Topology, rewrite: Rewrites) -> Result<(), String> {
    let stock = filled(topology).await;
    let migration = open(&stock, (no_change, no_change)).await;
    migration.install().await.unwrap();
    migration.start_copying().await.unwrap();
    backfill(&migration).await;
    let expected = differences(&stock, &migration).await;
    // Every key is a span by itself at last: no difference brings another one to light.
    let report = verify_by(&open(&stock, rewrite).await, 1, 30).await;
    assert!(report.unsummed.is_empty() && report.sums.ranges > 0);
    let seen = differing(&report);
    match seen == expected {
        true => Ok(()),
        false => Err(format!("{seen:?}")),
    }
}

async fn open(stock: &Stock, rewrite: Rewrites) -> Migration {
    let mapping = Market::mapping(&stock.own_mapping());
    let legacy = database(&stock.market.legacy_url, rewrite.0);
    let new = database(&stock.market.new_url, rewrite.1);
    Migration::open(Market::entity(), mapping, legacy, new)
        .await
        .unwrap()
}

/// Sums alone select rows so.
fn is_sum(sql: &str) -> bool {
    sql.contains("SELECT s.g, s.k, ")
}

fn null_is_empty(sql: &str) -> String {
    match is_sum(sql) {
        true => sql
            .replace("t.\"title\"", "coalesce(t.\"title\", '')")
            // Of the same old column.
            .replace("t.\"slot\"", "coalesce(t.\"slot\", '')")
            .replace("(title)", "(coalesce(title, ''))")
            .replace(" title AS", " coalesce(title, '') AS"),
        false => sql.to_owned(),
    }
}

fn versions_are_zero(sql: &str) -> String {
    match is_sum(sql) {
        true => sql
            .replace("(SELECT c.version FROM", "(SELECT 0 * min(c.version) FROM")
            .replace("coalesce(v.version", "coalesce(0 * v.version"),
        false => sql.to_owned(),
    }
}

fn no_title(sql: &str) -> String {
    match is_sum(sql) {
        true => sql
            .replace("t.\"title\"", "NULL")
            .replace("(title)", "(NULL)")
            .replace(" title AS", " NULL AS"),
        false => sql.to_owned(),
    }
}

fn no_tags(sql: &str) -> String {
    match is_sum(sql) && (sql.contains("thing_tags") || sql.contains("good_tags")) {
        true => sql.replace("WHERE 1 = 1", "WHERE 1 = 0"),
        false => sql.to_owned(),
    }
}

fn without_the_last(sql: &str) -> String {
    match is_sum(sql) {
        true => sql.replace(") <= (", ") < ("),
        false => sql.to_owned(),
    }
}

/// As if nothing could lie before the authority's first key.
fn none_before(sql: &str) -> String {
    match is_sum(sql) && !sql.contains(") > (") {
        true => sql.replace("WHERE 1 = 1", "WHERE t.thing_id >= 1"),
        false => sql.to_owned(),
    }
}

/// Rows of all the parts of a range as if they were in its first.
fn in_the_first(sql: &str) -> String {
    let mut sql = sql.to_owned();
    if is_sum(&sql) {
        for n in 1..20 {
            sql = sql.replace(&format!(" THEN {n} "), " THEN 0 ");
            sql = sql.replace(&format!(" ELSE {n} END AS g"), " ELSE 0 END AS g");
        }
    }
    sql
}

fn nothing_moved(sql: &str) -> String {
    sql.replace(
        " WHERE version <> (SELECT",
        " WHERE 1 = 0 AND version <> (SELECT",
    )
}

mod scenario {
    use super::*;

    async fn both(topology: Topology, rewrite: Rewrite) {
        found(|rewrite| sees(topology, rewrite), (rewrite, rewrite)).await;
    }

    pub(super) async fn a_null_that_is_summed_as_the_empty_text_is_found(topology: Topology) {
        both(topology, null_is_empty).await;
    }

    pub(super) async fn sums_without_versions_are_found(topology: Topology) {
        both(topology, versions_are_zero).await;
    }

    pub(super) async fn a_column_that_is_not_summed_is_found(topology: Topology) {
        both(topology, no_title).await;
    }

    pub(super) async fn a_target_that_is_not_summed_is_found(topology: Topology) {
        both(topology, no_tags).await;
    }

    pub(super) async fn spans_without_their_last_key_are_found(topology: Topology) {
        both(topology, without_the_last).await;
    }

    pub(super) async fn spans_that_begin_with_the_first_key_are_found(topology: Topology) {
        found(|rewrite| sees(topology, rewrite), (no_change, none_before)).await;
    }

    pub(super) async fn rows_that_are_all_in_the_first_span_are_found(topology: Topology) {
        both(topology, in_the_first).await;
    }

    pub(super) async fn a_follower_whose_moved_keys_are_not_listed_is_found(topology: Topology) {
        found(
            |rewrite| sees(topology, rewrite),
            (no_change, nothing_moved),
        )
        .await;
    }
}
