//! changeover
