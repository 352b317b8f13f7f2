//! The listings in the new tables.

use sqlx::SqlitePool;

use crate::listings::{Answer, Draft, Listing, Listings, Row};

pub(crate) struct NewListings {
    pool: SqlitePool,
}

impl NewListings {
    pub(crate) fn new(pool: SqlitePool) -> Self {
        NewListings { pool }
    }
}

macro_rules! select {
    ($where:literal) => {
        concat!(
            "SELECT id, provider_id, title, state, price_cents,
               (SELECT json_group_array(url) FROM
                 (SELECT url FROM pictures WHERE listing_id = service_listings.id ORDER BY position))
             FROM service_listings WHERE ",
            $where
        )
    };
}

impl Listings for NewListings {
    fn get(&self, id: i64) -> Answer<'_, Option<Listing>> {
        Box::pin(async move {
            let query = sqlx::query_as::<_, Row>(select!("id = ?")).bind(id);
            let row = query.fetch_optional(&self.pool).await?;
            row.map(Listing::from_row).transpose()
        })
    }

    fn of_seller(&self, seller: i64) -> Answer<'_, Vec<Listing>> {
        Box::pin(async move {
            let query =
                sqlx::query_as::<_, Row>(select!("provider_id = ? ORDER BY id")).bind(seller);
            let rows = query.fetch_all(&self.pool).await?;
            rows.into_iter().map(Listing::from_row).collect()
        })
    }

    fn create(&self, draft: Draft) -> Answer<'_, Listing> {
        Box::pin(async move {
            let done = sqlx::query(
                "INSERT INTO service_listings (provider_id, title, state, price_cents)
                 VALUES (?, ?, 'active', ?)",
            )
            .bind(draft.seller)
            .bind(&draft.title)
            .bind(draft.price_cents)
            .execute(&self.pool)
            .await?;
            Ok(Listing::created(done.last_insert_rowid(), draft))
        })
    }

    fn update(&self, id: i64, draft: Draft) -> Answer<'_, bool> {
        Box::pin(async move {
            let done = sqlx::query(
                "UPDATE service_listings SET provider_id = ?, title = ?, price_cents = ? WHERE id = ?",
            )
            .bind(draft.seller)
            .bind(draft.title)
            .bind(draft.price_cents)
            .bind(id)
            .execute(&self.pool)
            .await?;
            Ok(done.rows_affected() > 0)
        })
    }

    fn replace_photos(&self, id: i64, urls: Vec<String>) -> Answer<'_, bool> {
        Box::pin(async move {
            let mut transaction = self.pool.begin().await?;
            let listing = sqlx::query("UPDATE service_listings SET id = id WHERE id = ?")
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            if listing.rows_affected() == 0 {
                return Ok(false);
            }
            sqlx::query("DELETE FROM pictures WHERE listing_id = ?")
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            for (position, url) in (1_i64..).zip(urls) {
                sqlx::query("INSERT INTO pictures (listing_id, position, url) VALUES (?, ?, ?)")
                    .bind(id)
                    .bind(position)
                    .bind(url)
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await?;
            Ok(true)
        })
    }

    fn close_all(&self, seller: i64) -> Answer<'_, u64> {
        Box::pin(async move {
            let done = sqlx::query(
                "UPDATE service_listings SET state = 'closed'
                 WHERE provider_id = ? AND state = 'active'",
            )
            .bind(seller)
            .execute(&self.pool)
            .await?;
            Ok(done.rows_affected())
        })
    }

    fn delete(&self, id: i64) -> Answer<'_, bool> {
        Box::pin(async move {
            let mut transaction = self.pool.begin().await?;
            sqlx::query("DELETE FROM pictures WHERE listing_id = ?")
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            let done = sqlx::query("DELETE FROM service_listings WHERE id = ?")
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(done.rows_affected() > 0)
        })
    }
}
