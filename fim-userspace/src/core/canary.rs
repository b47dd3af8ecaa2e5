//! The test of fim's own eyes: a change made on purpose, and what each sensor must say of it.

use super::actor::{Actor, Confidence};
use super::observation::{Deed, Observation, Source};

/// Nobody on any host, by systemd's division of ids (65520 to 65533 are unused), and not each other.
pub const UID: u32 = 65_521;
pub const GID: u32 = 65_527;

/// The names that the change goes through: a file, its second name, and that name's new one.
pub const NAMES: [&str; 3] = ["first", "second", "third"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Created,
    Opened,
    Written,
    Attributes,
    Mapped,
    Moved,
    Deleted,
}

/// Who must tell what of which name. fanotify tells of writing, and not of mappings; eBPF of what leads to it.
const STEPS: [(Source, usize, Kind, &str); 15] = [
    (Source::Fanotify, 0, Kind::Created, "creating a file"),
    (Source::Fanotify, 0, Kind::Written, "writing to it"),
    (Source::Fanotify, 0, Kind::Attributes, "changing its mode"),
    (Source::Fanotify, 1, Kind::Created, "giving it a second name"),
    (Source::Fanotify, 2, Kind::Moved, "renaming that"),
    (Source::Fanotify, 2, Kind::Deleted, "removing that"),
    (Source::Fanotify, 0, Kind::Deleted, "removing the file"),
    (Source::Ebpf, 0, Kind::Created, "creating a file"),
    (Source::Ebpf, 0, Kind::Opened, "opening it for writing"),
    (Source::Ebpf, 0, Kind::Attributes, "changing its mode"),
    (Source::Ebpf, 1, Kind::Created, "giving it a second name"),
    (Source::Ebpf, 0, Kind::Mapped, "mapping it for writing"),
    (Source::Ebpf, 2, Kind::Moved, "renaming the second name"),
    (Source::Ebpf, 2, Kind::Deleted, "removing that"),
    (Source::Ebpf, 0, Kind::Deleted, "removing the file"),
];

/// What is asked of the sensors on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    pub fanotify: bool,
    /// eBPF hooks on files.
    pub ebpf: bool,
    /// Whether the tier names processes for certain.
    pub exact: bool,
    /// Path of fim's own program.
    pub exe: Option<String>,
}

/// One change under way.
#[derive(Clone, Debug)]
pub struct Trial {
    demand: Demand,
    pid: u32,
    missing: Vec<(Source, usize, Kind, &'static str)>,
    /// What was laid to somebody else.
    wrong: Option<String>,
}

impl Trial {
    /// The change is made by the process `pid`.
    pub fn new(demand: Demand, pid: u32) -> Self {
        let asked = |source| match source {
            Source::Fanotify => demand.fanotify,
            Source::Ebpf => demand.ebpf,
            Source::Scan => false,
        };
        let missing = STEPS.into_iter().filter(|(source, ..)| asked(*source)).collect();
        Self { demand, pid, missing, wrong: None }
    }

    pub fn observe(&mut self, seen: &Observation) {
        let Some(kind) = kind(&seen.deed) else { return };
        let name = NAMES.iter().position(|name| seen.path.as_bytes() == name.as_bytes());
        let step = (seen.source, name, kind);
        let at =
            self.missing.iter().position(|(source, name, kind, _)| (*source, Some(*name), *kind) == step);
        let Some(at) = at else { return };
        let (source, _, _, what) = self.missing.swap_remove(at);
        if let Some(wrong) = self.wrongly_laid(seen.actor.as_deref()) {
            self.wrong.get_or_insert(format!("{source:?} laid {what} to {wrong}"));
        }
    }

    /// Whether everything has been told.
    pub fn complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// What is wrong, in a sentence; `None`: all was seen, and laid to the right process.
    pub fn verdict(&self) -> Option<String> {
        let unseen: Vec<String> =
            self.missing.iter().map(|(source, _, _, what)| format!("{what} ({source:?})")).collect();
        match (unseen.is_empty(), &self.wrong) {
            (true, None) => None,
            (true, Some(wrong)) => {
                Some(format!("a change made as a test was not laid to its author: {wrong}"))
            }
            (false, _) => Some(format!("of a change made as a test was not seen: {}", unseen.join(", "))),
        }
    }

