//! Records as bytes for logs. Pure: nothing here reads a clock, a file or a name service.

mod cef;
mod ecs;
pub mod rfc3164;
pub mod rfc5424;
mod syslog;
#[cfg(test)]
pub(super) mod tests;

use super::line;
use crate::config::LogFormat;
use crate::core::event::{EventKind, Record, State};

pub use syslog::Origin;

/// The record as one line, without a line break.
pub fn body(format: LogFormat, record: &Record) -> String {
    match format {
        LogFormat::Text => line::line(record, &mut |_| None),
        // A record holds nothing that JSON cannot; were it so, the line for people is better than none.
        LogFormat::Json => {
            serde_json::to_string(record).unwrap_or_else(|_| line::line(record, &mut |_| None))
        }
        LogFormat::Ecs => ecs::document(record).to_string(),
        LogFormat::Cef => cef::line(record),
    }
}

/// The state that a record tells of: what was found, or for a deletion what is gone.
fn state(record: &Record) -> Option<&State> {
    record.event.after.as_ref().or(record.event.before.as_ref())
}

/// Folder and name of an escaped path; an escape never holds a slash.
fn folder_and_name(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((folder, name)) => (folder, name),
        None => ("", path),
    }
}

/// What happened, for a heading.
fn title(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Created => "File created",
        EventKind::Modified => "File modified",
        EventKind::Deleted => "File deleted",
        EventKind::Renamed => "File renamed",
        EventKind::Attributes => "File attributes changed",
        EventKind::Type => "File type changed",
        EventKind::Started => "Monitoring started",
        EventKind::Stopped => "Monitoring stopped",
        EventKind::Reloaded => "Configuration reloaded",
        EventKind::CoverageGap => "Coverage gap",
        EventKind::Rescanned => "Coverage gap closed",
        EventKind::Interrupted => "Response interrupted",
        EventKind::Trouble => "Trouble in fim itself",
        EventKind::Accepted => "Change accepted",
        EventKind::Released => "File released from quarantine",
        EventKind::Purged => "Evidence purged",
        EventKind::Escalated => "Repeated changes escalated",
        EventKind::MaintenanceStarted => "Maintenance window opened",
        EventKind::MaintenanceEnded => "Maintenance window over",
    }
}
