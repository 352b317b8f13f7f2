//! The listings in the tables of the first year.

use sqlx::SqlitePool;

use crate::listings::{Answer, Draft, Listing, Listings, Row};

pub(crate) struct LegacyListings {
    pool: SqlitePool,
}

impl LegacyListings {
    pub(crate) fn new(pool: SqlitePool) -> Self {
        LegacyListings { pool }
    }
}

macro_rules! select {
    ($where:literal) => {
        concat!(
            "SELECT id, tenant_id, title, lower(trim(status)), price_cents,
               (SELECT json_group_array(url) FROM
                 (SELECT url FROM photos WHERE listing_id = listings.id ORDER BY position))
             FROM listings WHERE ",
            $where
        )
    };
}

impl Listings for LegacyListings {
    fn get(&self, id: i64) -> Answer<'_, Option<Listing>> {
        Box::pin(async move {
            let query = sqlx::query_as::<_, Row>(select!("id = ?")).bind(id);
            let row = query.fetch_optional(&self.pool).await?;
            row.map(Listing::from_row).transpose()
        })
    }

    fn of_seller(&self, seller: i64) -> Answer<'_, Vec<Listing>> {
        Box::pin(async move {
            let query = sqlx::query_as::<_, Row>(select!("tenant_id = ? ORDER BY id")).bind(seller);
            let rows = query.fetch_all(&self.pool).await?;
            rows.into_iter().map(Listing::from_row).collect()
        })
    }

    fn create(&self, draft: Draft) -> Answer<'_, Listing> {
        Box::pin(async move {
            let done = sqlx::query(
                "INSERT INTO listings (tenant_id, title, status, price_cents)
                 VALUES (?, ?, 'ACTIVE', ?)",
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
                "UPDATE listings SET tenant_id = ?, title = ?, price_cents = ? WHERE id = ?",
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
            let listing = sqlx::query("UPDATE listings SET photo_count = ? WHERE id = ?")
                .bind(i64::try_from(urls.len())?)
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            if listing.rows_affected() == 0 {
                return Ok(false);
            }
            sqlx::query("DELETE FROM photos WHERE listing_id = ?")
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            for (position, url) in (1_i64..).zip(urls) {
                sqlx::query("INSERT INTO photos (listing_id, position, url) VALUES (?, ?, ?)")
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
                "UPDATE listings SET status = 'CLOSED'
                 WHERE tenant_id = ? AND lower(trim(status)) = 'active'",
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
            sqlx::query("DELETE FROM photos WHERE listing_id = ?")
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            let done = sqlx::query("DELETE FROM listings WHERE id = ?")
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(done.rows_affected() > 0)
        })
    }
}
