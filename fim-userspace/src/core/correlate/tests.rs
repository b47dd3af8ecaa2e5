use std::sync::Arc;

use super::*;
use crate::core::actor::{Actor, Confidence};
use crate::core::change::ChangeKind;

fn actor(pid: u32) -> Arc<Actor> {
    let mut actor = Actor::unknown();
    (actor.pid, actor.start_ns, actor.exe) = (Some(pid), Some(u64::from(pid) << 32), Some("/x".into()));
    actor.confidence = Confidence::Exact;
    Arc::new(actor)
}

fn path(text: &str) -> RelPath {
    RelPath::new(text).expect("sound")
}

fn seen(source: Source, at: &str, deed: Deed, pid: u32) -> Observation {
    Observation {
        source,
        watch: WatchId(3),
        path: path(at),
        deed,
        directory: false,
        actor: Some(actor(pid)),
        at_ns: 100,
    }
}

#[test]
fn fanotify_is_looked_at_at_once_and_ebpf_a_little_later() {
    let mut c = Correlator::new();
    c.observe(seen(Source::Ebpf, "f", Deed::OpenedForWrite, 10), 0);
    assert!(c.due(EBPF_SETTLE_NS, usize::MAX).is_empty());
    c.observe(seen(Source::Fanotify, "f", Deed::Written, 10), 5);
    assert!(c.due(6, usize::MAX).is_empty(), "the writer is not done");
    c.observe(seen(Source::Fanotify, "f", Deed::Closed, 10), 7);
    let looks = c.due(7, usize::MAX);
    assert_eq!(looks.len(), 1);
    assert_eq!(looks[0].sources.list(), [Source::Fanotify, Source::Ebpf]);
    assert!(c.next_due().is_none());

    c.observe(seen(Source::Ebpf, "g", Deed::Deleted, 10), 0);
    assert_eq!(c.next_due(), Some(EBPF_SETTLE_NS));
    let looks = c.due(EBPF_SETTLE_NS, usize::MAX);
    assert_eq!(looks.len(), 1);
    assert!(!looks[0].happened.any(Deeds::DELETED), "an attempt is no deed");
}

