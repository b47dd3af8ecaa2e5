mod copies;
mod faults;
mod retain;
mod tamper;

use std::os::unix::fs::PermissionsExt;

use rusqlite::params;

use super::*;
use crate::core::actor::Actor;
use crate::core::entry::tests::regular;
use crate::core::entry::{Found, Identity, XattrName, XattrValue};
use crate::core::event::{Event, EventKind, Record};
use crate::core::path::RelPath;

fn state() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    dir
}

fn rel(path: impl Into<Vec<u8>>) -> RelPath {
    RelPath::new(path).expect("sound path")
}

fn found(content: u8) -> Found {
    let identity = Identity { dev: u64::MAX - 1, ino: u64::MAX, ctime_ns: -7, nlink: 3 };
    Found { entry: regular(content), identity }
}

fn event(n: u64) -> Event {
    let mut event =
        Event::about_fim(EventKind::Modified, "host", "lsm", 1_000 * n.cast_signed(), format!("n{n}"));
    event.set_path(format!("/etc/file\n{n}").as_bytes());
    event
}

fn events(from: u64, to: u64) -> Vec<Event> {
    (from..=to).map(event).collect()
}

fn raw(dir: &Path) -> Connection {
    Connection::open(dir.join(DATABASE)).expect("opens")
}

const ETC: &str = "/etc";

#[test]
fn an_entry_comes_back_as_it_went_in() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    let mut odd = found(1);
    odd.entry.xattrs.0.insert(XattrName(b"user.\xfe".into()), XattrValue(b"\0\xff".to_vec()));
    odd.entry.target = Some(b"a\n\xff".to_vec());
    odd.entry.rdev = u64::MAX;
    odd.entry.sha256 = None;
    let path = rel(b"odd\n\xff\\".to_vec());
    let etc = Path::new(ETC);
    store
        .baseline_put_many(etc, &[(RelPath::root(), found(9)), (path.clone(), odd.clone())])
        .expect("written");
    assert_eq!(store.baseline_get(etc, &path).expect("read"), Some(odd.clone()));
    assert_eq!(store.baseline_get(etc, &RelPath::root()).expect("read"), Some(found(9)));
    assert_eq!(store.baseline_get(Path::new("/usr"), &path).expect("read"), None, "another watch");
    let moved = Identity { dev: 1, ino: 2, ctime_ns: 3, nlink: 4 };
    store.baseline_touch(etc, &[(path.clone(), moved), (rel("absent"), moved)]).expect("touched");
    odd.identity = moved;
    assert_eq!(store.baseline_get(etc, &path).expect("read"), Some(odd));
    assert_eq!(store.baseline_count(etc).expect("counted"), 2);
}

#[test]
fn what_is_read_at_one_moment_is_one_state() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    let (etc, path) = (Path::new(ETC), rel("file"));
    store.baseline_put_many(etc, &[(path.clone(), found(1))]).expect("written");
    let mut beside = Store::open_beside(dir.path()).expect("opens");
    let both = store.at_one_moment(|| {
        let before = store.baseline_get(etc, &path)?;
        beside.baseline_put_many(etc, &[(path.clone(), found(2))])?;
        Ok((before, store.baseline_get(etc, &path)?))
    });
    assert_eq!(both.expect("read"), (Some(found(1)), Some(found(1))));
    assert_eq!(store.baseline_get(etc, &path).expect("read"), Some(found(2)));
    let failed: Result<(), _> = store.at_one_moment(|| Err(StoreError::Absent(dir.path().into())));
    assert!(matches!(failed, Err(StoreError::Absent(_))));
    // Nothing is left open that would keep it from being written.
    store.baseline_put_many(etc, &[(path, found(3))]).expect("written");
}

#[test]
fn folders_are_listed_whatever_their_names_sort_like() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    let etc = Path::new(ETC);
    let paths =
        ["", "a", "a-b", "a/-", "a/b", "a/b-c", "a/b/c", "a/b/c/d", "a/b0", "a/c", "a0", "b/only-deep"];
    let entries: Vec<_> = paths.iter().map(|p| (rel(*p), found(1))).collect();
    store.baseline_put_many(etc, &entries).expect("written");
    store.baseline_put_many(Path::new("/usr"), &entries[..3]).expect("written");
    let names =
        |list: Vec<(RelPath, Found)>| list.into_iter().map(|(p, _)| p.to_string()).collect::<Vec<_>>();
    let list = |p: &str| names(store.baseline_list_dir(etc, &rel(p)).expect("listed"));
    let tree = |p: &str| names(store.baseline_children(etc, &rel(p)).expect("listed"));
    assert_eq!(list(""), ["a", "a-b", "a0"]);
    assert_eq!(list("a"), ["a/-", "a/b", "a/b-c", "a/b0", "a/c"]);
    assert_eq!(list("a/b"), ["a/b/c"]);
    assert_eq!(list("a/c"), [""; 0]);
    assert_eq!(list("b"), ["b/only-deep"]);
    assert_eq!(tree("a/b"), ["a/b", "a/b/c", "a/b/c/d"]);
    assert_eq!(tree(""), paths);
    assert_eq!(store.baseline_remove(etc, &rel("a")).expect("removed"), 8);
    assert_eq!(
        names(store.baseline_children(etc, &RelPath::root()).expect("listed")),
        ["", "a-b", "a0", "b/only-deep"]
    );
    assert_eq!(store.baseline_count(Path::new("/usr")).expect("counted"), 3, "the other watch is untouched");
}

