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
    section.refuse_unknown(&["seal_interval", "max_age", "max_size"])?;
    if let Some(interval) = section.duration("seal_interval", Duration::from_secs(1))? {
        config.seal_interval = interval;
    }
    config.retention.max_age = section.duration("max_age", Duration::from_secs(60))?;
    if let Some(found) = section.text("max_size")? {
        let size = parse_size(&found.value).filter(|size| *size >= LEAST_SIZE);
        let wrong = || {
            section.bad(
                found.line,
                "max_size",
                "must be a size of at least \"1M\", such as \"500M\" or \"2G\"",
            )
        };
        config.retention.max_size = Some(size.ok_or_else(wrong)?);
    }
    Ok(config)
}

/// `500M`: a whole number with `K`, `M`, `G` or `T`, each 1024 times the one before.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}
