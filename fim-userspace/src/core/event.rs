//! One ledger record, in the shape that scripts rely on (`fim log --json`).

use base64::Engine;
use serde::{Deserialize, Serialize};

use super::actor::Actor;
use super::change::ChangeKind;
use super::entry::{Aspect, Entry, FileType};
use super::observation::Source;
use super::path::escape;
use super::policy::Severity;

/// What a record is about: a change of a file, or something about fim's own sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Created,
    Modified,
    Deleted,
    Renamed,
    Attributes,
    Type,
    /// Monitoring began: what is watched and with which tier stands in `message`.
    Started,
    Stopped,
    /// Another configuration came into force, without a gap; what is watched from then on stands in `message`.
    Reloaded,
    /// Reports may have been lost; the watch is scanned again.
    CoverageGap,
    /// A gap was closed by a scan.
    Rescanned,
    /// The daemon died in the middle of a response; the file is looked at again.
    Interrupted,
    /// Something is wrong with fim's own means: a sensor, the vault, the database.
    Trouble,
    /// A person made the present state, or an older version, the approved one.
    Accepted,
    /// A person took something out of quarantine.
    Released,
    /// Evidence or old versions were removed from the vault, by a person or by a limit.
    Purged,
    /// One path is changed again and again; further records about it are muted for a while.
    Escalated,
    /// A person opened a maintenance window.
    MaintenanceStarted,
    /// It is over: what was done in it, in one sentence.
    MaintenanceEnded,
}

impl EventKind {
    pub const ALL: [Self; 19] = [
        Self::Created,
        Self::Modified,
        Self::Deleted,
        Self::Renamed,
        Self::Attributes,
        Self::Type,
        Self::Started,
        Self::Stopped,
        Self::Reloaded,
        Self::CoverageGap,
        Self::Rescanned,
        Self::Interrupted,
        Self::Trouble,
        Self::Accepted,
        Self::Released,
        Self::Purged,
        Self::Escalated,
        Self::MaintenanceStarted,
        Self::MaintenanceEnded,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Renamed => "renamed",
            Self::Attributes => "attributes",
            Self::Type => "type",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Reloaded => "reloaded",
            Self::CoverageGap => "coverage_gap",
            Self::Rescanned => "rescanned",
            Self::Interrupted => "interrupted",
            Self::Trouble => "trouble",
            Self::Accepted => "accepted",
            Self::Released => "released",
            Self::Purged => "purged",
            Self::Escalated => "escalated",
            Self::MaintenanceStarted => "maintenance_started",
            Self::MaintenanceEnded => "maintenance_ended",
        }
    }

    /// Whether it is about a watched file rather than about fim.
    pub fn is_change(self) -> bool {
        matches!(
            self,
            Self::Created | Self::Modified | Self::Deleted | Self::Renamed | Self::Attributes | Self::Type
        )
    }
}

impl From<ChangeKind> for EventKind {
    fn from(kind: ChangeKind) -> Self {
        match kind {
            ChangeKind::Created => Self::Created,
            ChangeKind::Modified => Self::Modified,
            ChangeKind::Deleted => Self::Deleted,
            ChangeKind::Renamed => Self::Renamed,
            ChangeKind::Attributes => Self::Attributes,
            ChangeKind::Type => Self::Type,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Authorised,
    Unauthorised,
}

/// How the response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    None,
    Restored,
    Quarantined,
    Deleted,
    Failed,
    Pending,
}

impl Response {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Restored => "restored",
            Self::Quarantined => "quarantined",
            Self::Deleted => "deleted",
            Self::Failed => "failed",
            Self::Pending => "pending",
        }
    }
}

/// A file's state as the ledger tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    #[serde(rename = "type")]
    pub kind: FileType,
    pub sha256: Option<String>,
    pub size: u64,
    /// Octal, `"0644"`.
    pub mode: String,
    pub uid: u32,
    pub gid: u32,
    /// RFC 3339; `None` for directories.
    pub mtime: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Names of chattr(1) flags; only where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<String>,
}

impl From<&Entry> for State {
    fn from(e: &Entry) -> Self {
        Self {
            kind: e.kind,
            sha256: e.sha256.map(|d| d.to_string()),
            size: e.size,
            mode: format!("{:04o}", e.mode),
            uid: e.uid,
            gid: e.gid,
            mtime: (e.kind != FileType::Directory).then(|| rfc3339(e.mtime_ns)),
            target: e.target.as_deref().map(escape),
            flags: (!e.flags.is_empty()).then(|| e.flags.to_string()),
        }
    }
}

