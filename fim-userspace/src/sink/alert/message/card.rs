//! A message as a headline and a list of facts, for receivers with room.

use super::escape::Plain;
use super::{Content, Message, Names, number};
use crate::core::digest::{Digest, Doer};
use crate::core::entry::FileType;
use crate::core::event::{Event, Record, State};
use crate::core::policy::Severity;
use crate::sink::line;

/// Names of each kind that a digest lists.
pub const LISTED: usize = 5;
/// Characters of one value: longer than any path that can be opened at once.
const VALUE: usize = 4_500;

#[derive(Clone, Debug)]
pub struct Card {
    pub id: String,
    pub host: Plain,
    /// What happened, in a line.
    pub headline: Plain,
    pub severity: Severity,
    /// RFC 3339; of the last record.
    pub time: String,
    /// Named in the order in which they are read.
    pub facts: Vec<(&'static str, Plain)>,
    /// What differs in the file's lines.
    pub lines: Vec<Plain>,
}

impl Card {
    pub fn of(message: &Message) -> Self {
        let mut card = match &message.content {
            Content::Record(record) => record_card(record, &message.names),
            Content::Digest(digest) => digest_card(digest, &message.names),
            Content::Heartbeat { time } => {
                plain_card(time, "fim is there", "a longer silence than usual means trouble")
            }
            Content::Test { time } => {
                plain_card(time, "a test of this alert", "nothing happened; `fim alert test` sent this")
            }
        };
        card.id.clone_from(&message.id);
        card.lines.clone_from(&message.lines);
        card.host = Plain::new(&message.host);
        card.facts.insert(0, ("host", card.host.clone()));
        card.facts.push(("event", Plain::new(&message.id)));
        card
    }