#[test]
fn the_author_is_who_did_it_not_who_could_have() {
    type Case = (&'static str, ChangeKind, Vec<(Source, Deed, u32)>, Option<u32>, Confidence, usize);
    let f = Source::Fanotify;
    let cases: Vec<Case> = vec![
        ("nobody", ChangeKind::Modified, vec![], None, Confidence::Unknown, 0),
        (
            "the writer, not another opener",
            ChangeKind::Modified,
            vec![(Source::Ebpf, Deed::OpenedForWrite, 1), (f, Deed::Written, 2), (f, Deed::Closed, 1)],
            Some(2),
            Confidence::Exact,
            0,
        ),
        (
            "two writers",
            ChangeKind::Modified,
            vec![(f, Deed::Written, 1), (f, Deed::Written, 2)],
            Some(2),
            Confidence::Several,
            1,
        ),
        (
            "a mapping is as good as a write",
            ChangeKind::Modified,
            vec![(Source::Ebpf, Deed::MappedForWrite, 1), (f, Deed::Written, 2)],
            Some(2),
            Confidence::Several,
            1,
        ),
        (
            "the deleter, not the writer before",
            ChangeKind::Deleted,
            vec![(f, Deed::Written, 1), (f, Deed::Deleted, 2)],
            Some(2),
            Confidence::Exact,
            0,
        ),
        (
            "who moved it here",
            ChangeKind::Modified,
            vec![(f, Deed::Written, 1), (f, Deed::MovedHere { from: None }, 2)],
            Some(2),
            Confidence::Exact,
            0,
        ),
        (
            "a link's maker wrote nothing",
            ChangeKind::Modified,
            vec![(Source::Ebpf, Deed::Linked { to: None }, 1)],
            None,
            Confidence::Unknown,
            0,
        ),
        (
            "both witnesses, one process",
            ChangeKind::Created,
            vec![(Source::Ebpf, Deed::Created, 7), (f, Deed::Created, 7)],
            Some(7),
            Confidence::Exact,
            0,
        ),
    ];
    for (name, kind, observations, pid, confidence, others) in cases {
        let mut c = Correlator::new();
        for (source, deed, pid) in observations {
            c.observe(seen(source, "f", deed, pid), 0);
        }
        let witnessed = c.due(u64::MAX, usize::MAX).pop().map(|l| l.witnessed).unwrap_or_default();
        let (actor, rest) = witnessed.attribute(kind);
        assert_eq!((actor.pid, actor.confidence, rest.len()), (pid, confidence, others), "{name}");
    }
}

#[test]
fn a_rename_makes_both_names_due() {
    let mut c = Correlator::new();
    c.observe(seen(Source::Fanotify, "new", Deed::MovedHere { from: Some(path("old")) }, 5), 0);
    let looks = c.due(0, usize::MAX);
    let names: Vec<_> =
        looks.iter().map(|l| (l.path.clone(), l.moved_from.clone(), l.moved_to.clone())).collect();
    assert_eq!(names, [(path("new"), Some(path("old")), None), (path("old"), None, Some(path("new")))]);
    assert_eq!(looks[1].witnessed.attribute(ChangeKind::Deleted).0.pid, Some(5));
}

/// A full disk stops the looks from being taken, not the reports from coming.
#[test]
fn too_many_looks_become_a_scan_of_the_busiest_watch() {
    let mut c = Correlator::new();
    for n in 0..20 {
        let watch = WatchId(if n % 4 == 0 { 7 } else { 3 });
        c.observe(Observation { watch, ..seen(Source::Fanotify, &format!("f{n}"), Deed::Closed, 10) }, 0);
    }
    assert_eq!(c.shed_beyond(20), None);
    assert_eq!(c.shed_beyond(19), Some((WatchId(3), 15)));
    let left = c.due(1, usize::MAX);
    assert_eq!(left.len(), 5);
    assert!(left.iter().all(|look| look.watch == WatchId(7)));
    assert!(c.next_due().is_none(), "nothing of it is left in the order");
}

/// Somebody writes into a package manager's file before it gets its name.
#[test]
fn a_writer_under_the_old_name_is_one_under_the_new_name() {
    let mut c = Correlator::new();
    c.observe(seen(Source::Fanotify, "f.new", Deed::Written, 9), 0);
    c.observe(seen(Source::Fanotify, "f.new", Deed::Deleted, 8), 0);
    c.observe(seen(Source::Fanotify, "f", Deed::MovedHere { from: Some(path("f.new")) }, 5), 0);
    let mut looks = c.due(0, usize::MAX);
    let witnessed = looks.remove(0).witnessed;
    let (author, others) = witnessed.attribute(ChangeKind::Modified);
    let pids: Vec<_> = others.iter().filter_map(|actor| actor.pid).collect();
    assert_eq!((author.pid, author.confidence, pids), (Some(5), Confidence::Several, vec![9]));
    let writers: Vec<_> = witnessed.writers().expect("few").iter().filter_map(|actor| actor.pid).collect();
    assert_eq!(writers, [5, 9]);
}

#[test]
fn who_holds_a_file_open_is_remembered_past_the_first_look() {
    for deed in [Deed::MappedForWrite, Deed::OpenedForWrite] {
        let mut c = Correlator::new();
        c.observe(seen(Source::Ebpf, "f", deed.clone(), 9), 0);
        let looks = c.due(u64::MAX, usize::MAX);
        c.known_at(&looks[0], |_, _| true);
        // Found by a scan: a store into a mapping makes no event.
        c.schedule(Look::new(WatchId(3), path("f"), 0), 0);
        let found = c.due(0, usize::MAX);
        assert_eq!(found[0].witnessed.attribute(ChangeKind::Modified).0.pid, Some(9));
        // Another's close says nothing of the first one.
        c.observe(seen(Source::Ebpf, "f", Deed::OpenedForWrite, 10), 1);
        c.observe(seen(Source::Fanotify, "f", Deed::Closed, 10), 2);
        let looks = c.due(u64::MAX, usize::MAX);
        c.known_at(&looks[0], |_, _| true);
        c.schedule(Look::new(WatchId(3), path("f"), 0), 0);
        let (writer, others) = c.due(0, usize::MAX)[0].witnessed.attribute(ChangeKind::Modified);
        assert_eq!((writer.pid, others.len()), (Some(9), 0));
        // A mapping outlives every descriptor, but not its process, which is named once more after its end.
        c.observe(seen(Source::Fanotify, "f", Deed::Closed, 9), 3);
        let looks = c.due(u64::MAX, usize::MAX);
        let mapped = deed == Deed::MappedForWrite;
        c.known_at(&looks[0], |_, _| true);
        assert_eq!(c.is_mapped(WatchId(3), &path("f")), mapped);
        for (lives, named) in [(true, true), (false, true), (false, true), (false, false)] {
            c.schedule(Look::new(WatchId(3), path("f"), 0), 0);
            let looks = c.due(0, usize::MAX);
            let author = looks[0].witnessed.attribute(ChangeKind::Modified).0;
            assert_eq!(author.pid.is_some(), mapped && named, "{lives}");
            c.known_at(&looks[0], |_, _| lives);
        }
        assert_eq!(c.writers.count(), (0, 0));
    }
}

/// The kernel's ring is read late where a folder is new: that somebody opened a file came after that he had closed it, and he
/// was taken for one of its writers for ever.
#[test]
fn who_is_told_late_to_have_opened_it_holds_nothing() {
    let mut c = Correlator::new();
    c.observe(seen(Source::Fanotify, "f", Deed::Closed, 9), 0);
    let mut look = c.due(u64::MAX, usize::MAX).remove(0);
    // The report comes while the file is being read.
    c.observe(seen(Source::Ebpf, "f", Deed::OpenedForWrite, 9), 1);
    look.absorb(c.claim(WatchId(3), &path("f")).expect("waits"));
    c.known_at(&look, |_, _| panic!("he has closed it"));
    assert_eq!(c.writers.count(), (0, 0));
    // It comes after all is over: whether he still has it open is asked for.
    c.observe(seen(Source::Ebpf, "f", Deed::OpenedForWrite, 9), 2);
    let looks = c.due(u64::MAX, usize::MAX);
    c.known_at(&looks[0], |_, deeds| deeds.any(Deeds::MAPPED));
    assert_eq!(c.writers.count(), (0, 0));
}

/// What somebody merely tried, and what went wrong, moves nobody.
#[test]
fn who_holds_a_file_open_is_remembered_when_it_is_renamed() {
    let mut c = Correlator::new();
    c.observe(seen(Source::Ebpf, "d/f", Deed::MappedForWrite, 9), 0);
    c.due(u64::MAX, usize::MAX);
    for (source, at) in [(Source::Ebpf, "d/f"), (Source::Fanotify, "e/f")] {
        let rename = seen(source, "e", Deed::MovedHere { from: Some(path("d")) }, 5);
        c.observe(Observation { directory: true, ..rename }, 0);
        assert!(c.is_mapped(WatchId(3), &path(at)), "{at}");
        assert_eq!(c.writers.count(), (1, 1));
    }
}

#[test]
fn every_writer_through_a_mapping_is_named() {
    let mut c = Correlator::new();
    for pid in [7, 8] {
        c.observe(seen(Source::Ebpf, "f", Deed::MappedForWrite, pid), 0);
    }
    let (last, others) = c.due(u64::MAX, usize::MAX)[0].witnessed.attribute(ChangeKind::Modified);
    assert_eq!((last.pid, last.confidence, others[0].pid), (Some(8), Confidence::Several, Some(7)));
}

/// A file gets a second name, is opened under that name, and is written to after the look that its new name had made due.
#[test]
fn who_has_opened_it_is_given_his_time_though_something_else_is_looked_at() {
    let mut c = Correlator::new();
    c.observe(seen(Source::Ebpf, "f", Deed::OpenedForWrite, 9), 0);
    c.observe(seen(Source::Fanotify, "f", Deed::Attributes, 8), 1);
    assert_eq!(c.due(1, usize::MAX).len(), 1);
    assert_eq!(c.next_due(), Some(OPENED_SETTLE_NS));
    let again = c.due(OPENED_SETTLE_NS, usize::MAX).remove(0);
    assert_eq!(again.witnessed.attribute(ChangeKind::Modified).0.pid, Some(9));
    assert_eq!((again.deeds, c.next_due()), (Deeds::default(), None));
    // Once he has closed it, all he wrote is there.
    c.observe(seen(Source::Ebpf, "g", Deed::OpenedForWrite, 9), 0);
    c.observe(seen(Source::Fanotify, "g", Deed::Closed, 9), 1);
    assert_eq!((c.due(1, usize::MAX).len(), c.next_due()), (1, None));
}
