//! Mappings written in TOML.
