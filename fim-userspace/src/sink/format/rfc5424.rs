//! The Syslog Protocol, RFC 5424.

use std::fmt::Write;

use super::syslog::{Origin, cut, token};
use crate::core::event::{Record, Verdict};

/// The byte order mark that tells of UTF-8 (6.4).
const BOM: &str = "\u{feff}";
/// 32473 is the number for examples (RFC 5612): fim has none of its own.
const SD_ID: &str = "fim@32473";

/// One message, without framing. With `limit` it has so many bytes at most: structured data is reduced to what names
/// the record and the body is cut, and both is said. `mark` puts the byte order mark before the body, where no parser
/// of another format stumbles over it.
pub fn message(origin: &Origin, record: &Record, body: &str, mark: bool, limit: Option<usize>) -> Vec<u8> {
    let event = &record.event;
    let time = if event.time.parse::<jiff::Timestamp>().is_ok() { event.time.as_str() } else { "-" };
    let header = format!(
        "{}1 {time} {} fim {} {}",
        origin.priority(event.severity),
        token(&event.host, 255),
        origin.pid,
        token(event.kind.as_str(), 32)
    );
    let mark = if mark { BOM } else { "" };
    let whole = format!("{header} {} {mark}{body}", data(record));
    let Some(limit) = limit.filter(|limit| whole.len() > *limit) else {
        return whole.into_bytes();
    };
    let start = format!("{header} {} {mark}", short_data(record));
    let room = limit.saturating_sub(start.len());
    format!("{start}{}", cut(body, room)).into_bytes()
}

struct Element(String);

impl Element {
    fn new(record: &Record) -> Self {
        let mut element = Self(format!("[{SD_ID}"));
        element.add("seq", &record.seq.to_string());
        element.add("id", &record.id);
        element.add("severity", record.event.severity.as_str());
        element.add("response", record.event.response.as_str());
        element
    }

    fn add(&mut self, name: &str, value: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, " {name}=\"{}\"", escape(value));
    }

    fn maybe(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(name, &value.to_string());
        }
    }

    fn end(mut self) -> String {
        self.0.push(']');
        self.0
    }
}

/// Inside a value `"`, `\` and `]` are escaped (6.3.3).
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]")
}

fn data(record: &Record) -> String {
    let event = &record.event;
    let mut element = Element::new(record);
    element.add("tier", &event.tier);
    let verdict = event.verdict.map(|verdict| match verdict {
        Verdict::Authorised => "authorised",
        Verdict::Unauthorised => "unauthorised",
    });
    element.maybe("verdict", verdict);
    element.maybe("watch", event.watch.as_deref());
    element.maybe("path", event.path.as_deref());
    element.maybe("pathRaw", event.path_raw.as_deref());
    element.maybe("oldPath", event.old_path.as_deref());
    element.maybe("sha256Before", event.before.as_ref().and_then(|s| s.sha256.as_deref()));
    element.maybe("sha256After", event.after.as_ref().and_then(|s| s.sha256.as_deref()));
    if let Some(actor) = &event.actor {
        element.maybe("pid", actor.pid);
        element.maybe("uid", actor.uid);
        element.maybe("euid", actor.euid);
        element.maybe("auid", actor.auid);
        element.maybe("exe", actor.exe.as_deref());
        element.maybe("container", actor.container.as_deref());
    }
    element.end()
}

fn short_data(record: &Record) -> String {
    let mut element = Element::new(record);
    element.add("cut", "yes");
    element.end()
}
