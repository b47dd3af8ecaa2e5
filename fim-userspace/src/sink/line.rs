//! A record as one line for people.

use crate::core::actor::{Actor, Confidence};
use crate::core::event::{Event, Record, Response};
use crate::core::path::escape;

/// Turns a uid into a user name, where that is wanted and possible.
pub type NameOf<'a> = dyn FnMut(u32) -> Option<String> + 'a;

/// Text with everything escaped that could break a line or a terminal; backslashes stay as they are.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push('\\'),
            c => out.push_str(&escape(c.encode_utf8(&mut [0; 4]).as_bytes())),
        }
    }
    out
}

/// `modified /etc/hosts by ann (1000), /usr/bin/dash, pid 123; restored in 1.2 ms`, without a time.
pub fn message(record: &Record, name_of: &mut NameOf<'_>) -> String {
    let event = &record.event;
    let mut line = event.kind.as_str().to_owned();
    if let Some(path) = &event.path {
        line.push_str(&format!(" {}", printable(path)));
    }
    if let Some(old) = &event.old_path {
        line.push_str(&format!(" (was {})", printable(old)));
    }
    if event.kind.is_change() {
        line.push_str(&format!(" by {}", who(event, name_of)));
        line.push_str(&format!("; {}", outcome(event)));
    }
    if let Some(message) = &event.message {
        line.push_str(&format!(": {}", printable(message)));
    }
    if event.muted {
        line.push_str(" [muted]");
    }
    line
}

/// The time, the severity where it matters, and the message.
pub fn line(record: &Record, name_of: &mut NameOf<'_>) -> String {
    let event = &record.event;
    // 2026-11-22T01:02:03.004005Z, to the millisecond.
    let time = event.time.get(..23).unwrap_or(&event.time).replace('T', " ");
    format!("{time}Z  {:<8}  {}", event.severity.as_str(), message(record, name_of))
}

pub(super) fn who(event: &Event, name_of: &mut NameOf<'_>) -> String {
    let Some(actor) = &event.actor else {
        return "nobody that was seen".into();
    };
    let mut text = one(actor, name_of);
    if !event.other_actors.is_empty() {
        text.push_str(&format!(" or {} other(s)", event.other_actors.len()));
    }
    text
}

fn one(actor: &Actor, name_of: &mut NameOf<'_>) -> String {
    // The name it had when it happened; the user may be gone by now.
    let mut user = |id: u32, then: &Option<String>| match then.clone().or_else(|| name_of(id)) {
        Some(name) => format!("{} ({id})", printable(&name)),
        None => format!("uid {id}"),
    };
    let mut parts = Vec::new();
    parts.extend(actor.uid.map(|uid| user(uid, &actor.names.uid)));
    let other = |id: Option<u32>| id.filter(|id| Some(*id) != actor.uid);
    // Somebody who became somebody else with su or sudo.
    parts.extend(other(actor.auid).map(|id| format!("logged in as {}", user(id, &actor.names.auid))));
    parts.extend(actor.from.as_ref().map(|from| format!("from {}", printable(from))));
    parts.extend(actor.exe.as_ref().or(actor.comm.as_ref()).map(|program| printable(program)));
    parts.extend(actor.script.as_ref().map(|script| format!("script {}", printable(script))));
    parts.extend(actor.pid.map(|pid| format!("pid {pid}")));
    parts.extend(actor.container.as_ref().map(|c| format!("container {}", printable(c))));
    match (parts.is_empty(), actor.confidence) {
        (true, _) => "an unknown process".into(),
        (false, Confidence::Exact) => parts.join(", "),
        (false, Confidence::Several) => format!("one of several, perhaps {}", parts.join(", ")),
        (false, Confidence::Unknown) => format!("probably {}", parts.join(", ")),
    }
}

pub(super) fn outcome(event: &Event) -> String {
    let mut text = match event.response {
        Response::None if event.planned == Some(Response::Failed) => {
            "could not be put right (dry run)".to_owned()
        }
        Response::None if event.planned.is_some() => {
            let planned = event.planned.map_or("", Response::as_str);
            format!("would be {planned} (dry run)")
        }
        Response::None if event.transient => "changed back by itself".to_owned(),
        Response::None => "left as it is".to_owned(),
        Response::Failed => "the response failed".to_owned(),
        response => response.as_str().to_owned(),
    };
    match (event.latency_us.restored, event.latency_us.detected) {
        (Some(us), _) if event.response == Response::Failed => {
            text.push_str(&format!(" after {}", micros(us)))
        }
        (Some(us), _) => text.push_str(&format!(" in {}", micros(us))),
        (None, Some(us)) => text.push_str(&format!(", seen in {}", micros(us))),
        (None, None) => {}
    }
    if let Some(by) = &event.authorised_by {
        text.push_str(&format!(", authorised by {}", printable(by)));
    }
    if let Some((right, package)) = event.vouched.zip(event.package.as_deref()) {
        let package = printable(package);
        text.push_str(&match right {
            true => format!(", vouched for by {package}"),
            false => format!(", not what {package} lists"),
        });
    }
    if let Some(error) = &event.error {
        text.push_str(&format!(": {}", printable(error)));
    }
    text
}

fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}
