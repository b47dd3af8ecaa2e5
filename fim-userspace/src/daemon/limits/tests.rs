use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::core::entry::tests::regular;
use crate::core::entry::{Digest, Found, Identity};
use crate::core::event::EventKind;
use crate::core::path::RelPath;
use crate::store::EvidenceRow;

const HOUR_NS: i64 = 3600 * 1_000_000_000;
/// Long after all that the tests store.
const NOW_NS: i64 = 4_000_000_000 * 1_000_000_000;

struct World {
    _dir: tempfile::TempDir,
    store: Store,
    vault: Vault,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
        let store = Store::open(dir.path()).expect("opens");
        let vault = Vault::open(&dir.path().join("vault")).expect("opens");
        Self { _dir: dir, store, vault }
    }

    fn put(&self, text: &str) -> Digest {
        self.vault.put(&mut text.as_bytes()).expect("stored")
    }

    fn found(digest: Digest) -> Found {
        let identity = Identity { dev: 1, ino: 2, ctime_ns: 3, nlink: 1 };
        Found { entry: crate::core::entry::Entry { sha256: Some(digest), ..regular(1) }, identity }
    }

    fn approve(&mut self, path: &str, digest: Digest) {
        let entry = (RelPath::new(path).expect("sound"), Self::found(digest));
        self.store.baseline_put_many(Path::new("/w"), &[entry]).expect("written");
    }

    fn evidence(&mut self, path: &str, digest: Digest, hours_ago: i64) {
        let row = EvidenceRow {
            watch: "/w".into(),
            path: RelPath::new(path).expect("sound"),
            found: Self::found(digest),
            digest: Some(digest),
            reason: crate::core::quarantine::Reason::Altered,
        };
        let time = NOW_NS - hours_ago * HOUR_NS;
        let event = Event::about_fim(EventKind::Modified, "h", "lsm", time, "m".into());
        self.store.append_with(&[event], &[], &[(0, row)]).expect("written");
    }

    fn prune(&mut self, hours: Option<u64>, max_size: Option<u64>) -> Report {
        let retention = Retention { max_age: hours.map(|h| Duration::from_secs(h * 3600)), max_size };
        let event = |text| Event::about_fim(EventKind::Purged, "h", "lsm", NOW_NS, text);
        prune(&mut self.store, &self.vault, &retention, NOW_NS, event).expect("pruned")
    }
}

#[test]
fn what_is_old_goes_and_what_the_baseline_needs_stays() {
    let mut w = World::new();
    let [approved, both, old, young, nobodys] =
        ["approved", "both", "old", "young", "nobody's"].map(|text| w.put(text));
    w.approve("a", approved);
    w.approve("b", both);
    w.evidence("a", both, 900);
    w.evidence("a", old, 50);
    w.evidence("a", young, 20);
    w.evidence("c", old, 31);
    assert!(w.prune(Some(51), None).removed == 1, "nobody's object is as old as it is stored");
    assert!(!w.vault.contains(&nobodys));
    assert!(w.prune(Some(32), None).record.is_none(), "old is also found by a record of 31 hours ago");
    let report = w.prune(Some(30), None);
    assert_eq!((report.removed, report.freed, report.decision.by_age), (1, 4096, 1));
    assert_eq!([approved, both, old, young].map(|d| w.vault.contains(&d)), [true, true, false, true]);
    let record = report.record.expect("recorded");
    let said = record.event.message.expect("a sentence");
    assert_eq!(record.event.kind, EventKind::Purged);
    assert_eq!(said, "removed from the vault: 1 objects (4.0 KiB) for their age; 12.0 KiB are left");
    let versions = w.store.copies_at(Path::new("/w/a")).expect("read");
    let kept: Vec<Digest> = versions.iter().map(|copy| copy.sha256).collect();
    assert_eq!(kept, [approved, young, both]);
    assert_eq!(w.store.verify_chain().expect("verified").fault, None);
}

#[test]
fn what_is_still_too_much_is_said() {
    let mut w = World::new();
    let approved = [w.put("one"), w.put("two")];
    approved.iter().enumerate().for_each(|(n, digest)| w.approve(&format!("f{n}"), *digest));
    for n in 0..3i64 {
        let digest = w.put(&format!("evidence {n}"));
        w.evidence("f0", digest, n);
    }
    let before = w.vault.used();
    let report = w.prune(None, Some(4 * 4096));
    assert_eq!((report.removed, report.decision.over), (1, 0));
    assert!(w.store.copies_at(Path::new("/w/f0")).expect("read").len() == 3, "the oldest went");
    let report = w.prune(None, Some(4096));
    assert_eq!((report.removed, report.decision.over, report.decision.after), (2, 4096, 8192));
    let said = report.record.and_then(|r| r.event.message).expect("a sentence");
    assert!(said.contains("4.0 KiB above max_size, since the present baseline needs 8.0 KiB"), "{said}");
    assert!(approved.iter().all(|digest| w.vault.verify(digest).is_ok()));
    assert!(before.is_none() && w.vault.used() == Some(8192));
    assert!(w.prune(None, Some(1)).record.is_none(), "nothing went, so nothing is recorded");
}

#[test]
fn what_was_stored_a_moment_ago_is_not_taken_for_nobodys() {
    let w = World::new();
    let digest = w.put("its record is on its way");
    let stored = w.vault.objects().expect("listed")[0].stored_ns;
    let all = Retention { max_age: Some(Duration::ZERO), max_size: Some(0) };
    let decide = |later| look(&w.store, &w.vault, &all, stored + later).expect("looked");
    assert!(decide(IN_HAND_NS - 1).remove.is_empty());
    assert_eq!(decide(IN_HAND_NS + 1).remove[0].digest, digest);
}
