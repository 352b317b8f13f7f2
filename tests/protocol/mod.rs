//! The protocol's shipped SQL on real servers, in every topology.

pub mod market;

pub mod lifecycle;
mod isolation;
mod out_of_band;
mod races;
