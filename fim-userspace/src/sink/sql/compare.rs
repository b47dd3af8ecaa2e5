//! Which records are new to the central database, and where what the host says now is not what it said before.

use std::collections::BTreeMap;

use super::rows::LedgerKey;
use super::value::{Row, Value};
use crate::store::Link;

pub type Hash = [u8; 32];

/// Why a record is remembered as a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The record has another hash than the one that was delivered before under its number.
    Rewritten,
    /// Its predecessor's hash is not that of the record before it.
    BrokenLink,
    /// Its hash is not that of its content.
    Unsound,
    /// The host's ledger ends before a record that it delivered once.
    Missing,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Rewritten => "rewritten",
            Self::BrokenLink => "broken_link",
            Self::Unsound => "unsound",
            Self::Missing => "missing",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub seq: u64,
    pub reason: Reason,
    /// What the host says now; zeros where it has no such record.
    pub hash: Hash,
    /// What it should be.
    pub expected: Option<Hash>,
    pub prev: Option<Hash>,
    pub body: Option<String>,
}

impl Conflict {
    fn of(link: &Link, reason: Reason, expected: Option<Hash>) -> Self {
        let (prev, body) = (Some(link.prev), Some(link.body.clone()));
        Self { seq: link.seq, reason, hash: link.hash, expected, prev, body }
    }

    pub fn row(self, key: &LedgerKey) -> Row {
        let bytes = |hash: Hash| Value::from(&hash[..]);
        let mut row = key.values();
        row.extend([
            self.seq.into(),
            self.reason.as_str().into(),
            bytes(self.hash),
            self.expected.map(bytes).into(),
            self.prev.map(bytes).into(),
            self.body.into(),
        ]);
        row
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Numbers of records that are not there yet.
    pub new: Vec<u64>,
    pub conflicts: Vec<Conflict>,
}

/// `known`: the hashes that the central database has for the numbers of `links` and for the number before them.
pub fn compare(links: &[Link], known: &BTreeMap<u64, Hash>) -> Compared {
    let mut out = Compared::default();
    let mut before: Option<(u64, Hash)> = None;
    for link in links {
        match known.get(&link.seq) {
            None => out.new.push(link.seq),
            Some(hash) if *hash == link.hash => {}
            Some(hash) => out.conflicts.push(Conflict::of(link, Reason::Rewritten, Some(*hash))),
        }
        if !link.sound {
            out.conflicts.push(Conflict::of(link, Reason::Unsound, None));
        }
        let previous = link.seq.checked_sub(1).and_then(|seq| match before {
            Some((own, hash)) if own == seq => Some(hash),
            _ => known.get(&seq).copied(),
        });
        if let Some(expected) = previous.filter(|hash| *hash != link.prev) {
            out.conflicts.push(Conflict::of(link, Reason::BrokenLink, Some(expected)));
        }
        before = Some((link.seq, link.hash));
    }
    out
}

/// The last record that was delivered, against what the host's ledger has in its place.
pub fn compare_end(seq: u64, expected: Hash, now: Option<&Link>) -> Option<Conflict> {
    match now {
        Some(link) if link.hash == expected => None,
        Some(link) => Some(Conflict::of(link, Reason::Rewritten, Some(expected))),
        None => {
            let (reason, hash) = (Reason::Missing, [0; 32]);
            Some(Conflict { seq, reason, hash, expected: Some(expected), prev: None, body: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(seq: u64, prev: u8, hash: u8) -> Link {
        Link { seq, prev: [prev; 32], hash: [hash; 32], body: format!("b{seq}"), sound: true }
    }

    fn told(compared: &Compared) -> Vec<(u64, Reason)> {
        compared.conflicts.iter().map(|c| (c.seq, c.reason)).collect()
    }

    #[test]
    fn repeats_are_known_and_the_rest_is_new() {
        let links = [link(4, 3, 14), link(5, 14, 15), link(6, 15, 16)];
        let known = BTreeMap::from([(3, [3; 32]), (4, [14; 32]), (5, [15; 32])]);
        assert_eq!(compare(&links, &known), Compared { new: vec![6], conflicts: vec![] });
        assert_eq!(compare(&links, &BTreeMap::new()).new, [4, 5, 6], "the record before may be unknown");
    }

    #[test]
    fn every_contradiction_is_told_and_nothing_known_is_written_again() {
        let known = BTreeMap::from([(3, [3; 32]), (4, [14; 32])]);
        let mut unsound = link(6, 25, 16);
        unsound.sound = false;
        let compared = compare(&[link(4, 3, 24), link(5, 24, 15), unsound], &known);
        assert_eq!(compared.new, [5, 6]);
        assert_eq!(told(&compared), [(4, Reason::Rewritten), (6, Reason::Unsound), (6, Reason::BrokenLink)]);
        assert_eq!(compared.conflicts[0].expected, Some([14; 32]));
        // Its past was rewritten after it had been delivered.
        let forked = compare(&[link(5, 24, 15)], &known);
        assert_eq!((forked.new, forked.conflicts[0].reason), (vec![5], Reason::BrokenLink));
    }

    #[test]
    fn the_end_must_still_be_there() {
        assert_eq!(compare_end(4, [14; 32], Some(&link(4, 3, 14))), None);
        let reason = |now: Option<&Link>| compare_end(4, [14; 32], now).map(|c| c.reason);
        assert_eq!(reason(Some(&link(4, 3, 24))), Some(Reason::Rewritten));
        assert_eq!(reason(None), Some(Reason::Missing));
    }
}
