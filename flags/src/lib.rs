//! flags

mod key;
mod place;

pub use key::{BadEntity, Entity, Key, Version};
pub use place::{Place, Role};