/// Microseconds from the kernel's report; `None` where it did not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Until the change was established by comparison.
    pub detected: Option<u64>,
    /// Until the response had ended.
    pub restored: Option<u64>,
    /// When the writer closed it or, where nobody is known to have, when the report came; nanoseconds since boot. Of no
    /// meaning after this boot, so it is not kept.
    #[serde(skip)]
    pub done_ns: Option<u64>,
}

/// One record without its place in the chain; the ledger adds sequence number, id and hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// RFC 3339, UTC, microseconds.
    pub time: String,
    pub host: String,
    pub kind: EventKind,
    /// Escaped; `None` for records about fim itself.
    pub path: Option<String>,
    /// Base64 of the real bytes, when `path` had to be escaped.
    pub path_raw: Option<String>,
    pub old_path: Option<String>,
    /// Root of the watch, escaped.
    pub watch: Option<String>,
    /// The patterns of each rule that decided; none where the watch's own keys did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    pub verdict: Option<Verdict>,
    pub authorised_by: Option<String>,
    /// Whether the content is what the package that it belongs to lists; `None` where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouched: Option<bool>,
    /// That package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    pub response: Response,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub severity: Severity,
    /// How the response was done where the usual way was not open, for example in place on a bind mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// What would have been done, had the rule not said `dry_run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<Response>,
    /// Recorded, and told to nobody: an `escalated` record before it says why.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub muted: bool,
    pub tier: String,
    pub actor: Option<Actor>,
    /// Everybody else who may have written, when the actor is one of several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_actors: Vec<Actor>,
    pub before: Option<State>,
    pub after: Option<State>,
    /// What was known of it before this change, where that is neither the approved state nor the new one; the inner `None`:
    /// nothing was there.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub previous: Option<Option<State>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Aspect>,
    /// Changed and changed back before it was looked at.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transient: bool,
    /// Which witnesses reported it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen_by: Vec<Source>,
    pub latency_us: Latency,
    /// One sentence for people; records about fim itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Event {
    /// A record about fim itself.
    pub fn about_fim(kind: EventKind, host: &str, tier: &str, time_ns: i64, message: String) -> Self {
        Self {
            time: rfc3339(time_ns),
            host: host.into(),
            kind,
            path: None,
            path_raw: None,
            old_path: None,
            watch: None,
            verdict: None,
            rules: Vec::new(),
            authorised_by: None,
            vouched: None,
            package: None,
            response: Response::None,
            error: None,
            severity: if matches!(kind, EventKind::CoverageGap | EventKind::Interrupted | EventKind::Trouble)
            {
                Severity::High
            } else {
                Severity::Low
            },
            method: None,
            planned: None,
            muted: false,
            tier: tier.into(),
            actor: None,
            other_actors: Vec::new(),
            before: None,
            after: None,
            previous: None,
            differences: Vec::new(),
            transient: false,
            seen_by: Vec::new(),
            latency_us: Latency::default(),
            message: Some(message),
        }
    }

    /// Sets `path` and, where the text is not the bytes, `path_raw`.
    pub fn set_path(&mut self, bytes: &[u8]) {
        let text = escape(bytes);
        self.path_raw =
            (text.as_bytes() != bytes).then(|| base64::engine::general_purpose::STANDARD.encode(bytes));
        self.path = Some(text);
    }
}

/// A key that is there, whatever it holds.
fn given<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Option<State>>, D::Error> {
    Option::<State>::deserialize(d).map(Some)
}

/// An event in the chain, as the ledger returns it and `fim log --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub seq: u64,
    pub id: String,
    #[serde(flatten)]
    pub event: Event,
}

/// Nanoseconds since the epoch as RFC 3339 in UTC with microseconds.
pub fn rfc3339(ns: i64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(ns)) {
        Ok(t) => format!("{t:.6}"),
        Err(_) => format!("{ns} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_rfc3339_with_microseconds() {
        assert_eq!(rfc3339(1_700_000_000_003_004_005), "2023-11-14T22:13:20.003004Z");
        assert_eq!(rfc3339(-1_000), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn a_path_that_had_to_be_escaped_keeps_its_bytes() {
        let mut event = Event::about_fim(EventKind::Trouble, "h", "lsm", 0, "m".into());
        event.set_path(b"/etc/hosts");
        assert_eq!((event.path.as_deref(), event.path_raw.as_deref()), (Some("/etc/hosts"), None));
        event.set_path(b"/etc/a\nb");
        assert_eq!(
            (event.path.as_deref(), event.path_raw.as_deref()),
            (Some("/etc/a\\x0ab"), Some("L2V0Yy9hCmI="))
        );
    }
}
