//! What an alert says, before it takes the form of any receiver.

pub mod card;
pub mod escape;
mod gsm;
pub mod mail;
pub mod sms;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::core::actor::Actor;
use crate::core::digest::Digest;
use crate::core::event::Record;
use escape::Plain;

/// One message, as it is repeated until the receiver has it.
#[derive(Clone, Debug)]
pub struct Message {
    /// The same in each repetition: the record's id, or made of the first record's.
    pub id: String,
    pub host: String,
    /// Of the alert, as configured.
    pub route: String,
    pub content: Content,
    pub names: Names,
    /// What differs in the file's lines, where that is shown.
    pub lines: Vec<Plain>,
}

#[derive(Clone, Debug)]
pub enum Content {
    Record(Box<Record>),
    Digest(Box<Digest>),
    /// RFC 3339.
    Heartbeat {
        time: String,
    },
    Test {
        time: String,
    },
}

impl Message {
    /// One record in full, or the digest of several.
    pub fn pending(route: &str, pending: Digest, names: Names) -> Self {
        let host = pending.gravest.event.host.clone();
        let (id, content) = match pending.count {
            1 => (pending.first.id.clone(), Content::Record(Box::new(pending.gravest))),
            _ => (format!("{}-{}", pending.first.id, pending.last.seq), Content::Digest(Box::new(pending))),
        };
        Self { id, host, route: route.into(), content, names, lines: Vec::new() }
    }

    pub fn heartbeat(route: &str, host: &str, time: String) -> Self {
        let id = format!("heartbeat-{}", digits(&time));
        Self {
            id,
            host: host.into(),
            route: route.into(),
            content: Content::Heartbeat { time },
            names: Names::default(),
            lines: Vec::new(),
        }
    }

    pub fn test(route: &str, host: &str, time: String) -> Self {
        let id = format!("test-{}", digits(&time));
        Self {
            id,
            host: host.into(),
            route: route.into(),
            content: Content::Test { time },
            names: Names::default(),
            lines: Vec::new(),
        }
    }

    /// How many records it tells of.
    pub fn count(&self) -> u64 {
        match &self.content {
            Content::Record(_) => 1,
            Content::Digest(digest) => digest.count,
            Content::Heartbeat { .. } | Content::Test { .. } => 0,
        }
    }
}

/// `2026-11-22T01:02:03.004005Z` as `20261122010203004005`: such messages are made a moment apart.
fn digits(time: &str) -> String {
    time.chars().filter(char::is_ascii_digit).collect()
}

/// Names of users, where the host knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(BTreeMap<u32, String>);

impl Names {
    /// Looks up everybody whom the message will name; that may ask a server and take its time.
    pub fn of(pending: &Digest) -> Self {
        let who = |actor: &Actor| [actor.uid, actor.auid];
        let mut uids: BTreeSet<u32> = pending.gravest.event.actor.iter().flat_map(who).flatten().collect();
        uids.extend(pending.doers.list(card::LISTED).iter().filter_map(|(doer, _)| doer.uid));
        let name = |uid| nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
        Self(uids.into_iter().filter_map(|uid| Some((uid, name(uid)?.name))).collect())
    }

    #[cfg(test)]
    pub fn known(names: impl IntoIterator<Item = (u32, String)>) -> Self {
        Self(names.into_iter().collect())
    }

    pub fn get(&self, uid: u32) -> Option<String> {
        self.0.get(&uid).cloned()
    }

    /// `ann (1000)`, or `uid 1000`.
    pub fn user(&self, uid: u32) -> Plain {
        match self.0.get(&uid) {
            Some(name) => Plain::new(&format!("{name} ({uid})")),
            None => Plain::new(&format!("uid {uid}")),
        }
    }
}

/// `9,998`.
pub fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && at % 3 == digits.len() % 3 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