#[test]
fn a_new_baseline_is_there_whole_or_not_at_all() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    let (etc, usr) = (Path::new(ETC), Path::new("/usr"));
    let taken = Taken { time: "2026-11-22T01:02:03Z".into(), by: "root".into(), host: "h".into() };
    let mut rebuild = store.baseline_rebuild().expect("begun");
    rebuild.put(etc, &[(rel("old"), found(1))]).expect("put");
    rebuild.commit(&taken).expect("committed");

    let mut rebuild = store.baseline_rebuild().expect("begun");
    rebuild.put(usr, &[(rel("new"), found(2))]).expect("put");
    let reader = Store::open_read_only(dir.path()).expect("a reader beside");
    assert!(reader.baseline_get(etc, &rel("old")).expect("read").is_some(), "old one visible meanwhile");
    drop(rebuild);
    assert!(store.baseline_get(etc, &rel("old")).expect("read").is_some(), "old one back after giving up");
    assert_eq!(store.baseline_taken().expect("read"), Some(taken));

    let mut rebuild = store.baseline_rebuild().expect("begun");
    let many: Vec<_> = (0..100_000).map(|n| (rel(format!("d{}/f{n}", n % 300)), found(3))).collect();
    let start = std::time::Instant::now();
    rebuild.put(usr, &many).expect("put");
    let later = Taken { time: "2026-11-23T00:00:00Z".into(), by: "ann".into(), host: "i".into() };
    rebuild.commit(&later).expect("committed");
    println!("100,000 entries in {:?}", start.elapsed());
    assert_eq!(store.baseline_watches().expect("listed"), [usr]);
    assert_eq!(store.baseline_count(usr).expect("counted"), 100_000);
    assert_eq!(reader.baseline_taken().expect("read"), Some(later));
}

#[test]
fn the_ledger_is_chained_and_read_in_order() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    assert_eq!(store.ledger_head().expect("head").seq, 0);
    assert_eq!(store.verify_chain().expect("verified").fault, None, "an empty chain is sound");
    let first = store.append(&events(1, 3), &[]).expect("appended");
    drop(store);
    let mut store = Store::open(dir.path()).expect("opens again");
    let second = store.append(&events(4, 5), &[]).expect("appended");
    let all: Vec<Record> = [first, second].concat();
    assert_eq!(all.iter().map(|r| r.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let reader = Store::open_read_only(dir.path()).expect("a reader beside");
    assert_eq!(reader.ledger_after(0, 100).expect("read"), all);
    assert_eq!(reader.ledger_after(2, 2).expect("read"), all[2..4]);
    assert_eq!(reader.ledger_tail(2).expect("read"), all[3..]);
    let report = reader.verify_chain().expect("verified");
    assert_eq!((report.sound, report.fault), (5, None));
    assert_eq!(reader.ledger_head().expect("head"), report.head);
    assert!(all[4].id.len() == 32 && report.head.hash.starts_with(&hex(&all[4].id)));
    // What the documentation promises to others who recompute it: the first record, from its parts.
    let body: String =
        raw(dir.path()).query_row("SELECT body FROM ledger WHERE seq = 1", [], |r| r.get(0)).expect("body");
    use sha2::Digest;
    let hash = sha2::Sha256::digest([&[0; 32][..], &1u64.to_be_bytes(), body.as_bytes()].concat());
    assert_eq!(hex(&all[0].id), hash[..16]);
    let kind: (String, String, String) = raw(dir.path())
        .query_row("SELECT kind, path, id FROM ledger WHERE path = '/etc/file\\x0a2'", [], |r| {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?))
        })
        .expect("columns for people");
    assert_eq!(kind, ("modified".into(), "/etc/file\\x0a2".into(), all[1].id.clone()));
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hexadecimal"))
        .collect()
}