    fn wrongly_laid(&self, actor: Option<&Actor>) -> Option<String> {
        let Some(actor) = actor else { return Some("nobody".into()) };
        let ids = [actor.uid, actor.gid, actor.euid];
        let right = actor.pid == Some(self.pid)
            && ids == [Some(UID), Some(GID), Some(UID)]
            && (self.demand.exe.is_none() || actor.exe == self.demand.exe)
            && (!self.demand.exact || actor.confidence == Confidence::Exact);
        if right {
            return None;
        }
        let id = |id: Option<u32>| id.map_or("?".to_owned(), |id| id.to_string());
        let exe = actor.exe.as_deref().unwrap_or("?");
        let confidence = actor.confidence;
        Some(format!(
            "pid {}, uid {}, gid {}, euid {}, {exe}, {confidence:?}, and not to pid {}, uid {UID}, gid {GID}",
            id(actor.pid),
            id(ids[0]),
            id(ids[1]),
            id(ids[2]),
            self.pid
        ))
    }
}

fn kind(deed: &Deed) -> Option<Kind> {
    Some(match deed {
        Deed::Created => Kind::Created,
        Deed::OpenedForWrite => Kind::Opened,
        Deed::Written => Kind::Written,
        Deed::Attributes => Kind::Attributes,
        Deed::MappedForWrite => Kind::Mapped,
        Deed::MovedHere { .. } => Kind::Moved,
        Deed::Deleted => Kind::Deleted,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::observation::WatchId;
    use crate::core::path::RelPath;

    fn demand() -> Demand {
        Demand { fanotify: true, ebpf: false, exact: true, exe: Some("/usr/bin/fim".into()) }
    }

    fn helper() -> Actor {
        Actor {
            pid: Some(7),
            uid: Some(UID),
            gid: Some(GID),
            euid: Some(UID),
            exe: Some("/usr/bin/fim".into()),
            confidence: Confidence::Exact,
            ..Actor::unknown()
        }
    }

    fn all() -> Vec<(&'static str, Deed)> {
        vec![
            ("first", Deed::Created),
            ("first", Deed::Written),
            ("first", Deed::Attributes),
            ("second", Deed::Created),
            ("third", Deed::MovedHere { from: RelPath::new("second") }),
            ("third", Deed::Deleted),
            ("first", Deed::Deleted),
        ]
    }

    fn after(actor: &Actor, deeds: Vec<(&'static str, Deed)>) -> Trial {
        let mut trial = Trial::new(demand(), 7);
        for (name, deed) in deeds {
            trial.observe(&Observation {
                source: Source::Fanotify,
                watch: WatchId(1),
                path: RelPath::new(name).expect("sound"),
                deed,
                directory: false,
                actor: Some(Arc::new(actor.clone())),
                at_ns: 1,
            });
        }
        trial
    }

    #[test]
    fn all_of_it_by_the_right_process_is_wanted() {
        let trial = after(&helper(), all());
        assert!(trial.complete());
        assert_eq!(trial.verdict(), None);
        for left_out in 0..all().len() {
            let mut deeds = all();
            deeds.remove(left_out);
            let trial = after(&helper(), deeds);
            assert!(!trial.complete() && trial.verdict().is_some_and(|why| why.contains("was not seen")));
        }
    }

    #[test]
    fn ids_that_are_swapped_or_another_s_are_found_out() {
        let wrong: [fn(&mut Actor); 6] = [
            |a| a.pid = Some(8),
            |a| (a.uid, a.gid) = (a.gid, a.uid),
            |a| a.euid = Some(0),
            |a| a.gid = None,
            |a| a.exe = Some("/usr/bin/other".into()),
            |a| a.confidence = Confidence::Unknown,
        ];
        for alter in wrong {
            let mut actor = helper();
            alter(&mut actor);
            let verdict = after(&actor, all()).verdict().unwrap_or_default();
            assert!(verdict.contains("not laid to its author"), "{verdict}");
        }
    }
}
