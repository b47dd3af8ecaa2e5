//! Readers of the ledger, each with its own durable cursor: at least once, in order, with stable event ids.

pub mod alert;
mod backoff;
mod cursor;
pub mod differences;
pub mod failures;
mod file;
pub mod format;
mod journald;
mod keyed;
pub mod line;
mod reopen;
mod runner;
pub mod sql;
mod syslog;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Config, LogConfig, LogKind, SecretError};
use crate::core::event::Record;
use crate::store::StoreError;
use cursor::with_store;

pub use backoff::Backoff;
pub use differences::Differences;
pub use file::FileSink;
pub use journald::Journald;
pub use reopen::Reopen;
pub use runner::Runner;
pub use sql::{Central, CentralLines};
pub use syslog::Syslog;

/// One way out of the ledger.
pub trait Sink: Send + 'static {
    /// Names the cursor; must stay the same for ever.
    fn name(&self) -> &str;

    /// Delivers the beginning of `records` (never empty), in order. On an error none of them was delivered, as far as
    /// is known, and the same ones are offered again.
    fn deliver(&mut self, records: &[Record]) -> impl Future<Output = Result<Delivered, SinkError>> + Send;

    /// Whether it keeps records rather than tells people of them: then it gets the muted ones too.
    fn keeps_records(&self) -> bool {
        false
    }

    /// How often the receiver is to hear that this host is there, when there is nothing to deliver.
    fn pulse_period(&self) -> Option<Duration> {
        None
    }

    /// Lets the receiver know.
    fn pulse(&mut self) -> impl Future<Output = Result<(), SinkError>> + Send {
        async { Ok(()) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// How many records are done with, from the first on; at least one.
    pub count: usize,
    /// Records among them that the receiver refused for good, with its reason.
    pub parked: Vec<String>,
}

impl Delivered {
    pub fn all(records: &[Record]) -> Self {
        Self { count: records.len(), parked: Vec::new() }
    }
}

/// Why nothing was delivered. It is tried again: what can never succeed is parked instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    #[error("{reason}")]
    Failed {
        reason: String,
        /// How long the receiver asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// The receiver does not exist on this machine, which is no fault.
    #[error("{0}")]
    Idle(String),
}

/// A sink that cannot even begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the alert {name:?} cannot be sent: {source}")]
    Secret { name: String, source: SecretError },
    #[error("the alert {name:?} cannot be sent: {reason}; check the system's CA certificates")]
    Client { name: String, reason: String },
    #[error("the [[log]] {name:?} cannot be sent: {reason}")]
    Log { name: String, reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Central(#[from] sql::CentralError),
    #[error(transparent)]
    Key(#[from] differences::KeyError),
}

/// How long the daemon's end waits for what is still to be delivered.
const PATIENCE: Duration = Duration::from_secs(5);

/// All sinks at work.
pub struct Sinks {
    bell: Bell,
    reopen: Reopen,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Tells the sinks that the ledger has grown.
#[derive(Clone, Debug, Default)]
pub struct Bell(watch::Sender<u64>);

impl Bell {
    /// Never waits.
    pub fn ring(&self) {
        self.0.send_modify(|rung| *rung = rung.wrapping_add(1));
    }
}

/// Starts the journal's sink, the lanes of each alert, the central database and each log, on `runtime`. Their cursors exist
/// on return, so that a new sink sees every record that is appended from then on. `report` hears of alerts that are refused
/// for good.
pub fn start(
    runtime: &Handle,
    config: &Config,
    report: &alert::Report,
    bell: &Bell,
) -> Result<Sinks, StartError> {
    let dir = &config.state.dir;
    let mut sinks = Sinks {
        bell: bell.clone(),
        reopen: Reopen::default(),
        stop: watch::Sender::new(false),
        tasks: Vec::new(),
    };
    sinks.add(runtime, Runner::new(Journald::new(), dir)?);
    sinks.add(runtime, Runner::new(Differences::new(dir, &config.secrets)?, dir)?);
    for alert in &config.alerts {
        // All of an alert's cursors first: a new one begins where another stands still.
        for lane in alert::open_lanes(alert, &config.secrets, dir, report)? {
            sinks.tasks.push(runtime.spawn(lane.run(sinks.bell.0.subscribe(), sinks.stop.subscribe())));
        }
    }
    if let Some(central) = &config.central {
        sinks.add(runtime, Runner::new(Central::new(central, dir)?, dir)?);
        sinks.add(runtime, Runner::new(CentralLines::new(central, dir)?, dir)?);
    }
    for log in &config.logs {
        let (name, least) = (&log.name, log.min_severity);
        match &log.kind {
            LogKind::File(file) => {
                let sink = FileSink::new(name, least, file.clone(), sinks.reopen());
                sinks.add(runtime, Runner::new(sink, dir)?);
            }
            LogKind::Syslog(_) => {
                if let Some(sink) = syslog(log)? {
                    sinks.add(runtime, Runner::new(sink, dir)?);
                }
            }
        }
    }
    Ok(sinks)
}

/// Reads every secret and makes every client, as [`start`] would, and leaves no trace.
pub fn check(config: &Config) -> Result<(), StartError> {
    config.central.as_ref().map_or(Ok(()), sql::check)?;
    config.alerts.iter().try_for_each(alert::check)?;
    config.logs.iter().try_for_each(|log| syslog(log).map(drop))
}

impl Sinks {
    fn add<S: Sink>(&mut self, runtime: &Handle, runner: Runner<S>) {
        self.tasks.push(runtime.spawn(runner.run(self.bell.0.subscribe(), self.stop.subscribe())));
    }

    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// To ring when somebody else has renamed the log files.
    pub fn reopen(&self) -> Reopen {
        self.reopen.clone()
    }

    /// Lets the sinks deliver what is there, for [`PATIENCE`] at most. What remains is delivered after the next start.
    pub fn drain(self, runtime: &Runtime) {
        runtime.block_on(self.stop());
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for mut task in self.tasks {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

/// `None` for logs of other types.
fn syslog(log: &LogConfig) -> Result<Option<Syslog>, StartError> {
    let LogKind::Syslog(config) = &log.kind else { return Ok(None) };
    let made = Syslog::new(&log.name, log.min_severity, config.clone());
    made.map(Some).map_err(|reason| StartError::Log { name: log.name.clone(), reason })
}

/// The host's name, as records carry it.
pub fn host() -> String {
    nix::unistd::gethostname()
        .map(|name| crate::core::path::escape(std::os::unix::ffi::OsStrExt::as_bytes(name.as_os_str())))
        .unwrap_or_else(|_| "unknown".into())
}

/// The present time as the ledger writes it.
fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

/// Opens the database for a sink: a connection of its own, so that a slow receiver never holds up the daemon's.
fn open(dir: &Path) -> Result<crate::store::Store, StoreError> {
    crate::store::Store::open_beside(dir)
}
