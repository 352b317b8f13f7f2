//! Stamp, copy and fence: the worker of a changeover.

pub mod image;
pub mod mapping;
pub mod store;