#[test]
fn tampering_with_the_ledger_shows() {
    const UNLOCK: &str =
        "DROP TRIGGER ledger_no_update; DROP TRIGGER ledger_no_delete; PRAGMA foreign_keys = off;";
    let cases = [
        ("UPDATE ledger SET body = replace(body, 'n3', 'n9') WHERE seq = 3", Fault::Altered { seq: 3 }),
        ("UPDATE ledger SET body = body || ' ' WHERE seq = 1", Fault::Altered { seq: 1 }),
        ("UPDATE ledger SET prev = zeroblob(32) WHERE seq = 2", Fault::Altered { seq: 2 }),
        ("UPDATE ledger SET hash = zeroblob(32) WHERE seq = 2", Fault::Altered { seq: 2 }),
        ("UPDATE ledger SET hash = x'00' WHERE seq = 2", Fault::Unreadable { after: 1 }),
        ("DELETE FROM ledger WHERE seq = 1", Fault::Missing { seq: 1, next: 2 }),
        ("DELETE FROM ledger WHERE seq IN (3, 4)", Fault::Missing { seq: 3, next: 5 }),
        ("DELETE FROM ledger WHERE seq = 5", Fault::Truncated { last: 4, noted: 5 }),
        ("DELETE FROM ledger", Fault::Truncated { last: 0, noted: 5 }),
        ("DELETE FROM meta WHERE key = 'ledger_head'", Fault::HeadAltered),
        (
            "CREATE TEMP TABLE IF NOT EXISTS t AS SELECT seq, body FROM ledger WHERE seq IN (2, 3);
             UPDATE ledger SET body = (SELECT body FROM t WHERE t.seq = 5 - ledger.seq) WHERE seq IN (2, 3)",
            Fault::Altered { seq: 2 },
        ),
        ("UPDATE ledger SET seq = 99 WHERE seq = 5", Fault::Missing { seq: 5, next: 99 }),
        ("UPDATE ledger SET seq = -1 WHERE seq = 5", Fault::Altered { seq: u64::MAX }),
        (
            "INSERT INTO ledger (seq, time_us, class, body, prev, hash) SELECT 6, time_us, class, body, hash, hash FROM ledger WHERE seq = 5",
            Fault::Altered { seq: 6 },
        ),
    ];
    for (sql, fault) in cases {
        let dir = state();
        let mut store = Store::open(dir.path()).expect("opens");
        store.append(&events(1, 5), &[]).expect("appended");
        drop(store);
        let shell = raw(dir.path());
        if !sql.starts_with("INSERT") && !sql.contains("meta") {
            assert!(shell.execute_batch(sql).is_err(), "refused while the triggers stand: {sql}");
        }
        shell.execute_batch(UNLOCK).expect("root can drop triggers");
        shell.execute_batch(sql).expect(sql);
        drop(shell);
        let report = Store::open_read_only(dir.path()).expect("opens").verify_chain().expect("verified");
        assert_eq!(report.fault.as_ref(), Some(&fault), "{sql}");
        assert!(report.sound < 6, "{report:?}");
    }
}

fn planned(intent: &mut Intent) -> Planned<'_> {
    Planned { watch: &intent.watch, path: &intent.path, event: &mut intent.event }
}

#[test]
fn intents_name_their_own_actors() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    let by = |pids: &[u32]| {
        let mut actors = pids.iter().map(|pid| Actor { pid: Some(*pid), ..Actor::unknown() });
        let mut event = event(8);
        event.actor = actors.next();
        event.other_actors = actors.collect();
        Intent { watch: ETC.into(), path: rel("a"), event }
    };
    let mut begun = [by(&[7]), by(&[7]), by(&[7, 9]), by(&[]), by(&[7])];
    store.intents_begin(begun.iter_mut().map(planned)).expect("noted");
    let open: Vec<Intent> =
        store.intents_open().expect("read").into_iter().map(|(_, intent)| intent).collect();
    assert_eq!(open, begun);
}

