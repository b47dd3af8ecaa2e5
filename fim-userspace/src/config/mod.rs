//! The configuration file: one TOML document, unknown keys refused.
//!
//! Each complaint is one sentence with file, line and key, and says what to write instead. No complaint repeats a
//! value that may be secret.

mod alert;
pub(crate) mod central;
mod control;
mod error;
pub mod keys;
mod ledger;
mod log;
mod metrics;
mod read;
mod secret;
pub mod show;
#[cfg(test)]
mod tests;
mod trust;
mod vault;
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use alert::{
    AlertConfig, AlertKind, EmailConfig, JOURNALD, TwilioConfig, TwilioSender, Url, WebhookConfig,
};
pub use central::{CENTRAL, CENTRAL_LINES, CentralConfig, Dialect, Place};
pub use control::{ControlConfig, DEFAULT_SOCKET};
pub use error::{ConfigError, SecretError};
pub use ledger::LedgerConfig;
pub use log::{
    Facility, FileLog, LogConfig, LogFormat, LogKind, Rotation, SyslogAddress, SyslogConfig, SyslogHeader,
    TlsFiles, Transport,
};
pub use metrics::MetricsConfig;
pub use secret::{Secret, SecretSource};
pub use trust::{TrustConfig, UserName, real_paths};
pub use vault::VaultConfig;
pub use watch::{Lines, RuleLines, WatchConfig};

pub(crate) use read::parse_duration;

use sha2::{Digest as _, Sha256};

use crate::core::entry::Digest;
use crate::core::mask::Masks;
use crate::core::policy::{Secrets, Severity};
use read::{Section, Source};

pub const DEFAULT_FILE: &str = "/etc/fim/fim.toml";
pub const DEFAULT_STATE_DIR: &str = "/var/lib/fim";

/// The name of the sink that compares lines.
pub const DIFFERENCES: &str = "differences";
/// Names that no alert and no log can have.
const OWN_SINKS: [&str; 4] = [JOURNALD, CENTRAL, CENTRAL_LINES, DIFFERENCES];

const SELF_TEST: Duration = Duration::from_secs(300);

const SEVERITIES: [(&str, Severity); 4] = [
    ("low", Severity::Low),
    ("medium", Severity::Medium),
    ("high", Severity::High),
    ("critical", Severity::Critical),
];

#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// SHA-256 of what stands in it: tells whether it has changed since.
    pub digest: Digest,
    pub state: StateConfig,
    pub control: ControlConfig,
    pub metrics: MetricsConfig,
    pub sensor: SensorConfig,
    pub vault: VaultConfig,
    pub ledger: LedgerConfig,
    /// At least one; no path lies within another. A [`WatchId`](crate::core::observation::WatchId) is an index here.
    pub watches: Vec<WatchConfig>,
    pub alerts: Vec<AlertConfig>,
    /// The central database, if there is one.
    pub central: Option<CentralConfig>,
    pub logs: Vec<LogConfig>,
    /// Whose changes are authorised.
    pub trust: Vec<TrustConfig>,
    /// Which paths are secret.
    pub secrets: Secrets,
}

#[derive(Clone, Debug)]
pub struct StateConfig {
    pub dir: PathBuf,
}

#[derive(Clone, Debug)]
pub struct SensorConfig {
    pub tier: TierChoice,
    /// Within this time every file is read again.
    pub scan_period: Duration,
    /// What is secret in command lines.
    pub masks: Arc<Masks>,
    /// How often the sensors are tried; zero: never.
    pub self_test: Duration,
}

/// The highest tier to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierChoice {
    Auto,
    Lsm,
    Fentry,
    Tracepoint,
    Fanotify,
    /// No kernel sensor: what a scan finds.
    Scan,
}

impl TierChoice {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Lsm => "lsm",
            Self::Fentry => "fentry",
            Self::Tracepoint => "tracepoint",
            Self::Fanotify => "fanotify",
            Self::Scan => "scan",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookFormat {
    Json,
    Slack,
    Teams,
    Discord,
    Pagerduty,
}

impl WebhookFormat {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Slack => "slack",
            Self::Teams => "teams",
            Self::Discord => "discord",
            Self::Pagerduty => "pagerduty",
        }
    }
}

