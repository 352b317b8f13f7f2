//! Figures on a PostgreSQL server of our own, two databases of it.

mod history;
mod load;
pub mod shop;
mod writes;

pub use history::rows as history;
pub use load::rows as load;
pub use writes::rows as writes;