#[test]
fn intents_survive_until_their_outcome_is_recorded() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    let intent =
        |name: &[u8]| Intent { watch: PathBuf::from("/etc\n"), path: rel(name.to_vec()), event: event(8) };
    let mut begun = [intent(b"a\xff"), intent(b"b")];
    let ids = store.intents_begin(begun.iter_mut().map(planned)).expect("noted");
    assert_eq!(begun, [intent(b"a\xff"), intent(b"b")], "the events are given back whole");
    drop(store);
    let mut store = Store::open(dir.path()).expect("opens again");
    assert_eq!(store.intents_open().expect("read"), [(ids[0], intent(b"a\xff")), (ids[1], intent(b"b"))]);
    let row = EvidenceRow {
        watch: ETC.into(),
        path: rel("a"),
        found: found(4),
        digest: found(4).entry.sha256,
        reason: crate::core::quarantine::Reason::Removed,
    };
    let bad = store.append_with(&events(1, 1), &ids, &[(1, row.clone())]);
    assert!(bad.is_err(), "evidence of an event that is not there");
    assert_eq!(store.intents_open().expect("read").len(), 2, "a failed batch leaves no half");
    assert_eq!(store.ledger_head().expect("head").seq, 0);
    let records = store.append_with(&events(1, 2), &ids[..1], &[(1, row.clone())]).expect("appended");
    assert_eq!(store.evidence_of(records[1].seq).expect("read"), [row]);
    assert_eq!(store.evidence_of(records[0].seq).expect("read"), []);
    assert_eq!(store.intents_open().expect("read"), [(ids[1], intent(b"b"))]);
    let next = store.intents_begin([planned(&mut intent(b"c"))]).expect("noted");
    assert!(next[0] > ids[1], "ids are never used again");
}

#[test]
fn a_new_cursor_begins_at_the_end_and_never_moves_back() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    store.append(&events(1, 7), &[]).expect("appended");
    assert_eq!(store.cursor_get("hook").expect("read"), None);
    let mut beside = Store::open_beside(dir.path()).expect("opens beside");
    assert_eq!(beside.cursor_or_head("hook").expect("begun"), 7);
    store.append(&events(8, 9), &[]).expect("the writer goes on");
    assert_eq!(beside.cursor_or_head("hook").expect("kept"), 7);
    beside.cursor_set("hook", 9).expect("moved");
    beside.cursor_set("hook", 8).expect("ignored");
    assert_eq!(store.cursor_get("hook").expect("read"), Some(9));
    let state = SinkState {
        name: "hook".into(),
        cursor: 3,
        error: Some("x".into()),
        parked: 2,
        ..Default::default()
    };
    beside.sink_state_set(&state).expect("written");
    assert_eq!(store.sink_states().expect("read"), [SinkState { cursor: 9, ..state }]);
}

#[test]
fn what_stands_is_noted_until_it_is_resolved() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    let etc = Path::new(ETC);
    store.baseline_put_many(etc, &[(rel("a"), found(1))]).expect("written");
    let ids = store
        .intents_begin([planned(&mut Intent { watch: ETC.into(), path: rel("a"), event: event(1) })])
        .expect("noted");
    let moved = Identity { dev: 5, ino: 6, ctime_ns: 7, nlink: 8 };
    let upkeep = Upkeep {
        seen: vec![(rel("a"), moved)],
        open: vec![(rel("b"), Some(regular(2))), (rel("c"), None)],
        closed_intents: ids,
        ..Upkeep::default()
    };
    store.keep_up(etc, &upkeep).expect("noted");
    assert_eq!(store.baseline_get(etc, &rel("a")).expect("read").map(|f| f.identity), Some(moved));
    assert_eq!(store.open_change(etc, &rel("b")).expect("read"), Some(Some(regular(2))));
    assert_eq!(store.open_change(etc, &rel("c")).expect("read"), Some(None));
    assert_eq!(store.open_change(Path::new("/usr"), &rel("c")).expect("read"), None);
    assert!(store.intents_open().expect("read").is_empty());
    store.keep_up(etc, &Upkeep { resolved: vec![rel("b")], ..Upkeep::default() }).expect("noted");
    assert_eq!(
        (store.open_change(etc, &rel("b")).expect("read"), store.open_changes().expect("read")),
        (None, 1)
    );
    let taken = Taken { time: String::new(), by: String::new(), host: String::new() };
    store.baseline_rebuild().expect("begun").commit(&taken).expect("committed");
    assert_eq!(store.open_changes().expect("read"), 0, "a new baseline approves what stands");
}

#[test]
fn the_status_tells_a_dead_daemon_from_a_live_one() {
    let dir = state();
    assert_eq!(status::Status::read(dir.path()).expect("readable"), None);
    let mut status = status::Status { tier: "fentry".into(), ..status::Status::of_this_process() };
    status
        .counters
        .insert("file_open".into(), status::HookCounters { seen: 3, kept: 2, dropped: 1, skipped: 4 });
    status.write(dir.path()).expect("written");
    assert_eq!(status::Status::read(dir.path()).expect("readable"), Some(status.clone()));
    assert!(status.is_alive());
    status.start_ticks += 1;
    assert!(!status.is_alive(), "another process with the same pid");
}

