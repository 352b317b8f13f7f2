//! The legacy rows: made from a seed, with the mess that real tables have.
//!
//! Nulls, blanks, odd cases, trailing spaces, text from many scripts, characters that take four
//! bytes, the first and the last day, amounts beyond what a float can hold, duplicates of
//! everything that may be duplicated. The same seed gives the same rows on every machine.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::database::Databases;
use super::market::Draft;
use super::store::{Cell, Work};
use crate::screen::Bar;

/// Rows of one insert; their arguments stay below what SQLite and PostgreSQL can bind.
const ROWS_AT_ONCE: i64 = 1_000;
/// How a row's journal begins that was there before the demo.
pub(super) const BORN: &str = "0;";

const CATEGORIES: [&str; 12] = [
    "Sofas",
    "sofas ",
    "SOFAS",
    "Garden Tools",
    "garden tools",
    " Lamps",
    "lamps",
    "Bücher",
    "bücher ",
    "家具",
    "Bikes & Parts",
    "bikes & parts",
];
const STATUSES: [&str; 8] = [
    "ACTIVE", "ACTIVE", "active", "Active ", "PAUSED", " paused", "SOLD", "Sold  ",
];
const NOUNS: [&str; 10] = [
    "lamp",
    "chair",
    "Straßenrad",
    "椅子",
    "biciclétte",
    "O'Neill \"board\"",
    "🛋️ sofa",
    "كرسي",
    "c\\hair; DROP TABLE x --",
    "table,\tused\n",
];
const CITIES: [&str; 8] = [
    "Oslo",
    "oslo",
    "København",
    "東京",
    "Newcastle upon Tyne ",
    "Paris",
    "Lima",
    "",
];
const STREETS: [&str; 6] = [
    "Mill Lane",
    "Mill Lane ",
    "Højbro Plads",
    "Rue de l'Église",
    "5th Ave",
    "",
];
const INSTANTS: [&str; 7] = [
    "0001-01-01 00:00:00+00",
    "9999-12-31 23:59:59.999999+00",
    "1969-12-31 23:59:59.999999+00",
    "1970-01-01 00:00:00+00",
    "2024-02-29 12:00:00.1+00",
    "1582-10-10 00:00:00+00",
    "2038-01-19 03:14:08+00",
];
const AMOUNTS: [i64; 6] = [0, 1, -1, i64::MAX, i64::MIN, 9_007_199_254_740_993];

/// How many tenants share `rows` listings.
pub(super) fn tenants(rows: i64) -> i64 {
    (rows / 100).clamp(20, 1_000)
}

/// Whose listing number `id` is.
pub(super) fn tenant_of(seed: u64, id: i64, tenants: i64) -> i64 {
    let tenants = tenants.unsigned_abs().max(1);
    1 + i64::try_from((scattered(seed, id) >> 16) % tenants).unwrap_or_default()
}

/// One number of two: neighbours are far apart.
fn scattered(seed: u64, id: i64) -> u64 {
    seed ^ id.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Listing number `id`.
pub(super) fn draft(seed: u64, id: i64, tenants: i64) -> Draft {
    let mut random = SmallRng::seed_from_u64(scattered(seed, id));
    let rare = random.random_range(0..50) == 0;
    let blank = |random: &mut SmallRng| match random.random_range(0..20) {
        0 | 1 => Some(None),
        2 => Some(Some("  ".to_owned())),
        _ => None,
    };
    let space = if random.random_range(0..10) == 0 {
        "  "
    } else {
        ""
    };
    let title = format!("{} no. {id}{space}", pick(&mut random, &NOUNS));
    let description = match random.random_range(0..4) {
        0 => None,
        1 => Some(String::new()),
        _ => Some(pick(&mut random, &NOUNS).repeat(random.random_range(1..6))),
    };
    let category =
        blank(&mut random).unwrap_or_else(|| Some(pick(&mut random, &CATEGORIES).to_owned()));
    let house_number = blank(&mut random).unwrap_or_else(|| {
        let letter = ["", "", "", "a", " B"];
        Some(format!(
            "{}{}",
            random.random_range(1..40),
            pick(&mut random, &letter)
        ))
    });
    let street = blank(&mut random).unwrap_or_else(|| Some(pick(&mut random, &STREETS).to_owned()));
    let city = blank(&mut random).unwrap_or_else(|| Some(pick(&mut random, &CITIES).to_owned()));
    let created_at = if rare {
        pick(&mut random, &INSTANTS).to_owned()
    } else {
        let (month, day) = (random.random_range(1..=12), random.random_range(1..=28));
        let (hour, minute) = (random.random_range(0..24), random.random_range(0..60));
        let year = random.random_range(2009..2026);
        format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:00+00")
    };
    Draft {
        tenant: tenant_of(seed, id, tenants),
        title,
        description,
        category,
        status: pick(&mut random, &STATUSES).to_owned(),
        house_number,
        street,
        city,
        price_cents: if rare {
            AMOUNTS[random.random_range(0..AMOUNTS.len())]
        } else {
            random.random_range(100..500_000)
        },
        stock: random.random_range(0..100),
        created_at,
        journal: BORN.to_owned(),
    }
}

fn pick<'a>(random: &mut SmallRng, words: &[&'a str]) -> &'a str {
    words[random.random_range(0..words.len())]
}

