use super::*;

const DEV: u32 = 0x80_0003;

fn directories() -> std::sync::Arc<Directories> {
    let dirs = Directories::new();
    let key = |ino| DirKey { dev: u64::from(DEV), ino };
    dirs.register(WatchId(1), &RelPath::root(), key(10), None);
    dirs.register(WatchId(1), &path("sub"), key(11), None);
    dirs.register(WatchId(2), &RelPath::root(), key(20), None);
    dirs.register_file(WatchId(1), &path("sub/linked"), key(31), None);
    dirs
}

fn path(text: &str) -> RelPath {
    RelPath::new(text).expect("sound")
}

/// The record as the kernel writes it: what the struct holds in memory, then the names in their fields.
fn record(head: EventHead, name: &[u8], name2: &[u8]) -> Vec<u8> {
    let head = EventHead {
        name_len: name.len() as u8,
        name2_len: name2.len() as u8,
        name2_at: if name2.is_empty() { 0 } else { HEAD as u16 + 32 },
        ..head
    };
    let mut out = Vec::new();
    for long in [head.time_ns, head.start_ns, head.dir, head.ino, head.dir2] {
        out.extend(long.to_ne_bytes());
    }
    let ints = [head.dev, head.tgid, head.tid, head.uid, head.gid, head.euid];
    for int in ints.into_iter().chain([head.auid, head.session, head.detail, head.watch]) {
        out.extend(int.to_ne_bytes());
    }
    out.extend([head.hook, head.flags, head.name_len, head.name2_len]);
    out.extend(head.name2_at.to_ne_bytes());
    out.extend([0, 0]);
    out.extend(head.fsuid.to_ne_bytes());
    out.extend(head.exec_id.to_ne_bytes());
    assert_eq!(out.len(), HEAD);
    out.extend(name);
    // Old bytes of the ring follow the name.
    out.resize(HEAD + 32, 0xee);
    if !name2.is_empty() {
        out.extend(name2);
        out.resize(HEAD + 64, 0xee);
    }
    out
}

fn event(hook: Hook, head: EventHead, name: &str, name2: &str) -> Event {
    let head = EventHead { hook: hook as u8, dev: DEV, ..head };
    Event::parse(&record(head, name.as_bytes(), name2.as_bytes())).expect("a record")
}

fn told(event: &Event) -> Vec<(u32, String, Deed)> {
    let dirs = directories();
    event.meanings(&dirs).into_iter().map(|m| (m.watch.0, m.path.to_string(), m.deed)).collect()
}

#[test]
fn every_field_keeps_its_place() {
    let head = EventHead {
        time_ns: 1,
        start_ns: 2,
        dir: 3,
        ino: 4,
        dir2: 5,
        dev: 6,
        tgid: 7,
        tid: 8,
        uid: 9,
        gid: 10,
        euid: 11,
        auid: 12,
        session: 13,
        detail: 14,
        watch: 15,
        hook: Hook::InodeRename as u8,
        flags: 17,
        name_len: 0,
        name2_len: 0,
        name2_at: 0,
        pad: 0,
        fsuid: 21,
        exec_id: 22,
    };
    let event = Event::parse(&record(head, b"old\n", b"new\xff")).expect("a record");
    let EventHead { name_len: 4, name2_len: 4, name2_at, .. } = event.head else {
        panic!("{:?}", event.head)
    };
    assert_eq!(EventHead { name_len: 0, name2_len: 0, name2_at: 0, ..event.head }, head);
    assert_eq!(usize::from(name2_at), HEAD + 32);
    assert_eq!((event.name.as_slice(), event.name2.as_slice()), (&b"old\n"[..], &b"new\xff"[..]));
}

#[test]
fn cut_or_strange_bytes_are_no_record() {
    let good = record(EventHead { hook: Hook::FileOpen as u8, ..EventHead::default() }, b"name", b"");
    assert!(Event::parse(&good).is_some());
    assert!(Event::parse(&good[..HEAD - 1]).is_none());
    assert!(Event::parse(&good[..HEAD + 3]).is_none());
    let strange = record(EventHead { hook: Hook::COUNT as u8, ..EventHead::default() }, b"name", b"");
    assert!(Event::parse(&strange).is_none());
}

#[test]
fn a_hook_becomes_its_deed() {
    let by_name =
        |detail| EventHead { dir: 11, ino: 77, detail, flags: EventHead::BY_NAME, ..EventHead::default() };
    for (hook, detail, deed) in [
        (Hook::FileOpen, 0, Deed::OpenedForWrite),
        (Hook::FileReceive, 0, Deed::OpenedForWrite),
        (Hook::MmapFile, 0, Deed::MappedForWrite),
        (Hook::FileMprotect, 0, Deed::MappedForWrite),
        (Hook::InodeSetattr, ATTR_SIZE | 64, Deed::Written),
        (Hook::InodeSetattr, 1, Deed::Attributes),
        (Hook::InodeSetxattr, 0, Deed::Attributes),
        (Hook::FileIoctl, FICLONE, Deed::Written),
        (Hook::FileIoctl, 0x4008_6602, Deed::Attributes),
        (Hook::InodeCreate, 0, Deed::Created),
        (Hook::InodeSymlink, 0, Deed::Created),
        (Hook::InodeRmdir, 0, Deed::Deleted),
        (Hook::SbMount, 0, Deed::MountedOver),
    ] {
        let event = event(hook, by_name(detail), "f", "");
        assert_eq!(told(&event), vec![(1, "sub/f".to_string(), deed)], "{hook:?}");
    }
}

