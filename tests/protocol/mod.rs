//! The protocol's shipped SQL on real servers, in every topology.

pub mod market;

mod isolation;
pub mod lifecycle;
mod out_of_band;
mod races;
mod rust_mapping;
