//! Many records as one summary, of a size that does not grow with them.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::hash::Hash;

use serde::Serialize;

use super::event::{Record, Response};
use super::policy::Severity;

/// Names that are counted at a time.
const COUNTED: usize = 256;

/// Where in the ledger something stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mark {
    pub seq: u64,
    pub id: String,
    /// RFC 3339.
    pub time: String,
}

/// Who did it, as far as many records have it in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Doer {
    /// Who logged in, else as whom the process ran.
    pub uid: Option<u32>,
    pub exe: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Digest {
    pub count: u64,
    pub by_kind: BTreeMap<&'static str, u64>,
    pub by_severity: BTreeMap<Severity, u64>,
    pub by_response: BTreeMap<&'static str, u64>,
    pub paths: Top<String>,
    pub doers: Top<Doer>,
    pub first: Mark,
    pub last: Mark,
    /// The first of the most severe ones.
    pub gravest: Record,
}

impl Digest {
    pub fn new(record: &Record) -> Self {
        let mark = mark(record);
        let mut digest = Self {
            count: 0,
            by_kind: BTreeMap::new(),
            by_severity: BTreeMap::new(),
            by_response: BTreeMap::new(),
            paths: Top::default(),
            doers: Top::default(),
            first: mark.clone(),
            last: mark,
            gravest: record.clone(),
        };
        digest.add(record);
        digest
    }

    /// Takes in the next record of the ledger.
    pub fn add(&mut self, record: &Record) {
        let event = &record.event;
        self.count += 1;
        *self.by_kind.entry(event.kind.as_str()).or_default() += 1;
        *self.by_severity.entry(event.severity).or_default() += 1;
        if event.response != Response::None {
            *self.by_response.entry(event.response.as_str()).or_default() += 1;
        }
        if let Some(path) = &event.path {
            self.paths.add(path.clone());
        }
        if let Some(actor) = &event.actor {
            let exe = actor.exe.clone().or_else(|| actor.comm.clone());
            let doer = Doer { uid: actor.auid.or(actor.uid), exe };
            if doer.uid.is_some() || doer.exe.is_some() {
                self.doers.add(doer);
            }
        }
        if event.severity > self.gravest.event.severity {
            self.gravest = record.clone();
        }
        self.last = mark(record);
    }
}

fn mark(record: &Record) -> Mark {
    Mark { seq: record.seq, id: record.id.clone(), time: record.event.time.clone() }
}

/// The most frequent of many names in bounded memory (Metwally, Agrawal, El Abbadi: Space-Saving, 2005): whatever came
/// more often than one time in [`COUNTED`] is there, and each count is a lower bound, exact as long as there was room.
#[derive(Clone, Debug)]
pub struct Top<K> {
    counts: HashMap<K, Count>,
    total: u64,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    counted: u64,
    /// By how much it may be too high: what the name had whose room it took.
    inherited: u64,
}

impl<K> Default for Top<K> {
    fn default() -> Self {
        Self { counts: HashMap::new(), total: 0 }
    }
}

impl<K: Clone + Eq + Hash + Ord> Top<K> {
    fn add(&mut self, name: K) {
        self.total += 1;
        if let Some(count) = self.counts.get_mut(&name) {
            count.counted += 1;
            return;
        }
        let mut inherited = 0;
        if self.counts.len() >= COUNTED {
            let least = self.counts.iter().min_by_key(|(name, count)| (count.counted, *name));
            if let Some((rarest, count)) = least.map(|(name, count)| (name.clone(), *count)) {
                self.counts.remove(&rarest);
                inherited = count.counted;
            }
        }
        self.counts.insert(name, Count { counted: inherited + 1, inherited });
    }

    /// Up to `most` names, the most frequent first, each with how often it came at least.
    pub fn list(&self, most: usize) -> Vec<(&K, u64)> {
        let mut all: Vec<(&K, u64)> =
            self.counts.iter().map(|(name, count)| (name, count.counted - count.inherited)).collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        all.truncate(most);
        all
    }

    /// How many of all additions the first `most` names do not account for.
    pub fn beyond(&self, most: usize) -> u64 {
        self.total - self.list(most).iter().map(|(_, count)| count).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::actor::Actor;
    use crate::core::event::{Event, EventKind};

    fn record(seq: u64, kind: EventKind, path: &str, severity: Severity) -> Record {
        let mut event = Event::about_fim(kind, "h", "lsm", seq as i64 * 1_000_000_000, String::new());
        event.set_path(path.as_bytes());
        event.severity = severity;
        let mut actor = Actor::unknown();
        (actor.uid, actor.auid, actor.exe) =
            (Some(0), Some(1000 + (seq % 2) as u32), Some("/usr/bin/vi".into()));
        event.actor = Some(actor);
        Record { seq, id: format!("id{seq}"), event }
    }

    #[test]
    fn many_records_become_counts_and_the_gravest_one_stays_whole() {
        let first = record(5, EventKind::Modified, "/etc/a", Severity::Low);
        let mut digest = Digest::new(&first);
        digest.add(&record(6, EventKind::Deleted, "/etc/b", Severity::High));
        digest.add(&record(7, EventKind::Modified, "/etc/a", Severity::High));
        assert_eq!(digest.count, 3);
        assert_eq!(digest.by_kind, BTreeMap::from([("deleted", 1), ("modified", 2)]));
        assert_eq!(digest.by_severity, BTreeMap::from([(Severity::Low, 1), (Severity::High, 2)]));
        assert_eq!(digest.paths.list(5), [(&"/etc/a".to_owned(), 2), (&"/etc/b".to_owned(), 1)]);
        let (doer, count) = digest.doers.list(1)[0];
        assert_eq!((doer.uid, doer.exe.as_deref(), count), (Some(1001), Some("/usr/bin/vi"), 2));
        assert_eq!((digest.first.seq, digest.last.seq, digest.gravest.seq), (5, 7, 6));
        assert_eq!(
            (digest.first.id.as_str(), digest.last.time.as_str()),
            ("id5", "1970-01-01T00:00:07.000000Z")
        );
    }

    #[test]
    fn its_size_does_not_grow_and_what_came_often_is_not_forgotten() {
        let mut digest = Digest::new(&record(1, EventKind::Modified, "/first", Severity::Low));
        for n in 0..20_000 {
            let path = if n % 50 == 0 { "/often".to_owned() } else { format!("/once/{n}") };
            digest.add(&record(2 + n, EventKind::Modified, &path, Severity::Low));
        }
        assert!(digest.paths.counts.len() <= COUNTED);
        let (path, count) = digest.paths.list(1)[0];
        assert_eq!(path, "/often");
        assert!((300..=400).contains(&count), "{count} of 400");
        assert_eq!(digest.paths.beyond(1), 20_001 - count);
        assert_eq!(digest.count, 20_001);
    }
}
