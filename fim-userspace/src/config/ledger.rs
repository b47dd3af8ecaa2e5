//! `[ledger]`: seals and retention.

use std::time::Duration;

use super::error::ConfigError;
use super::read::Section;
use crate::store::Retention;

/// How the ledger is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerConfig {
    pub seal_interval: Duration,
    pub retention: Retention,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self { seal_interval: Duration::from_secs(15 * 60), retention: Retention::default() }
    }
}

/// Less would hardly keep what happened today.
const LEAST_SIZE: u64 = 1 << 20;

pub(super) fn read(section: Option<Section<'_>>) -> Result<LedgerConfig, ConfigError> {
    let mut config = LedgerConfig::default();
    let Some(mut section) = section else { return Ok(config) };
    section.refuse_unknown(&super::keys::LEDGER.names())?;
    if let Some(interval) = section.duration("seal_interval", Duration::from_secs(1))? {
        config.seal_interval = interval;
    }
    config.retention.max_age = section.duration("max_age", Duration::from_secs(60))?;
    config.retention.max_size = section.size("max_size", LEAST_SIZE)?;
    Ok(config)
}