#[test]
fn ledger_rows_are_written_fast_enough() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    let batch = events(1, 1_000);
    let start = std::time::Instant::now();
    for _ in 0..20 {
        store.append(&batch, &[]).expect("appended");
    }
    println!("20,000 rows in {:?}", start.elapsed());
    let rows: i64 = raw(dir.path())
        .query_row("SELECT count(*) FROM ledger WHERE seq <= ?1", params![20_000], |r| r.get(0))
        .expect("counted");
    assert_eq!(rows, 20_000);
}

#[test]
fn a_decision_is_written_whole_and_the_former_version_is_remembered() {
    use crate::core::quarantine::{Fate, Reason};
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    let (etc, path) = (Path::new(ETC), rel(&b"a\n\xff"[..]));
    store.baseline_put_many(etc, &[(path.clone(), found(1)), (rel("b"), found(1))]).expect("written");
    let open = Upkeep { open: vec![(path.clone(), None)], ..Upkeep::default() };
    store.keep_up(etc, &open).expect("noted");
    let row = EvidenceRow {
        watch: ETC.into(),
        path: path.clone(),
        found: found(2),
        digest: found(2).entry.sha256,
        reason: Reason::Altered,
    };
    let seq = store.append_with(&events(1, 1), &[], &[(0, row)]).expect("appended")[0].seq;
    let held = store.held_of(etc, &path).expect("read").pop().expect("a row");
    assert_eq!(
        (held.seq, held.reason, held.fate, held.entry()),
        (seq, Reason::Altered, None, found(2).entry)
    );
    let approval = Approval {
        watch: ETC.into(),
        path: path.clone(),
        baseline: Baseline::Put(found(2)),
        event: event(9),
        evidence: Vec::new(),
        closes: None,
        released: Some(held.id),
    };
    let record = store.approve(&approval).expect("approved");
    assert_eq!(store.record(record.seq).expect("read"), Some(record.clone()));
    assert_eq!(store.records_with_id(&record.id[..9]).expect("read"), std::slice::from_ref(&record));
    assert_eq!(store.baseline_get(etc, &path).expect("read"), Some(found(2)));
    assert_eq!(store.open_change(etc, &path).expect("read"), None);
    let former = store.former_of(etc, &path).expect("read").pop().expect("a row");
    assert_eq!((former.entry.clone(), former.seq), (found(1).entry, Some(record.seq)));
    assert_eq!(store.former_one(former.id).expect("read"), Some(former));
    assert_eq!(store.held_one(held.id).expect("read").and_then(|h| h.fate), Some(Fate::Released));
    assert!(store.held(false).expect("read").is_empty() && store.held(true).expect("read").len() == 1);
    // The other entry with the same content stays, the path below its name as well.
    store.approve(&Approval { baseline: Baseline::Remove, released: None, ..approval }).expect("approved");
    assert_eq!(store.baseline_get(etc, &path).expect("read"), None);
    assert_eq!(store.baseline_count(etc).expect("read"), 1);
    assert_eq!(store.former_of(etc, &path).expect("read").len(), 2);
    store.verify_chain().expect("the chain holds");
}

#[test]
fn content_is_needed_until_the_last_row_that_names_it_is_purged() {
    use crate::core::quarantine::Reason;
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    let digest = found(4).entry.sha256.expect("a digest");
    assert!(!store.needs(&digest).expect("read"));
    let row = |name: &str| EvidenceRow {
        watch: ETC.into(),
        path: rel(name),
        found: found(4),
        digest: Some(digest),
        reason: Reason::Removed,
    };
    store.append_with(&events(1, 2), &[], &[(0, row("a")), (1, row("b"))]).expect("appended");
    let ids: Vec<i64> = store.held(false).expect("read").iter().map(|held| held.id).collect();
    for (id, needed) in ids.into_iter().zip([true, false]) {
        let records = store.purge(&[Purge { id, event: event(7) }]).expect("purged");
        assert_eq!((records.len(), store.needs(&digest).expect("read")), (1, needed));
    }
    store.baseline_put_many(Path::new(ETC), &[(rel("c"), found(4))]).expect("written");
    assert!(store.needs(&digest).expect("read"), "approved");
}

#[test]
fn a_statement_that_takes_long_is_alive_to_the_watchdog() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(dir.path()).expect("a store");
    let _living = crate::pulse::begin("test-store");
    let pulse = crate::pulse::own().expect("begun");
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT count(*) FROM n";
    let counted = store.run("counting", |db| db.query_row(sql, [], |row| row.get::<_, i64>(0)));
    assert_eq!(counted.expect("counted"), 300_000);
    assert!(pulse.beats() > 1, "{} beats", pulse.beats());
}
