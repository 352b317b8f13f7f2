//! Figures on a PostgreSQL server of our own, two databases of it.

mod load;
pub mod shop;
mod writes;

pub use load::rows as load;
pub use writes::rows as writes;
