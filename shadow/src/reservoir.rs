//! [`Reservoir`]
use crate::Evidence;
use serde::Serialize;
/// A bounded sample.
#[derive(Debug, Default)]
pub struct Reservoir {}
impl Reservoir {
    /// Default limits.
    #[must_use]
    pub fn new() -> Reservoir {
        Reservoir::default()
    }
    /// Own limits and seed.
    #[must_use]
    pub fn seeded(_per_path: usize, _paths: usize, _seed: u64) -> Reservoir {
        Reservoir::default()
    }
    /// Offers one.
    pub fn offer(&self, _evidence: Evidence) {}
    /// What is kept.
    #[must_use]
    pub fn samples(&self) -> Samples {
        Samples {
            fields: Vec::new(),
            overflow: 0,
        }
    }
}
/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Samples {
    /// By field path.
    pub fields: Vec<FieldSample>,
    /// Not kept for want of a path.
    pub overflow: u64,
}
/// One path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldSample {
    /// The path.
    pub path: String,
    /// Seen.
    pub seen: u64,
    /// Kept.
    pub kept: Vec<Evidence>,
}