/// Creates both schemas, fills the old one with `rows` listings and the new one with providers.
pub(super) async fn fill(
    databases: &Databases,
    rows: i64,
    seed: u64,
    bar: &Bar,
) -> Result<(), sqlx::Error> {
    databases.legacy.script(include_str!("legacy.sql")).await?;
    databases.new.script(include_str!("new.sql")).await?;
    let tenants = tenants(rows);
    let mut legacy = databases.legacy.begin().await?;
    let mut new = databases.new.begin().await?;
    for tenant in 1..=tenants {
        let cells = [tenant.into(), Cell::Text(format!("Tenant {tenant}"))];
        legacy
            .execute("INSERT INTO tenants (id, name) VALUES ($1, $2)", &cells)
            .await?;
        // Not the same id: the lookup has something to look up.
        let cells = [
            (tenants - tenant + 1_001).into(),
            tenant.into(),
            cells[1].clone(),
        ];
        new.execute(
            "INSERT INTO providers (id, tenant_id, name) VALUES ($1, $2, $3)",
            &cells,
        )
        .await?;
    }
    new.commit().await?;
    let mut first = 1;
    while first <= rows {
        let last = rows.min(first + ROWS_AT_ONCE - 1);
        listings(&mut legacy, first..=last, seed, tenants).await?;
        bar.at(last.unsigned_abs());
        first = last + 1;
    }
    let postgres = matches!(legacy, Work::Postgres(_));
    if postgres {
        let next = "SELECT setval(pg_get_serial_sequence('marketplace_listings', 'id'), $1)";
        legacy.execute(next, &[rows.into()]).await?;
    }
    legacy.commit().await?;
    if postgres {
        // As its autovacuum would have, in a table that has stood for years.
        databases.legacy.script("ANALYZE").await?;
    }
    Ok(())
}

async fn listings(
    work: &mut Work,
    ids: std::ops::RangeInclusive<i64>,
    seed: u64,
    tenants: i64,
) -> Result<(), sqlx::Error> {
    let listing = "INSERT INTO marketplace_listings (id, tenant_id, title, description, category, \
         status, house_number, street, city, price_cents, stock, created_at, journal)";
    let mut listings = Rows::new(work, listing, Some(11));
    let photo = "INSERT INTO listing_photos (listing_id, position, url)";
    let mut photos = Rows::new(work, photo, None);
    for id in ids {
        let cells = std::iter::once(id.into()).chain(draft(seed, id, tenants).cells());
        listings.push(cells.collect());
        for position in 0..(id % 7 - 4).max(0) {
            let url = format!("https://img.example/{id}/{position}.jpg");
            photos.push(vec![id.into(), position.into(), Cell::Text(url)]);
        }
    }
    listings.insert(work).await?;
    photos.insert(work).await
}

/// An insert of many rows.
struct Rows {
    sql: String,
    cells: Vec<Cell>,
    /// The column that holds an instant.
    instant: Option<usize>,
    /// Whether arguments are numbered; SQLite takes n² steps to find n of them by number.
    numbered: bool,
}

impl Rows {
    fn new(work: &Work, insert: &str, instant: Option<usize>) -> Rows {
        Rows {
            sql: format!("{insert} VALUES "),
            cells: Vec::new(),
            instant,
            numbered: matches!(work, Work::Postgres(_)),
        }
    }

    fn push(&mut self, row: Vec<Cell>) {
        self.sql
            .push_str(if self.cells.is_empty() { "(" } else { ", (" });
        for (column, cell) in row.into_iter().enumerate() {
            self.cells.push(cell);
            let comma = if column == 0 { "" } else { ", " };
            let mark = if self.numbered {
                format!("${}", self.cells.len())
            } else {
                "?".to_owned()
            };
            let mark = if self.instant == Some(column) {
                format!("CAST({mark} AS {{instant}})")
            } else {
                mark
            };
            self.sql.push_str(comma);
            self.sql.push_str(&mark);
        }
        self.sql.push(')');
    }

    async fn insert(self, work: &mut Work) -> Result<(), sqlx::Error> {
        if !self.cells.is_empty() {
            work.execute(&self.sql, &self.cells).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_rows_and_they_are_a_mess() {
        let rows: Vec<Draft> = (1..2_000).map(|id| draft(7, id, 20)).collect();
        let again: Vec<String> = (1..2_000)
            .map(|id| format!("{:?}", draft(7, id, 20)))
            .collect();
        assert!(
            rows.iter()
                .zip(&again)
                .all(|(row, again)| format!("{row:?}") == *again)
        );
        assert_ne!(format!("{:?}", draft(8, 1, 20)), again[0]);

        let any = |mess: fn(&Draft) -> bool| rows.iter().any(mess);
        assert!(any(|row| row.category.is_none() && row.city.is_some()));
        assert!(any(|row| row.street.as_deref() == Some("  ")));
        assert!(any(|row| row.status.ends_with(' ')) && any(|row| row.title.ends_with(' ')));
        assert!(any(|row| row.title.contains('\u{1f6cb}')));
        assert!(any(|row| row.price_cents == i64::MIN) && any(|row| row.price_cents == i64::MAX));
        assert!(any(|row| row.created_at.starts_with("0001")));
    }
}
