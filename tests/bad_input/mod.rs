//! What the product is told wrong: a clear error that names the field and the remedy, and nothing
//! written, on real servers.

mod fields;
mod locks;
mod names;
mod reach;
mod roles;
mod stages;
mod stand;
mod wrong;
