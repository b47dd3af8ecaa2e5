//! A message in as few short messages as possible.

use std::path::Path;

use super::card::{counts, headline};
use super::escape::{self, Plain};
use super::{Content, Message, Names, gsm, number};
use crate::core::digest::{Digest, Doer};
use crate::core::event::{Event, Record, State};
use crate::core::policy::Severity;
use crate::sink::line;

/// Twilio takes no longer text.
const LONGEST: usize = 1_600;
/// Characters of a path, from generous to mean.
const PATHS: [usize; 4] = [400, 80, 50, 32];
/// Of a sentence of fim's, or a reason.
const SENTENCES: [usize; 4] = [400, 160, 100, 60];

/// How much room each part gets.
#[derive(Clone, Copy)]
struct Room {
    path: usize,
    sentence: usize,
    /// Programs with their folders.
    folders: bool,
}

/// The richest text among those that need the fewest segments.
pub fn text(message: &Message) -> String {
    let rooms = PATHS
        .into_iter()
        .zip(SENTENCES)
        .flat_map(|(path, sentence)| [true, false].map(|folders| Room { path, sentence, folders }));
    let texts = rooms.flat_map(|room| {
        let text = Plain::new(&compose(message, room)).clip(LONGEST);
        // A foreign letter makes every letter cost two bytes; written as its number it costs eleven septets.
        let spelt = escape::gsm(&text).clip(LONGEST);
        [text, spelt]
    });
    let cheapest = texts.min_by_key(|text| gsm::segments(text.as_str()));
    cheapest.map(|text| text.to_string()).unwrap_or_default()
}

fn compose(message: &Message, room: Room) -> String {
    let body = match &message.content {
        Content::Record(record) => record_text(record, &message.names, room),
        Content::Digest(digest) => digest_text(digest, &message.names, room),
        Content::Heartbeat { time } => format!("fim is there, {}", minute(time)),
        Content::Test { time } => {
            format!("a test of the alert {}, {}; nothing happened", message.route, minute(time))
        }
    };
    format!("fim {}: {body}", message.host)
}

fn record_text(record: &Record, names: &Names, room: Room) -> String {
    let event = &record.event;
    let mut text = String::new();
    if event.severity >= Severity::High {
        text.push_str(&event.severity.as_str().to_uppercase());
        text.push(' ');
    }
    if event.kind.is_change() {
        let path = event.path.as_deref().unwrap_or("?");
        text.push_str(&format!("{} {}", event.kind.as_str(), Plain::new(path).clip(room.path)));
        if let Some(old) = &event.old_path {
            text.push_str(&format!(" (was {})", Plain::new(old).clip(room.path)));
        }
        if let Some(who) = who(event, names, room) {
            text.push_str(&format!(" by {who}"));
        }
        text.push_str(&format!(", {}", Plain::new(&line::outcome(event)).clip(room.sentence)));
        text.push_str(&states(event));
    } else {
        text.push_str(Plain::new(&headline(event)).clip(room.sentence.max(room.path)).as_str());
        if let (Some(_), Some(message)) = (&event.path, &event.message) {
            text.push_str(&format!(": {}", Plain::new(message).clip(room.sentence)));
        }
    }
    format!("{text}. {} fim show {}", short(&record.id), record.seq)
}

fn digest_text(digest: &Digest, names: &Names, room: Room) -> String {
    let listed = if room.folders { 3 } else { 2 };
    let (begin, end) = (minute(&digest.first.time), minute(&digest.last.time));
    // The day is told once.
    let end = match (begin.split_once(' '), end.split_once(' ')) {
        (Some((one, _)), Some((other, time))) if one == other => time.to_owned(),
        _ => end,
    };
    let mut text = format!("{} records {begin}-{end}, ", number(digest.count));
    text.push_str(&counts(digest.by_kind.iter().map(|(kind, count)| (*kind, *count))));
    let done = counts(digest.by_response.iter().map(|(response, count)| (*response, *count)));
    if !done.is_empty() {
        text.push_str(&format!("; {done}"));
    }
    text.push('.');
    for (path, count) in digest.paths.list(listed) {
        text.push_str(&format!(" {}x {}", number(count), Plain::new(path).clip(room.path)));
    }
    let beyond = digest.paths.beyond(listed);
    if beyond > 0 {
        text.push_str(&format!(" +{}", number(beyond)));
    }
    if let Some((doer, count)) = digest.doers.list(1).first() {
        text.push_str(&format!(", by {} {}x", doer_text(doer, names, room), number(*count)));
    }
    let gravest = &digest.gravest;
    let severity = gravest.event.severity.as_str();
    text.push_str(&format!(". Worst {severity} {} fim show {}", short(&gravest.id), gravest.seq));
    text
}

fn who(event: &Event, names: &Names, room: Room) -> Option<String> {
    let actor = event.actor.as_ref()?;
    let exe = actor.exe.clone().or_else(|| actor.comm.clone());
    let doer = Doer { uid: actor.auid.or(actor.uid), exe };
    (doer.uid.is_some() || doer.exe.is_some()).then(|| doer_text(&doer, names, room))
}

fn doer_text(doer: &Doer, names: &Names, room: Room) -> String {
    let user = doer.uid.map(|uid| names.get(uid).unwrap_or_else(|| format!("uid {uid}")));
    let exe = doer.exe.as_ref().map(|exe| {
        let name = Path::new(exe).file_name().and_then(|name| name.to_str());
        let exe = if room.folders { exe } else { name.unwrap_or(exe) };
        Plain::new(exe).clip(room.path).to_string()
    });
    user.into_iter().chain(exe).collect::<Vec<_>>().join(" ")
}

/// ` was 3fa8c1d2 11-20 10:02, is 9b01aa77 11-22 01:02`: of the digest the beginning, and what else differs.
fn states(event: &Event) -> String {
    let (before, after) = (event.before.as_ref(), event.after.as_ref());
    let part = |word: &str, state: Option<&State>, other: Option<&State>| {
        state.map_or(String::new(), |state| format!(". {word} {}", brief(state, other)))
    };
    part("Was", before, after) + &part("Is", after, before)
}

fn brief(state: &State, other: Option<&State>) -> String {
    let differs = |same: fn(&State, &State) -> bool| other.is_none_or(|other| !same(state, other));
    let mut parts = Vec::new();
    if let Some(digest) = &state.sha256
        && differs(|a, b| a.sha256 == b.sha256)
    {
        parts.push(short(digest).to_owned());
    }
    if other.is_some() && differs(|a, b| a.mode == b.mode) {
        parts.push(state.mode.clone());
    }
    if other.is_some() && differs(|a, b| (a.uid, a.gid) == (b.uid, b.gid)) {
        parts.push(format!("{}:{}", state.uid, state.gid));
    }
    parts.extend(state.mtime.as_deref().map(minute));
    parts.join(" ")
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// `2026-11-22T01:02:03.004005Z` as `11-22 01:02`.
fn minute(time: &str) -> String {
    time.get(5..16).map_or(time.to_owned(), |part| part.replace('T', " "))
}
