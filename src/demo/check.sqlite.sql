-- The independent check of the demo, for SQLite: every query names what is wrong, one row each, and
-- answers nothing when all is well. It reads the application's tables alone. To run it by hand on
-- the two files that `demo --keep` leaves: start sqlite3 without a file, ATTACH them as `legacy`
-- and `new`, then read this file.

-- Listings, field by field, in both directions.
WITH was AS (
  SELECT l.id, l.tenant_id, l.title, l.description, l.created_at, l.price_cents, l.stock, l.journal,
         lower(trim(l.status)) AS status,
         nullif(lower(trim(l.category)), '') AS category,
         nullif(replace(lower(trim(l.category)), ' ', '-'), '') AS slug,
         nullif(trim(l.city), '') AS city,
         nullif(trim(l.street), '') AS street,
         nullif(trim(l.house_number), '') AS house_number
  FROM legacy.marketplace_listings l
),
now AS (
  SELECT s.legacy_listing_id, p.tenant_id, s.title, s.description, s.created_at, v.price_cents, v.stock,
         s.journal, s.status, c.name, c.slug,
         nullif(a.city, ''), nullif(a.street, ''), nullif(a.house_number, '')
  FROM new.service_listings s
  JOIN new.providers p ON p.id = s.provider_id
  LEFT JOIN new.listing_variants v ON v.service_listing_id = s.id AND v.name = 'default'
  LEFT JOIN new.categories c ON c.id = s.category_id
  LEFT JOIN new.addresses a ON a.id = s.address_id
)
SELECT 'listing ' || id || ' of legacy is missing in new, or differs'
FROM (SELECT * FROM was EXCEPT SELECT * FROM now)
UNION ALL
SELECT 'listing ' || legacy_listing_id || ' of new is not in legacy, or differs'
FROM (SELECT * FROM now EXCEPT SELECT * FROM was);

-- Photos, with how often each stands.
WITH was AS (
  SELECT listing_id, position, url, count(*) AS times
  FROM legacy.listing_photos GROUP BY listing_id, position, url
),
now AS (
  SELECT s.legacy_listing_id AS listing_id, m.position, m.url, count(*) AS times
  FROM new.listing_media m JOIN new.service_listings s ON s.id = m.service_listing_id
  GROUP BY s.legacy_listing_id, m.position, m.url
)
SELECT 'a photo of listing ' || listing_id || ' is missing in new, or differs'
FROM (SELECT * FROM was EXCEPT SELECT * FROM now)
UNION ALL
SELECT 'a photo of listing ' || listing_id || ' in new is not in legacy, or differs'
FROM (SELECT * FROM now EXCEPT SELECT * FROM was);

-- Counts, for what a set cannot see.
SELECT 'listing ' || s.legacy_listing_id || ' has ' || count(v.id) || ' variants instead of one'
FROM new.service_listings s LEFT JOIN new.listing_variants v ON v.service_listing_id = s.id
GROUP BY s.id HAVING count(v.id) <> 1;

SELECT 'there are ' || w.n || ' listings in legacy and ' || i.n || ' in new'
FROM (SELECT count(*) AS n FROM legacy.marketplace_listings) w,
     (SELECT count(*) AS n FROM new.service_listings) i
WHERE w.n <> i.n;

-- Children without a parent.
SELECT 'a variant or a photo of new belongs to no listing: ' || parent
FROM (SELECT service_listing_id AS parent FROM new.listing_variants
      UNION ALL SELECT service_listing_id FROM new.listing_media)
WHERE parent NOT IN (SELECT id FROM new.service_listings);
