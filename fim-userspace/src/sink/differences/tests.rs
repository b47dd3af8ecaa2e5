use std::os::unix::fs::PermissionsExt;

use sha2::Digest as _;

use super::*;
use crate::core::entry::tests::regular;
use crate::core::entry::{Entry, FileType};
use crate::core::event::{Event, EventKind, State};
use crate::store::lines::Since;

struct World {
    dir: tempfile::TempDir,
    store: Store,
    vault: Vault,
    reader: Reader,
}

fn world() -> World {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    let store = Store::open(dir.path()).expect("a store");
    let vault = Vault::open(&dir.path().join("vault")).expect("a vault");
    let secrets = Secrets::new(&[], std::iter::empty()).expect("valid");
    let key = LineKey::open(dir.path()).expect("a key");
    let reader = Reader { vault: dir.path().join("vault"), secrets, key };
    World { dir, store, vault, reader }
}

impl World {
    fn state(&self, content: &[u8]) -> State {
        let digest = self.vault.put(&mut &content[..]).expect("kept");
        let entry = Entry { sha256: Some(digest), size: content.len() as u64, ..regular(1) };
        State::from(&entry)
    }

    fn change(&self, path: &str, before: &[u8], after: &[u8]) -> Event {
        let mut event = Event::about_fim(EventKind::Modified, "h", "scan", 0, String::new());
        event.set_path(path.as_bytes());
        (event.before, event.after) = (Some(self.state(before)), Some(self.state(after)));
        event
    }

    fn read(&mut self, events: &[Event]) -> Vec<Record> {
        let records = self.store.append(events, &[]).expect("recorded");
        assert_eq!(self.reader.read(&mut self.store, &records), Ok(records.len()));
        records
    }

    fn rows(&self, seq: u64) -> Vec<(Since, Outcome, Vec<Difference>)> {
        let told = self.store.compared_by(seq, seq).expect("read");
        told.into_iter()
            .map(|(_, since, c)| (since, c.outcome, self.store.differences(c.id).expect("read")))
            .collect()
    }

    fn count(&self, table: &str) -> i64 {
        let db = rusqlite::Connection::open(self.dir.path().join("fim.db")).expect("opens");
        db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("counted")
    }
}

fn brief(d: &Difference) -> (String, u64, u64, Option<&str>, u64, u64, Option<&str>) {
    let (old, new) = (&d.old, &d.new);
    (d.operation.clone(), old.line, old.lines, old.text.as_deref(), new.line, new.lines, new.text.as_deref())
}

#[test]
fn each_run_of_lines_is_one_row_and_a_repeated_change_none() {
    let mut world = world();
    let event = world.change("/w/f", b"a\nb\nc\nd\n", b"a\nB\nd\ne\nf\n");
    let records = world.read(std::slice::from_ref(&event));
    let told = world.rows(records[0].seq);
    let [(Since::Approved, Outcome::Lines, rows)] = &told[..] else { panic!("{told:?}") };
    let expected = [
        ("update".into(), 2, 2, Some("b\nc\n"), 2, 1, Some("B\n")),
        ("insert".into(), 4, 0, None, 4, 2, Some("e\nf\n")),
    ];
    assert_eq!(rows.iter().map(brief).collect::<Vec<_>>(), expected);
    world.read(&[event]);
    // After a crash the same record is read again.
    assert_eq!(world.reader.read(&mut world.store, &records), Ok(1));
    assert_eq!(
        (world.count("comparison"), world.count("difference"), world.count("event_comparison")),
        (1, 2, 2)
    );
    assert_eq!((world.count("differences"), world.count("event_differences")), (2, 4));
}

#[test]
fn what_was_left_unfinished_is_finished_and_not_doubled() {
    let mut world = world();
    let event = world.change("/w/f", b"a\nb\nc\n", b"a\nB\nc\nd\n");
    let pair = pairs(&event)[0].pair.clone();
    let id = world.store.compare_begin(&pair).expect("begun");
    let side = |line, lines, text: &str| Side { line, lines, text: Some(text.into()), digest: None };
    let half = Difference {
        operation: "update".into(),
        old: side(2, 1, "b\n"),
        new: side(2, 1, "B\n"),
        omitted: None,
    };
    world.store.compare_add(id, &[half]).expect("written");
    let records = world.read(&[event]);
    let told = world.rows(records[0].seq);
    assert_eq!((told[0].1, told[0].2.len(), world.count("difference")), (Outcome::Lines, 2, 2));
}

#[test]
fn successive_versions_are_compared_too() {
    let mut world = world();
    let mut event = world.change("/w/f", b"a\n", b"a\nb\nc\n");
    event.previous = Some(Some(world.state(b"a\nb\n")));
    let mut gone = event.clone();
    (gone.kind, gone.after, gone.previous) = (EventKind::Deleted, None, event.previous.clone());
    let records = world.read(&[event, gone]);
    let told = world.rows(records[0].seq);
    assert_eq!(told.len(), 2);
    assert_eq!(brief(&told[1].2[0]), ("insert".into(), 2, 0, None, 3, 1, Some("c\n")));
    let told = world.rows(records[1].seq);
    assert_eq!(brief(&told[0].2[0]), ("delete".into(), 1, 1, Some("a\n"), 0, 0, None));
    assert_eq!(brief(&told[1].2[0]), ("delete".into(), 1, 2, Some("a\nb\n"), 0, 0, None));
}

