//! The protocol's shipped SQL on real servers, in every topology.

pub mod market;
pub mod plain;

mod adapter;
mod carried;
mod effort;
mod evidence;
mod in_flight;
mod installers;
mod isolation;
mod keys;
pub mod lifecycle;
mod loads;
mod mariadb;
mod moved;
mod notes;
mod out_of_band;
mod partitions;
mod parts;
mod poison;
pub mod races;
mod refusals;
mod reinstalled;
mod replace;
mod restored;
mod revisions;
mod rust_mapping;
mod sets;
mod sizes;
mod standing;
pub mod stock;
mod summed_keys;
mod summed_pairs;
mod summed_rows;
pub mod sums;
mod to_mariadb;
mod uninstallers;
