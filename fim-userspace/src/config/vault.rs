//! `[vault]`: how much is kept, and for how long.

use std::time::Duration;

use super::error::ConfigError;
use super::read::Section;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VaultConfig {
    /// Bytes that all objects together may take.
    pub max_size: Option<u64>,
    /// How long evidence and former versions are kept.
    pub max_age: Option<Duration>,
    /// Bytes always left on the vault's file system; `None`: what the vault leaves by itself.
    pub min_free: Option<u64>,
}

pub(super) fn read(section: Option<Section<'_>>) -> Result<VaultConfig, ConfigError> {
    let Some(mut section) = section else {
        return Ok(VaultConfig::default());
    };
    section.refuse_unknown(&super::keys::VAULT.names())?;
    Ok(VaultConfig {
        max_size: section.size("max_size", 1)?,
        max_age: section.duration("max_age", Duration::from_secs(1))?,
        min_free: section.size("min_free", 0)?,
    })
}
