-- The tables of the old schema. {id} and {instant} stand for the engine's words.
CREATE TABLE tenants (
  id BIGINT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL
);

CREATE TABLE marketplace_listings (
  id {id},
  tenant_id BIGINT NOT NULL REFERENCES tenants (id),
  title TEXT NOT NULL,
  description TEXT,
  category TEXT,
  status TEXT NOT NULL,
  house_number TEXT,
  street TEXT,
  city TEXT,
  price_cents BIGINT NOT NULL,
  stock BIGINT NOT NULL,
  created_at {instant} NOT NULL,
  journal TEXT NOT NULL
);
CREATE INDEX marketplace_listings_tenant ON marketplace_listings (tenant_id, id);

CREATE TABLE listing_photos (
  id {id},
  listing_id BIGINT NOT NULL REFERENCES marketplace_listings (id),
  position BIGINT NOT NULL,
  url TEXT NOT NULL
);
CREATE INDEX listing_photos_listing ON listing_photos (listing_id);
