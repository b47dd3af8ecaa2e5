//! The configuration file: one TOML document, unknown keys refused.
