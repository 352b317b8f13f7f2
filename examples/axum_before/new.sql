CREATE TABLE IF NOT EXISTS service_listings (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
  provider_id INTEGER NOT NULL,
  title TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('active', 'closed')),
  price_cents INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS service_listings_of_provider ON service_listings (provider_id);
CREATE TABLE IF NOT EXISTS pictures (
  listing_id INTEGER NOT NULL REFERENCES service_listings (id),
  position INTEGER NOT NULL,
  url TEXT NOT NULL,
  PRIMARY KEY (listing_id, position)
);
