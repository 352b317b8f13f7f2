use changeover::shadow::Class;

use super::*;

everywhere_and_on_pairs!(a_row_that_history_has_not_brought_is_no_difference);

/// Reads every row and every list, all of them compared, and waits for the comparisons.
async fn compared(market: &Market) -> Instance {
    let instance = Instance::of(market, true).await;
    let flags = instance.wiring.flags();
    flags.set_sample(Percent::HUNDRED).unwrap();
    for id in 1..=16 {
        instance.title(id).await;
    }
    for tenant in [1, 2] {
        instance.call(Call::OfTenant(tenant, None)).await.unwrap();
    }
    let drained = instance.handle.close_and_wait(Duration::from_secs(30));
    assert!(drained.await.is_complete());
    instance
}

mod scenario {
    use super::*;

    pub(super) async fn a_row_that_history_has_not_brought_is_no_difference(topology: Topology) {
        let market = Market::start(topology).await;
        market.fill(16).await;
        let migration = market.installed().await;
        let totals = compared(&market).await.handle.compared();
        assert_eq!(totals.confirmed(), 0, "{topology:?}: {totals:?}");
        assert!(totals.of(Class::Lagging) > 0, "{topology:?}: {totals:?}");

        // Afterwards the same sight is a loss.
        backfill(&migration).await;
        assert!(verify(&migration).await.clean());
        let of = "(SELECT id FROM service_listings WHERE legacy_id = 4)";
        market
            .new
            .force(&format!(
                "DELETE FROM variants WHERE listing_id = {of}; \
                 DELETE FROM pictures WHERE listing_id = {of}; \
                 DELETE FROM service_listings WHERE legacy_id = 4; \
                 DELETE FROM changeover_key WHERE place = 'new' AND \"key\" = '4'"
            ))
            .await;
        let totals = compared(&market).await.handle.compared();
        // The row, and the list that lacks it.
        assert_eq!(
            totals.of(Class::MissingInNew),
            2,
            "{topology:?}: {totals:?}"
        );
    }
}
