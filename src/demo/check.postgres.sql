-- The independent check of the demo, for two PostgreSQL databases: the first query of each pair is
-- for legacy, the second for new, and both must answer the same rows in the same order. They read
-- the application's tables alone. Every column is text, so that nothing is rounded on the way.

-- Listings, field by field.
SELECT l.id::text, l.tenant_id::text, l.title, l.description, l.created_at::text, l.price_cents::text,
       l.stock::text, l.journal, lower(trim(l.status)),
       nullif(lower(trim(l.category)), ''),
       nullif(replace(lower(trim(l.category)), ' ', '-'), ''),
       nullif(trim(l.city), ''), nullif(trim(l.street), ''), nullif(trim(l.house_number), '')
FROM marketplace_listings l
ORDER BY l.id;

SELECT s.legacy_listing_id::text, p.tenant_id::text, s.title, s.description, s.created_at::text,
       v.price_cents::text, v.stock::text, s.journal, s.status, c.name, c.slug,
       nullif(a.city, ''), nullif(a.street, ''), nullif(a.house_number, '')
FROM service_listings s
JOIN providers p ON p.id = s.provider_id
LEFT JOIN listing_variants v ON v.service_listing_id = s.id
LEFT JOIN categories c ON c.id = s.category_id
LEFT JOIN addresses a ON a.id = s.address_id
ORDER BY s.legacy_listing_id;

-- Photos.
SELECT p.listing_id::text, p.position::text, p.url
FROM listing_photos p
ORDER BY p.listing_id, p.position, p.url COLLATE "C";

SELECT s.legacy_listing_id::text, m.position::text, m.url
FROM listing_media m JOIN service_listings s ON s.id = m.service_listing_id
ORDER BY s.legacy_listing_id, m.position, m.url COLLATE "C";

-- Counts.
SELECT count(*)::text, count(*)::text FROM marketplace_listings;

SELECT (SELECT count(*)::text FROM service_listings), (SELECT count(*)::text FROM listing_variants);
