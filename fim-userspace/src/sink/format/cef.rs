//! ArcSight Common Event Format, version 0: a header of seven fields between bars, then `key=value` pairs.

use std::fmt::Write;

use super::{folder_and_name, state, title};
use crate::core::entry::FileType;
use crate::core::event::{Event, Record, Response, State, Verdict};
use crate::core::policy::Severity;
use crate::sink::line;

pub fn line(record: &Record) -> String {
    let event = &record.event;
    let version = env!("CARGO_PKG_VERSION");
    let header = ["fim", "fim", version, event.kind.as_str(), title(event.kind)].map(escape_header);
    let mut out = format!("CEF:0|{}|{}|", header.join("|"), severity(event.severity));
    let mut pairs = Pairs { out: &mut out, first: true };
    about(&mut pairs, record);
    file(&mut pairs, record);
    actor(&mut pairs, event);
    out
}

struct Pairs<'a> {
    out: &'a mut String,
    first: bool,
}

impl Pairs<'_> {
    fn add(&mut self, key: &str, value: &str) {
        let space = if std::mem::take(&mut self.first) { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = write!(self.out, "{space}{key}={}", escape_value(value));
    }

    fn maybe(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.add(key, value);
        }
    }

    fn number(&mut self, key: &str, value: Option<impl ToString>) {
        self.maybe(key, value.map(|n| n.to_string()).as_deref());
    }

    /// One of the six texts that a device may name itself.
    fn custom(&mut self, key: &str, label: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.add(key, value);
            self.add(&format!("{key}Label"), label);
        }
    }
}

fn escape_header(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace(['\n', '\r'], " ")
}

fn escape_value(text: &str) -> String {
    text.replace('\\', "\\\\").replace('=', "\\=").replace('\n', "\\n").replace('\r', "\\r")
}

/// 0 to 3 is low, 4 to 6 medium, 7 and 8 high, 9 and 10 very high.
fn severity(severity: Severity) -> u8 {
    match severity {
        Severity::Low => 3,
        Severity::Medium => 5,
        Severity::High => 8,
        Severity::Critical => 10,
    }
}

fn about(pairs: &mut Pairs<'_>, record: &Record) {
    let event = &record.event;
    let millis = |time: &str| time.parse::<jiff::Timestamp>().ok().map(|t| t.as_millisecond());
    pairs.number("rt", millis(&event.time));
    pairs.add("dvchost", &event.host);
    pairs.add("externalId", &record.id);
    pairs.number("cn1", Some(record.seq));
    pairs.add("cn1Label", "sequence");
    pairs.add("cat", if event.kind.is_change() { "file" } else { "fim" });
    pairs.add("act", event.response.as_str());
    pairs.maybe("outcome", outcome(event.response));
    pairs.add("msg", &line::message(record, &mut |_| None));
    pairs.maybe("reason", event.error.as_deref().map(line::printable).as_deref());
    let verdict = event.verdict.map(|verdict| match verdict {
        Verdict::Authorised => "authorised",
        Verdict::Unauthorised => "unauthorised",
    });
    pairs.custom("cs1", "verdict", verdict);
    pairs.custom("cs2", "watch", event.watch.as_deref());
    pairs.custom("cs3", "authorisedBy", event.authorised_by.as_deref().map(line::printable).as_deref());
    pairs.custom("cs4", "tier", Some(&event.tier));
    pairs.custom("cs5", "pathRaw", event.path_raw.as_deref());
}

fn outcome(response: Response) -> Option<&'static str> {
    match response {
        Response::None => None,
        Response::Restored | Response::Quarantined | Response::Deleted => Some("success"),
        Response::Failed => Some("failure"),
        Response::Pending => Some("pending"),
    }
}

fn file(pairs: &mut Pairs<'_>, record: &Record) {
    let event = &record.event;
    let millis =
        |state: &State| state.mtime.as_ref()?.parse::<jiff::Timestamp>().ok().map(|t| t.as_millisecond());
    if let Some(path) = &event.path {
        pairs.add("filePath", path);
        pairs.add("fname", folder_and_name(path).1);
    }
    if let Some(state) = state(record) {
        pairs.add("fileType", file_type(state.kind));
        pairs.maybe("fileHash", state.sha256.as_deref());
        pairs.number("fsize", Some(state.size));
        pairs.add("filePermission", &state.mode);
        pairs.number("fileModificationTime", millis(state));
    }
    pairs.maybe("oldFilePath", event.old_path.as_deref());
    if let (Some(before), Some(_)) = (&event.before, &event.after) {
        pairs.maybe("oldFileHash", before.sha256.as_deref());
        pairs.number("oldFileSize", Some(before.size));
        pairs.add("oldFilePermission", &before.mode);
        pairs.number("oldFileModificationTime", millis(before));
    }
}

fn file_type(kind: FileType) -> &'static str {
    match kind {
        FileType::Regular => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        _ => "device",
    }
}

fn actor(pairs: &mut Pairs<'_>, event: &Event) {
    let Some(actor) = &event.actor else { return };
    pairs.number("spid", actor.pid);
    pairs.maybe("sproc", actor.exe.as_deref().or(actor.comm.as_deref()));
    pairs.number("suid", actor.uid);
    pairs.maybe("suser", actor.names.uid.as_deref());
    pairs.custom("cs6", "container", actor.container.as_deref());
    if let Some(auid) = actor.auid {
        pairs.number("cn2", Some(auid));
        pairs.add("cn2Label", "loginUid");
    }
    if let Some(euid) = actor.euid {
        pairs.number("cn3", Some(euid));
        pairs.add("cn3Label", "effectiveUid");
    }
}