#[test]
fn secrets_leave_numbers_and_keyed_digests() {
    let mut world = world();
    let event = world.change("/etc/shadow", b"root:x\nann:old\n", b"root:x\nann:new\n");
    let same = world.change("/etc/gshadow", b"root:x\nann:old\n", b"root:x\nann:new\n");
    let mut moved = world.change("/etc/innocent", b"", b"ann:new\n");
    moved.old_path = Some("/etc/shadow".into());
    let records = world.read(&[event, same, moved]);
    let told = world.rows(records[0].seq);
    let row = &told[0].2[0];
    assert_eq!(brief(row), ("update".into(), 2, 1, None, 2, 1, None));
    assert_eq!(row.omitted, Some(Omitted::Secret));
    let digest = row.new.digest.clone().expect("a digest");
    assert_ne!(Some(&digest), row.old.digest.as_ref());
    assert_eq!(digest, world.reader.key.digest(Path::new("/etc/shadow"), "ann:new\n"));
    assert_ne!(digest, crate::core::entry::Digest(sha2::Sha256::digest(b"ann:new\n").into()).to_string());
    assert_ne!(
        world.rows(records[1].seq)[0].2[0].new.digest,
        Some(digest),
        "another file's digest tells nothing"
    );
    assert_eq!(world.rows(records[2].seq)[0].2[0].omitted, Some(Omitted::Secret));
    let key = world.dir.path().join("lines.key");
    assert_eq!(std::fs::metadata(&key).expect("there").permissions().mode() & 0o777, 0o600);
    let again = LineKey::open(world.dir.path()).expect("read");
    assert_eq!(again.digest(Path::new("/a"), "b"), world.reader.key.digest(Path::new("/a"), "b"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).expect("chmod");
    assert!(LineKey::open(world.dir.path()).is_err());
    let files =
        ["fim.db", "fim.db-wal"].map(|name| std::fs::read(world.dir.path().join(name)).unwrap_or_default());
    assert!(!files.concat().windows(7).any(|bytes| bytes == b"ann:new"));
}

#[test]
fn what_cannot_be_compared_says_why() {
    let mut world = world();
    let binary = world.change("/w/b", b"\x7fELF\0", b"\x7fELF\0\0");
    let mut large = world.change("/w/l", b"a\n", b"b\n");
    if let Some(after) = &mut large.after {
        after.size = 50 << 20;
    }
    let mut away = world.change("/w/a", b"a\n", b"b\n");
    if let Some(after) = &mut away.after {
        after.sha256 = Some("9".repeat(64));
    }
    let long = world.change("/w/t", b"", &vec![b'x'; MOST_TEXT + 1]);
    let mut link = world.change("/w/s", b"a\n", b"b\n");
    if let Some(after) = &mut link.after {
        (after.kind, after.sha256) = (FileType::Symlink, None);
    }
    let attributes = world.change("/w/same", b"a\n", b"a\n");
    let records = world.read(&[binary, large, away.clone(), long, link, attributes]);
    let outcome = |n: usize| world.rows(records[n].seq).first().map(|told| told.1);
    let expected = [Outcome::Binary, Outcome::TooLarge, Outcome::NotKept, Outcome::Lines, Outcome::Lines];
    for (n, expected) in expected.into_iter().enumerate() {
        assert_eq!(outcome(n), Some(expected), "{n}");
    }
    assert_eq!(outcome(5), None);
    let row = world.rows(records[3].seq)[0].2[0].clone();
    assert_eq!((row.omitted, row.new.lines, row.new.text), (Some(Omitted::Long), 1, None));
    assert_eq!(world.rows(records[4].seq)[0].2[0].operation, "delete");
    // What comes into the vault later is compared when it is told of again.
    world.vault.put(&mut &b"c\n"[..]).expect("kept");
    if let Some(after) = &mut away.after {
        after.sha256 = Some(world.state(b"c\n").sha256.expect("a digest"));
    }
    let again = world.read(&[away]);
    assert_eq!(world.rows(again[0].seq)[0].1, Outcome::Lines);
}

#[test]
fn pruned_records_take_along_what_only_they_told_of() {
    let mut world = world();
    let (one, two) = (world.change("/w/1", b"a\n", b"b\n"), world.change("/w/2", b"a\n", b"b\n"));
    let records = world.read(&[one, two.clone(), two.clone()]);
    let stamp = |message| Event::about_fim(EventKind::Purged, "h", "scan", 0, message);
    let head = crate::store::Head { seq: records[1].seq, ..world.store.ledger_head().expect("read") };
    let pruning = crate::store::Pruning { head, why: "a test".into() };
    world.store.prune(&pruning, "2026-01-01T00:00:00Z", stamp).expect("noted");
    let mut after = 0;
    while let Some(last) = world.store.prune_some(after, 1).expect("removed") {
        after = last;
    }
    assert_eq!(
        (world.count("comparison"), world.count("difference"), world.count("event_comparison")),
        (1, 1, 1)
    );
    assert_eq!(world.rows(records[2].seq).len(), 1);
    // A record that is gone is not linked to any more.
    assert_eq!(world.reader.read(&mut world.store, &records[..1]), Ok(1));
    assert_eq!(world.count("event_comparison"), 1);
}