impl Config {
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let bytes = std::fs::read(file).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ConfigError::Missing(file.into()),
            _ => ConfigError::Unreadable { file: file.into(), source },
        })?;
        Self::from_bytes(file, &bytes)
    }

    /// What was read from `file`.
    pub fn from_bytes(file: &Path, bytes: &[u8]) -> Result<Self, ConfigError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(file, text),
            Err(e) => {
                let line = 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
                Err(ConfigError::NotText { file: file.into(), line })
            }
        }
    }

    /// Reads `text`; `file` is only named in complaints.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let source = Source { file, text };
        let mut document = Section::document(source)?;
        document.refuse_unknown(&keys::SECTIONS)?;
        let state = StateConfig { dir: state_dir(document.table("state")?)? };
        let control = control::read(document.table("control")?)?;
        let metrics = metrics::read(document.table("metrics")?)?;
        let sensor = sensor(document.table("sensor")?)?;
        let ledger = ledger::read(document.table("ledger")?)?;
        let vault = vault::read(document.table("vault")?)?;
        let watches = document.tables("watch")?;
        if watches.is_empty() {
            let sentence =
                "no [[watch]] says what to guard; add for example two lines: [[watch]] and path = \"/etc\"";
            return Err(source.whole(sentence));
        }
        let (alerts, named) = alerts(source, document.tables("alert")?)?;
        let logs = log::read_all(source, document.tables("log")?, &alerts)?;
        let central = document.table("central")?.map(central::read).transpose()?;
        let watches = watch::read_all(source, watches, &state.dir, &logs)?;
        alert::check_watches(source, &named, &watches)?;
        let trust = trust::read_all(source, document.tables("trust")?, &watches)?;
        let own = secret::files(file, &alerts, central.as_ref(), &logs);
        let policies = watches.iter().map(|watch| (watch.path.as_path(), &watch.policy));
        let secrets = Secrets::new(&own, policies).map_err(|e| source.whole(e.to_string()))?;
        Ok(Self {
            file: file.into(),
            digest: Digest(Sha256::digest(text).into()),
            state,
            control,
            metrics,
            sensor,
            ledger,
            vault,
            watches,
            alerts,
            central,
            logs,
            trust,
            secrets,
        })
    }
}

fn state_dir(section: Option<Section<'_>>) -> Result<PathBuf, ConfigError> {
    let Some(mut section) = section else {
        return Ok(DEFAULT_STATE_DIR.into());
    };
    section.refuse_unknown(&keys::STATE.names())?;
    match section.has("dir") {
        true => {
            let found = section.need_text("dir", "\"/var/lib/fim\"")?;
            section.absolute("dir", &found)
        }
        false => Ok(DEFAULT_STATE_DIR.into()),
    }
}

fn sensor(section: Option<Section<'_>>) -> Result<SensorConfig, ConfigError> {
    const DAY: Duration = Duration::from_secs(86_400);
    let Some(mut section) = section else {
        return Ok(SensorConfig {
            tier: TierChoice::Auto,
            scan_period: DAY,
            masks: Arc::default(),
            self_test: SELF_TEST,
        });
    };
    section.refuse_unknown(&keys::SENSOR.names())?;
    let tiers = [
        TierChoice::Auto,
        TierChoice::Lsm,
        TierChoice::Fentry,
        TierChoice::Tracepoint,
        TierChoice::Fanotify,
        TierChoice::Scan,
    ]
    .map(|t| (t.as_str(), t));
    let masks = match section.texts("mask")? {
        None => Masks::default(),
        Some(texts) => {
            let line_of = |at: usize| texts.value.get(at).map_or(texts.line, |text| text.line);
            let each: Vec<String> = texts.value.iter().map(|text| text.value.clone()).collect();
            Masks::with(&each).map_err(|(at, reason)| {
                let sentence = format!("has something that is no regular expression ({reason}); correct it");
                section.bad(line_of(at), "mask", &sentence)
            })?
        }
    };
    Ok(SensorConfig {
        masks: Arc::new(masks),
        self_test: section.duration("self_test", Duration::ZERO)?.unwrap_or(SELF_TEST),
        tier: section.choice("tier", &tiers)?.unwrap_or(TierChoice::Auto),
        scan_period: section.duration("scan_period", Duration::from_secs(1))?.unwrap_or(DAY),
    })
}

fn alerts(
    source: Source<'_>,
    sections: Vec<Section<'_>>,
) -> Result<(Vec<AlertConfig>, Vec<alert::Named>), ConfigError> {
    let mut named = Vec::new();
    let mut alerts: Vec<AlertConfig> = Vec::with_capacity(sections.len());
    for section in sections {
        let (alert, line) = alert::read(section, &mut named)?;
        let shown = alert.name.escape_debug();
        if OWN_SINKS.contains(&alert.name.as_str()) {
            let sentence = format!(
                "an [[alert]] cannot be called \"{shown}\", one of fim's own ways out has that name; choose another"
            );
            return Err(source.at(line, sentence));
        }
        if alerts.iter().any(|a| a.name == alert.name) {
            let sentence = format!("two [[alert]] are called \"{shown}\"; give each its own name = \"…\"");
            return Err(source.at(line, sentence));
        }
        alerts.push(alert);
    }
    Ok((alerts, named))
}
