//! Pages of history: [`Page`] as images, [`RawPage`] as one engine writes it for another.

use changeover_flags::Key;

use super::Stamped;
use crate::image::Image;

/// One page of history.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// Images and versions, in key-column order, read at one instant.
    pub stamped: Vec<Stamped>,
    /// The last key read: where the next page starts. `None` when nothing was read.
    pub last: Option<Key>,
}

impl Page {
    /// About how many bytes of values it holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let images = self
            .stamped
            .iter()
            .filter_map(|one| one.image.as_ref().ok());
        images.map(Image::bytes).sum()
    }
}

/// A page of history as one side writes it and the other one reads it, which nobody in between looks
/// into: keys that were not stamped when it was read, at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RawPage {
    /// The rows of each of the mapping's targets.
    pub targets: Vec<RawRows>,
    /// How many keys it passes, stamped ones included.
    pub keys: u64,
    /// The last of them: where the next page starts. `None` when nothing was read.
    pub last: Option<Key>,
}

impl RawPage {
    /// How many bytes it holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.targets.iter().map(|one| one.rows.len() as u64).sum()
    }
}

/// The rows of one target in a [`RawPage`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RawRows {
    /// As the authority's engine wrote them.
    pub rows: Vec<u8>,
    /// Whether they are written as their types store them, which are those of the columns they go to.
    pub typed: bool,
}