#[test]
fn an_inode_seen_under_a_foreign_name_is_reported_under_its_own() {
    let head = EventHead { dir: 99, ino: 31, flags: EventHead::BY_INODE, ..EventHead::default() };
    let write = event(Hook::FileOpen, head, "outside", "");
    assert_eq!(told(&write), vec![(1, "sub/linked".into(), Deed::OpenedForWrite)]);
    let unlink = event(Hook::InodeUnlink, head, "outside", "");
    assert_eq!(told(&unlink), vec![(1, "sub/linked".into(), Deed::Attributes)]);
    let root = EventHead { ino: 10, flags: EventHead::BY_INODE | EventHead::DIRECTORY, ..head };
    assert_eq!(
        told(&event(Hook::InodeSetattr, root, "tree", "")),
        vec![(1, String::new(), Deed::Attributes)]
    );
}

#[test]
fn renames_within_across_and_over_the_edge() {
    let both = EventHead::BY_NAME | EventHead::BY_NEW_NAME;
    let head =
        |dir, dir2, flags, detail| EventHead { dir, dir2, flags, detail, ino: 77, ..EventHead::default() };
    let here = |from: Option<&str>| Deed::MovedHere { from: from.map(path) };
    for (dir, dir2, flags, detail, expected) in [
        (10, 11, both, 0, vec![(1, "sub/b", here(Some("a")))]),
        (10, 99, EventHead::BY_NAME, 0, vec![(1, "a", Deed::MovedAway)]),
        (99, 10, EventHead::BY_NEW_NAME, 0, vec![(1, "b", here(None))]),
        (10, 20, both, 0, vec![(2, "b", here(None)), (1, "a", Deed::MovedAway)]),
        (10, 11, both, RENAME_EXCHANGE, vec![(1, "sub/b", here(Some("a"))), (1, "a", here(Some("sub/b")))]),
    ] {
        let event = event(Hook::InodeRename, head(dir, dir2, flags, detail), "a", "b");
        let expected: Vec<_> = expected.into_iter().map(|(w, p, d)| (w, p.to_string(), d)).collect();
        assert_eq!(told(&event), expected, "{dir} to {dir2}");
    }
}

#[test]
fn a_link_is_news_for_both_names() {
    let head = EventHead {
        dir: 10,
        dir2: 11,
        ino: 77,
        flags: EventHead::BY_NAME | EventHead::BY_NEW_NAME,
        ..EventHead::default()
    };
    let inside = event(Hook::InodeLink, head, "a", "b");
    let linked = Deed::Linked { to: Some(path("sub/b")) };
    assert_eq!(told(&inside), vec![(1, "a".into(), linked), (1, "sub/b".into(), Deed::Created)]);
    let outside = EventHead { dir2: 99, flags: EventHead::BY_NAME, ..head };
    assert_eq!(
        told(&event(Hook::InodeLink, outside, "a", "b")),
        vec![(1, "a".into(), Deed::Linked { to: None })]
    );
}

#[test]
fn what_is_not_known_yet_means_nothing_yet() {
    let head = EventHead { dir: 12, flags: EventHead::BY_NAME, ..EventHead::default() };
    let create = event(Hook::InodeCreate, head, "f", "");
    assert_eq!(told(&create), vec![]);
    assert!(!create.placed(&directories()));
    assert_eq!(create.unknown_directories(&directories()), vec![DirKey { dev: u64::from(DEV), ino: 12 }]);
}

#[test]
fn a_rename_waits_until_both_its_folders_are_known() {
    let flags = EventHead::BY_NAME | EventHead::BY_NEW_NAME;
    let head = EventHead { dir: 10, dir2: 12, flags, ..EventHead::default() };
    let rename = event(Hook::InodeRename, head, "a", "b");
    let dirs = directories();
    assert!(!rename.placed(&dirs));
    dirs.register(WatchId(1), &path("fresh"), DirKey { dev: u64::from(DEV), ino: 12 }, None);
    assert!(rename.placed(&dirs));
    let here = Deed::MovedHere { from: Some(path("a")) };
    assert_eq!(rename.meanings(&dirs)[0].deed, here);
}

#[test]
fn an_eight_mebibyte_ring_holds_over_50000_average_events() {
    // The kernel puts 8 bytes before each record and rounds up to 8. Names of /etc and /usr average below 20 bytes.
    let record = size_of::<fim_common::Record<32, 0>>();
    assert!((8 << 20) / (record + 8).next_multiple_of(8) > 50_000);
}