    /// `web1: modified /etc/hosts`, of at most `most` characters.
    pub fn title(&self, most: usize) -> Plain {
        Plain::new(&format!("{}: {}", self.host, self.headline)).clip(most)
    }
}

fn plain_card(time: &str, headline: &str, note: &str) -> Card {
    Card {
        id: String::new(),
        host: Plain::default(),
        headline: Plain::new(headline),
        severity: Severity::Low,
        time: time.into(),
        facts: vec![("time", Plain::new(time)), ("note", Plain::new(note))],
        lines: Vec::new(),
    }
}

fn record_card(record: &Record, names: &Names) -> Card {
    let event = &record.event;
    let mut facts = Facts::default();
    facts.add("what", event.kind.as_str());
    facts.add("severity", event.severity.as_str());
    facts.add("time", &event.time);
    facts.maybe("path", event.path.as_deref());
    facts.maybe("was", event.old_path.as_deref());
    facts.maybe("message", event.message.as_deref());
    if event.kind.is_change() {
        let both = (event.before.as_ref(), event.after.as_ref());
        facts.add("expected", &state(both.0, "nothing"));
        facts.add("present", &state(both.1, "nothing"));
        let differs: Vec<String> =
            event.differences.iter().map(|aspect| format!("{aspect:?}").to_lowercase()).collect();
        facts.maybe("differs", (!differs.is_empty()).then(|| differs.join(", ")).as_deref());
        facts.add("who", &line::who(event, &mut |uid| names.get(uid)));
        facts.maybe("from", origin(event).as_deref());
        facts.maybe("parent", parent(event).as_deref());
        facts.add("done", &line::outcome(event));
    } else if event.actor.is_some() {
        facts.add("who", &line::who(event, &mut |uid| names.get(uid)));
    }
    facts.add("record", &record.seq.to_string());
    facts.add("more", &format!("fim show {}", record.seq));
    Card {
        id: String::new(),
        host: Plain::default(),
        headline: Plain::new(&headline(event)),
        severity: event.severity,
        time: event.time.clone(),
        facts: facts.0,
        lines: Vec::new(),
    }
}

/// What happened where, without who and what was done.
pub fn headline(event: &Event) -> String {
    match (&event.path, &event.message) {
        (Some(path), _) => format!("{} {path}", event.kind.as_str()),
        (None, Some(message)) => format!("{}: {message}", event.kind.as_str()),
        (None, None) => event.kind.as_str().to_owned(),
    }
}

fn state(state: Option<&State>, none: &str) -> String {
    let Some(state) = state else { return none.into() };
    let what = match state.kind {
        FileType::Regular => format!("file of {} bytes", number(state.size)),
        FileType::Directory => "directory".into(),
        FileType::Symlink => "symbolic link".into(),
        FileType::Fifo => "named pipe".into(),
        FileType::Socket => "socket".into(),
        FileType::CharDevice => "character device".into(),
        FileType::BlockDevice => "block device".into(),
    };
    let mut parts = vec![what, format!("mode {}", state.mode)];
    parts.push(format!("owner {}:{}", state.uid, state.gid));
    parts.extend(state.mtime.as_ref().map(|time| format!("modified {time}")));
    parts.extend(state.target.as_ref().map(|target| format!("to {target}")));
    parts.extend(state.flags.as_ref().map(|flags| format!("flags {flags}")));
    parts.extend(state.sha256.as_ref().map(|digest| format!("sha256 {digest}")));
    parts.join(", ")
}

/// From where they worked: terminal and container.
fn origin(event: &Event) -> Option<String> {
    let actor = event.actor.as_ref()?;
    let parts = [("terminal", &actor.tty), ("container", &actor.container)];
    let known: Vec<String> =
        parts.iter().filter_map(|(what, name)| Some(format!("{what} {}", name.as_ref()?))).collect();
    (!known.is_empty()).then(|| known.join(", "))
}

fn parent(event: &Event) -> Option<String> {
    let parent = event.actor.as_ref()?.ancestors.first()?;
    let program = parent.exe.as_ref().or(parent.comm.as_ref())?;
    Some(format!("{program}, pid {}", parent.pid))
}

fn digest_card(digest: &Digest, names: &Names) -> Card {
    let mut facts = Facts::default();
    facts.add("records", &number(digest.count));
    facts.add("from", &digest.first.time);
    facts.add("until", &digest.last.time);
    facts.add("what", &counts(digest.by_kind.iter().map(|(kind, count)| (*kind, *count))));
    let severities = digest.by_severity.iter().rev().map(|(severity, count)| (severity.as_str(), *count));
    facts.add("severity", &counts(severities));
    let done = counts(digest.by_response.iter().map(|(response, count)| (*response, *count)));
    facts.maybe("done", (!done.is_empty()).then_some(done.as_str()));
    for (path, count) in digest.paths.list(LISTED) {
        facts.add("path", &format!("{}x {path}", number(count)));
    }
    facts.rest("paths", digest.paths.beyond(LISTED));
    for (who, count) in digest.doers.list(LISTED) {
        facts.add("who", &format!("{}x {}", number(count), doer(who, names)));
    }
    let gravest = &digest.gravest;
    facts.add("gravest", &line::message(gravest, &mut |uid| names.get(uid)));
    facts.add("ledger", &format!("{} to {}", digest.first.seq, digest.last.seq));
    facts.add("more", &format!("fim show {}", gravest.seq));
    facts.add("all", &format!("fim log --since {} --until {}", digest.first.time, digest.last.time));
    Card {
        id: String::new(),
        host: Plain::default(),
        headline: Plain::new(&summary(digest)),
        severity: gravest.event.severity,
        time: digest.last.time.clone(),
        facts: facts.0,
        lines: Vec::new(),
    }
}

/// `9,998 records: 9,990 modified, 8 deleted`.
pub fn summary(digest: &Digest) -> String {
    let kinds = counts(digest.by_kind.iter().map(|(kind, count)| (*kind, *count)));
    format!("{} records: {kinds}", number(digest.count))
}

pub fn counts<'a>(counted: impl Iterator<Item = (&'a str, u64)>) -> String {
    counted.map(|(what, count)| format!("{} {what}", number(count))).collect::<Vec<_>>().join(", ")
}

pub fn doer(doer: &Doer, names: &Names) -> Plain {
    let user = doer.uid.map(|uid| names.user(uid).to_string());
    let parts: Vec<String> = user.into_iter().chain(doer.exe.clone()).collect();
    Plain::new(&parts.join(", "))
}

#[derive(Default)]
struct Facts(Vec<(&'static str, Plain)>);

impl Facts {
    fn add(&mut self, what: &'static str, value: &str) {
        self.0.push((what, Plain::new(value).clip(VALUE)));
    }

    fn maybe(&mut self, what: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.add(what, value);
        }
    }

    fn rest(&mut self, what: &str, count: u64) {
        if count > 0 {
            self.add("and", &format!("{} records of other {what}", number(count)));
        }
    }
}
