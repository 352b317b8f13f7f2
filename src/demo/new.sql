-- The tables of the new schema. {id} and {instant} stand for the engine's words.
CREATE TABLE providers (
  id {id},
  tenant_id BIGINT NOT NULL UNIQUE,
  name TEXT NOT NULL
);

CREATE TABLE addresses (
  id {id},
  city TEXT NOT NULL,
  street TEXT NOT NULL,
  house_number TEXT NOT NULL,
  UNIQUE (city, street, house_number)
);

CREATE TABLE categories (
  id {id},
  name TEXT NOT NULL UNIQUE,
  slug TEXT NOT NULL
);

CREATE TABLE service_listings (
  id {id},
  legacy_listing_id BIGINT NOT NULL UNIQUE,
  provider_id BIGINT NOT NULL REFERENCES providers (id),
  title TEXT NOT NULL,
  description TEXT,
  status TEXT NOT NULL CHECK (status IN ('active', 'paused', 'sold')),
  category_id BIGINT REFERENCES categories (id),
  address_id BIGINT REFERENCES addresses (id),
  created_at {instant} NOT NULL,
  journal TEXT NOT NULL
);
CREATE INDEX service_listings_provider ON service_listings (provider_id, legacy_listing_id);

CREATE TABLE listing_variants (
  id {id},
  service_listing_id BIGINT NOT NULL REFERENCES service_listings (id),
  name TEXT NOT NULL,
  price_cents BIGINT NOT NULL,
  stock BIGINT NOT NULL
);
CREATE INDEX listing_variants_listing ON listing_variants (service_listing_id);

CREATE TABLE listing_media (
  id {id},
  service_listing_id BIGINT NOT NULL REFERENCES service_listings (id),
  position BIGINT NOT NULL,
  url TEXT NOT NULL
);
CREATE INDEX listing_media_listing ON listing_media (service_listing_id);
