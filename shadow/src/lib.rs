//! shadow

mod value;

pub use value::Value;
