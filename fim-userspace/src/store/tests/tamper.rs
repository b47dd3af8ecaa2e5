//! Whatever is done to the ledger by somebody who can write the database, verifying tells.

use std::collections::BTreeMap;
use std::process::Command;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::store::ledger::link;
use crate::store::seal::{Beside, KeyFile, KeyState, STOPPED, Sealer, TIME, VerificationKey};
use crate::store::verify::verify_in;

const FIRST: u64 = 41;
const LAST: u64 = 131;

const UNLOCK: &str = "DROP TRIGGER ledger_no_update; DROP TRIGGER ledger_no_delete;";

/// A ledger that was sealed and pruned, up to its last record.
fn ledger(dir: &Path) -> VerificationKey {
    let mut store = Store::open(dir).expect("opens");
    let key = Sealer::set_up(&mut store, 0).expect("set up");
    let mut sealer = Sealer::open(dir).expect("read").expect("there");
    let row = EvidenceRow {
        watch: ETC.into(),
        path: rel("a"),
        found: found(4),
        digest: found(4).entry.sha256,
        reason: crate::core::quarantine::Reason::Altered,
    };
    store.baseline_put_many(Path::new(ETC), &[(rel("a"), found(7)), (rel("b"), found(8))]).expect("written");
    let mut from = 1;
    for to in [20, 40, 70, 100, 130] {
        let mut events = events(from, to);
        for event in &mut events {
            let mut actor = crate::core::actor::Actor::unknown();
            (actor.uid, actor.exe) = (Some(from as u32), Some("/bin/sh".into()));
            event.actor = Some(actor);
            event.old_path = Some("/etc/old".into());
        }
        store.append_with(&events, &[], &[(3, row.clone())]).expect("appended");
        sealer.seal(&mut store, to as i64, TIME).expect("sealed");
        from = to + 1;
    }
    let limits = Retention { max_age: None, max_size: Some(90 * 700) };
    let mut pruning = store.pruning(limits, 0).expect("looked").expect("too large");
    pruning.head = Head { seq: 40, hash: hash_at(dir, 40) };
    let purged = |message| Event::about_fim(EventKind::Purged, "host", "lsm", 0, message);
    store.prune(&pruning, "t", purged).expect("announced");
    while store.prune_some(0, 100).expect("removed").is_some() {}
    sealer.seal(&mut store, 131, STOPPED).expect("sealed");
    assert_eq!(store.beside().expect("compared"), Beside::Sealed);
    assert_eq!(store.ledger_head().expect("head").seq, LAST);
    key
}

fn hash_at(dir: &Path, seq: i64) -> [u8; 32] {
    raw(dir).query_row("SELECT hash FROM ledger WHERE seq = ?1", [seq], |r| r.get(0)).expect("there")
}

/// One thing that somebody does.
#[derive(Clone, Debug)]
enum Tamper {
    Sql(String),
    /// A record's text is changed and its own hash made right.
    Rehash(u64),
    /// All from here on is written anew, every hash and note right; and so many records are cut off the end.
    Rewrite(u64, u64),
    /// As the last one, and all seals are made anew with another key.
    Reseal(u64),
}

fn record() -> impl Strategy<Value = u64> {
    FIRST..=LAST
}

fn ledger_edit() -> impl Strategy<Value = Tamper> {
    let edits = [
        "body = body || ' '",
        "body = replace(body, '\"time\":\"19', '\"time\":\"29')",
        "body = replace(body, '\"host\":\"h', '\"host\":\"g')",
        "body = '{}'",
        "body = '[]'",
        "time_us = time_us + 1",
        "class = CASE class WHEN 1 THEN 2 ELSE 1 END",
        "actors = CASE actors WHEN 1 THEN 2 ELSE 1 END",
        "actors = CASE WHEN actors IS NULL THEN 1 ELSE NULL END",
        "path_id = ifnull(path_id, 0) + 1",
        "path_id = CASE WHEN path_id IS NULL THEN 1 ELSE NULL END",
        "path_id = CASE WHEN path_id IS NULL THEN 0 ELSE -path_id END",
        "old_path_id = CASE WHEN old_path_id IS NULL THEN 0 ELSE NULL END",
        "old_path_id = ifnull(old_path_id, 0) + 1",
        "path_id = ifnull(old_path_id, 5), old_path_id = path_id",
        "prev = zeroblob(32)",
        "hash = randomblob(32)",
        "prev = randomblob(32), hash = randomblob(32)",
        "hash = x''",
        "seq = seq + 1000",
        "seq = -seq",
        "seq = CASE WHEN seq IN (44, 64) OR seq > 80 THEN seq + 9000 ELSE seq - 40 END",
    ];
    (record(), prop::sample::select(edits.to_vec()))
        .prop_map(|(seq, set)| Tamper::Sql(format!("UPDATE ledger SET {set} WHERE seq = {seq}")))
}

fn removal() -> impl Strategy<Value = Tamper> {
    let some = (record(), 0u64..12, any::<bool>()).prop_map(|(seq, more, head)| {
        let mut sql = format!("DELETE FROM ledger WHERE seq BETWEEN {seq} AND {};", seq + more);
        if head {
            sql += NOTE_HEAD;
        }
        Tamper::Sql(sql)
    });
    let tail = (record(), any::<bool>()).prop_map(|(seq, head)| {
        Tamper::Sql(format!("DELETE FROM ledger WHERE seq >= {seq}; {}", if head { NOTE_HEAD } else { "" }))
    });
    // What was removed leaves no gap in the numbers.
    let closed = record().prop_map(|seq| {
        let seq = seq.min(LAST - 1);
        Tamper::Sql(format!(
            "DELETE FROM ledger WHERE seq = {seq}; UPDATE ledger SET seq = -seq WHERE seq > {seq};
             UPDATE ledger SET seq = -seq - 1 WHERE seq < 0; {NOTE_HEAD}"
        ))
    });
    prop_oneof![some, tail, closed]
}

/// Makes the note of the end agree with what is there.
const NOTE_HEAD: &str =
    "UPDATE meta SET value = (SELECT seq || ' ' || lower(hex(hash)) FROM ledger ORDER BY seq DESC LIMIT 1)
                         WHERE key = 'ledger_head';";

fn swap() -> impl Strategy<Value = Tamper> {
    let columns = [
        "body",
        "prev, hash, body",
        "time_us, class, actors, path_id, old_path_id, prev, hash, body",
        "hash",
    ];
    (record(), record(), prop::sample::select(columns.to_vec()))
        .prop_filter("two records", |(a, b, _)| a != b)
        .prop_map(|(a, b, columns)| {
            Tamper::Sql(format!(
                "CREATE TEMP TABLE t AS SELECT * FROM ledger WHERE seq IN ({a}, {b});
                 UPDATE ledger SET ({columns}) = (SELECT {columns} FROM t WHERE t.seq = {a} + {b} - ledger.seq)
                 WHERE seq IN ({a}, {b}); DROP TABLE t;"
            ))
        })
}

fn insertion() -> impl Strategy<Value = Tamper> {
    let places = [LAST as i64 + 1, 0, -3, 39, LAST as i64 + 9];
    (record(), prop::sample::select(places.to_vec())).prop_map(|(seq, place)| {
        Tamper::Sql(format!(
            "INSERT INTO ledger (seq, time_us, class, actors, path_id, old_path_id, prev, hash, body)
             SELECT {place}, time_us, class, actors, path_id, old_path_id, prev, hash, body FROM ledger WHERE seq = {seq}; {}",
            if place > LAST as i64 { NOTE_HEAD } else { "" }
        ))
    })
}

/// Everything besides the records that the proof rests on, or that queries find them by.
fn around() -> impl Strategy<Value = Tamper> {
    let ways = [
        "UPDATE meta SET value = '5 00' WHERE key = 'ledger_head'",
        "UPDATE meta SET value = replace(value, '131 ', '130 ') WHERE key = 'ledger_head'",
        "DELETE FROM meta WHERE key = 'ledger_head'",
        "DELETE FROM pruned",
        "UPDATE pruned SET seq = seq + 1",
        "UPDATE pruned SET time = 'u'",
        "UPDATE pruned SET hash = randomblob(32)",
        "UPDATE pruned SET link = randomblob(32)",
        "INSERT INTO pruned SELECT 2, time, seq + 9, hash, kept, link FROM pruned",
        "DELETE FROM pruned_kept WHERE seq = 4",
        "UPDATE pruned_kept SET seq = 5 WHERE seq = 4",
        "UPDATE pruned_kept SET hash = randomblob(32)",
        "DELETE FROM evidence; DELETE FROM ledger WHERE seq = 4",
        "UPDATE ledger SET body = body || ' ' WHERE seq = 24",
        "UPDATE ledger SET path_id = 90 WHERE seq = 24",
        "DELETE FROM seal",
        "DELETE FROM ledger_span WHERE id = 4",
        "UPDATE ledger_span SET min_time_us = min_time_us + 1 WHERE id = 5",
        "UPDATE ledger_span SET max_time_us = 0 WHERE id = 5",
        "INSERT INTO ledger_span VALUES (99, 0, 0)",
        "INSERT INTO ledger_span VALUES (0, 0, 0)",
        "DELETE FROM ledger_span WHERE id >= 6",
        "UPDATE ledger_column SET data = randomblob(length(data) + 1) WHERE id / 8 = 6",
        "UPDATE ledger_column SET data = randomblob(length(data)) WHERE id = 8 * 2 + 3",
        "DELETE FROM ledger_span WHERE id = 2",
        "UPDATE ledger_column SET data = x'' WHERE id = 8 * 5 + 1",
        "UPDATE ledger_column SET data = randomblob(16) WHERE id = 8 * 5 + 3",
        "UPDATE ledger_column SET id = -id WHERE id = 8 * 4",
        "DELETE FROM ledger_column WHERE id = 8 * 5 + 2",
        "INSERT INTO ledger_column VALUES (8 * 5 + 7, x'01')",
        "INSERT INTO ledger_column VALUES (8 * 70, x'01')",
        "INSERT INTO ledger_column VALUES (1, x'01')",
        "UPDATE ledger_class SET kind = kind || 'x'",
        "DELETE FROM ledger_class",
        "UPDATE ledger_actors SET actors = '[1,2]' WHERE id = (SELECT max(id) FROM ledger_actors)",
        "UPDATE ledger_actors SET actors = '[]' WHERE id = (SELECT max(id) FROM ledger_actors)",
        "UPDATE ledger_actors SET actors = 'x' WHERE id = (SELECT max(id) FROM ledger_actors)",
        "DELETE FROM ledger_actors",
        "UPDATE actor SET uid = uid + 1",
        "UPDATE actor SET gid = 7",
        "UPDATE actor SET euid = NULL, auid = 0",
        "UPDATE actor SET exe = NULL",
        "DELETE FROM actor",
        "UPDATE executable SET path = path || 'x'",
        "DELETE FROM executable",
        "UPDATE ledger_path SET path = path || 'x' WHERE id = 50",
        "UPDATE ledger_path SET id = -id WHERE id = 2",
        "DELETE FROM ledger_path WHERE id = 100",
        "DELETE FROM ledger_path",
    ];
    let beside = [
        "UPDATE baseline SET sha256 = substr(sha256, 2) || '0' WHERE path = x'61'",
        "UPDATE baseline SET sha256 = NULL WHERE path = x'62'",
        "UPDATE baseline SET mode = mode + 8 WHERE path = x'61'",
        "UPDATE baseline SET uid = uid + 1 WHERE path = x'62'",
        "UPDATE baseline SET xattrs = ifnull(xattrs, '') || ' '",
        "UPDATE baseline SET path = x'63' WHERE path = x'62'",
        "DELETE FROM baseline WHERE path = x'61'",
        "DELETE FROM baseline",
        "UPDATE watch SET root = x'2f'",
        "UPDATE evidence SET sha256 = substr(sha256, 2) || '0' WHERE id = (SELECT max(id) FROM evidence)",
        "UPDATE evidence SET sha256 = NULL WHERE id = (SELECT max(id) FROM evidence)",
        "UPDATE evidence SET seq = seq + 1 WHERE id = (SELECT max(id) FROM evidence)",
        "UPDATE evidence SET path = x'7a'",
        "UPDATE evidence SET fate = 'purged', fate_time = 't'",
        "UPDATE evidence SET found = replace(found, '0', '1')",
        "DELETE FROM evidence WHERE id = (SELECT max(id) FROM evidence)",
        "INSERT INTO former SELECT 1, watch, path, sha256, 4, found, 't', seq FROM evidence LIMIT 1",
        "UPDATE summary SET records = records + 1",
        "UPDATE summary SET user = user || '0'",
        "DELETE FROM summary",
        "INSERT INTO summary VALUES ('1970-01-01', 'modified', 'low', '', 'none', '', '', 4)",
        "UPDATE seal SET beside = randomblob(32) WHERE beside IS NOT NULL",
        "UPDATE seal SET beside = NULL WHERE beside IS NOT NULL",
        "UPDATE seal SET beside = x'' WHERE beside IS NOT NULL",
    ];
    let beside = prop::sample::select(beside.to_vec()).prop_map(|sql| Tamper::Sql(sql.into()));
    let seal = [
        "UPDATE seal SET time_us = time_us + 1 WHERE epoch = E",
        "UPDATE seal SET reason = reason || 'x' WHERE epoch = E",
        "UPDATE seal SET seq = seq + 1 WHERE epoch = E",
        "UPDATE seal SET hash = randomblob(32) WHERE epoch = E",
        "UPDATE seal SET mac = randomblob(32) WHERE epoch = E",
        "UPDATE seal SET mac = x'00' WHERE epoch = E",
        "UPDATE seal SET setup = '0000000000000000' WHERE epoch = E",
        "UPDATE seal SET epoch = epoch + 50 WHERE epoch = E",
        "DELETE FROM seal WHERE epoch = E",
        "DELETE FROM seal WHERE epoch >= E",
    ];
    let seal = (0..7u32, prop::sample::select(seal.to_vec()))
        .prop_map(|(epoch, sql)| Tamper::Sql(sql.replace("= E", &format!("= {epoch}"))));
    prop_oneof![prop::sample::select(ways.to_vec()).prop_map(|sql| Tamper::Sql(sql.into())), beside, seal]
}

fn tamper() -> impl Strategy<Value = Tamper> {
    prop_oneof![
        4 => ledger_edit(),
        3 => removal(),
        2 => swap(),
        1 => insertion(),
        3 => around(),
        1 => record().prop_map(Tamper::Rehash),
        2 => (record(), 0u64..30).prop_map(|(from, cut)| Tamper::Rewrite(from, cut)),
        1 => record().prop_map(Tamper::Reseal),
    ]
}

impl Tamper {
    fn carry_out(&self, db: &Connection) {
        db.execute_batch(UNLOCK).expect("root can drop triggers");
        match self {
            Self::Sql(sql) => db.execute_batch(sql).expect(sql),
            Self::Rehash(seq) => {
                let sql = "UPDATE ledger SET body = ?2, hash = ?3 WHERE seq = ?1";
                let (body, prev) = altered(db, *seq);
                db.execute(sql, params![signed(*seq), body, link(&prev, *seq, &body)]).expect("written");
            }
            Self::Rewrite(from, cut) => rewrite(db, *from, *cut),
            Self::Reseal(from) => {
                rewrite(db, *from, 0);
                reseal(db);
            }
        }
    }
}

fn altered(db: &Connection, seq: u64) -> (String, [u8; 32]) {
    let sql =
        "SELECT replace(body, '\"tier\":\"lsm\"', '\"tier\":\"scan\"'), prev FROM ledger WHERE seq = ?1";
    db.query_row(sql, [signed(seq)], |row| Ok((row.get(0)?, row.get(1)?))).expect("there")
}

/// What an intruder with the source code of fim would do: only the seals know better.
fn rewrite(db: &Connection, from: u64, cut: u64) {
    let last = (LAST - cut).max(from);
    db.execute("DELETE FROM ledger WHERE seq > ?1", [signed(last)]).expect("cut");
    let (_, mut prev) = altered(db, from);
    for seq in from..=last {
        let (body, _) = altered(db, seq);
        let hash = link(&prev, seq, &body);
        let sql = "UPDATE ledger SET body = ?2, prev = ?3, hash = ?4 WHERE seq = ?1";
        db.execute(sql, params![signed(seq), body, prev, hash]).expect("written");
        prev = hash;
    }
    db.execute_batch(NOTE_HEAD).expect("noted");
    db.execute_batch("DELETE FROM ledger_span WHERE id > 2; DELETE FROM ledger_column WHERE id >= 24")
        .expect("cleared");
    crate::store::span::close(db, 48, last).expect("spans");
}

fn reseal(db: &Connection) {
    let mut key = crate::store::seal::EpochKey::for_tests(7);
    for mut seal in crate::store::seal::all(db).expect("read") {
        let sql = "SELECT hash FROM ledger WHERE seq = ?1";
        if let Ok(hash) = db.query_row(sql, [signed(seal.seq)], |row| row.get(0)) {
            seal.hash = hash;
        }
        let mac = key.sign(&seal);
        let sql = "UPDATE seal SET hash = ?2, mac = ?3 WHERE epoch = ?1";
        db.execute(sql, params![signed(seal.epoch), seal.hash, mac]).expect("written");
        key = key.next();
    }
}

#[test]
fn ten_thousand_ways_to_tamper_are_found() {
    let dir = state();
    let key = ledger(dir.path());
    let key_state: Option<KeyState> = KeyFile::peek(dir.path()).expect("read");
    let mut db = raw(dir.path());
    db.pragma_update(None, "foreign_keys", false).expect("off");
    let with_key = |db: &Connection| {
        let with = Verification { key: Some(&key), ..Verification::default() };
        verify_in(db, Some(key_state.as_ref()), with).expect("verified")
    };
    assert_eq!(with_key(&db).fault, None, "nothing is wrong with it to begin with");
    assert_eq!((with_key(&db).pruned, with_key(&db).head.seq), (40, LAST));

    let config = Config { cases: 10_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    let cell = std::cell::RefCell::new((&mut db, &mut found));
    runner
        .run(&tamper(), |tamper| {
            let (db, found) = &mut *cell.borrow_mut();
            // Rolled back at the end.
            let tx = db.transaction().expect("begun");
            tamper.carry_out(&tx);
            let report = with_key(&tx);
            let Some(fault) = report.fault else {
                return Err(TestCaseError::fail(format!("{tamper:?} was not found")));
            };
            let name = format!("{fault:?}");
            *found.entry(name.split([' ', '(']).next().unwrap_or_default().to_owned()).or_default() += 1;
            Ok(())
        })
        .expect("every one is found");
    println!("{found:?}");
    let kinds = [
        "Altered",
        "Columns",
        "Missing",
        "Truncated",
        "Rewritten",
        "HeadAltered",
        "Unreadable",
        "Checkpoint",
        "Spans",
        "Seal",
        "Beside",
    ];
    assert!(kinds.iter().all(|kind| found.contains_key(*kind)), "{found:?}");
    assert_eq!(with_key(&db).fault, None, "nothing was left behind");
}

/// Databases that one shell edits before they are verified.
const AT_ONCE: usize = 500;

/// The same by the program that an intruder would use.
#[test]
fn ten_thousand_edits_with_the_sqlite3_shell_are_found() {
    let dir = state();
    let key = ledger(dir.path());
    let whole = std::fs::read(dir.path().join(DATABASE)).expect("read");
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let edits = std::iter::repeat_with(|| tamper().new_tree(&mut runner).expect("one").current());
    let edits: Vec<String> = edits
        .filter_map(|tamper| match tamper {
            Tamper::Sql(sql) => Some(sql),
            _ => None,
        })
        .take(10_000)
        .collect();
    let mut found = 0;
    for edits in edits.chunks(AT_ONCE) {
        // In memory: a disk would take minutes for so many files.
        let places = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        let place = |n: usize| places.path().join(n.to_string());
        let mut script = String::from(".bail on\n");
        for (n, sql) in edits.iter().enumerate() {
            std::fs::create_dir(place(n)).expect("made");
            std::fs::write(place(n).join(DATABASE), &whole).expect("copied");
            std::fs::copy(dir.path().join("seal.key"), place(n).join("seal.key")).expect("copied");
            let file = place(n).join(DATABASE);
            let file = file.display();
            script += &format!(".open {file}\nPRAGMA synchronous = off;\n{UNLOCK}\n{sql};\n");
        }
        run_shell(&script);
        for (n, sql) in edits.iter().enumerate() {
            let store = Store::open_read_only(&place(n)).expect("opens");
            let with = Verification { key: Some(&key), ..Verification::default() };
            let report = store.verify(with).expect("verified");
            assert!(report.fault.is_some(), "{sql}");
            found += 1;
        }
    }
    assert_eq!(found, 10_000);
}

fn run_shell(script: &str) {
    let mut input = tempfile::tempfile().expect("made");
    std::io::Write::write_all(&mut input, script.as_bytes()).expect("written");
    std::io::Seek::rewind(&mut input).expect("rewound");
    let shell =
        Command::new("sqlite3").stdin(input).output().expect("sqlite3 is installed: cargo xtask setup");
    assert!(shell.status.success(), "{}", String::from_utf8_lossy(&shell.stderr));
}

/// What was carried away knows better than a ledger that was written anew, also without a key.
#[test]
fn an_anchor_shows_what_was_written_anew() {
    let dir = state();
    ledger(dir.path());
    let store = Store::open_read_only(dir.path()).expect("opens");
    let records = store.ledger_after(0, usize::MAX).expect("read");
    let at = |seq| records.iter().find(|record| record.seq == seq).expect("there");
    let anchor = |seq| format!("{seq}:{}", at(seq).id).parse::<Anchor>().expect("an anchor");
    let carried = serde_json::to_string(at(70)).expect("JSON").parse::<Anchor>().expect("an anchor");
    let ecs = format!(r#"{{"event":{{"id":"{}","sequence":61}},"x":1}}"#, at(61).id);
    let ecs = ecs.parse::<Anchor>().expect("an anchor");
    // This one was pruned.
    let pruned = "7:00000000000000000000000000000000".parse::<Anchor>().expect("an anchor");
    let anchors = [pruned, anchor(4), anchor(60), ecs, carried, anchor(131)];
    let fault = |db: &Connection| {
        let with = Verification { anchors: &anchors, ..Verification::default() };
        let report = verify_in(db, None, with).expect("verified");
        (report.fault, report.anchors)
    };
    let mut db = raw(dir.path());
    db.pragma_update(None, "foreign_keys", false).expect("off");
    assert_eq!(fault(&db), (None, 5));
    let tx = db.transaction().expect("begun");
    tx.execute_batch(UNLOCK).expect("root can drop triggers");
    tx.execute_batch("DELETE FROM seal").expect("nor are there seals");
    rewrite(&tx, 65, 0);
    assert_eq!(fault(&tx), (Some(Fault::Anchor { seq: 70 }), 3));
    tx.rollback().expect("undone");
    let tx = db.transaction().expect("begun");
    tx.execute_batch(UNLOCK).expect("root can drop triggers");
    tx.execute_batch("DELETE FROM seal; DELETE FROM ledger WHERE seq > 125").expect("cut");
    tx.execute_batch(NOTE_HEAD).expect("noted");
    tx.execute_batch("DELETE FROM ledger_span WHERE id > 6; DELETE FROM ledger_column WHERE id >= 56")
        .expect("cut");
    tx.execute_batch("UPDATE meta SET value = value").expect("written");
    assert_eq!(fault(&tx).0, Some(Fault::Anchor { seq: 131 }));
    for bad in ["", "7", "7:abc", "x:0000000000000000", "7:000000000000000g", "0:0000000000000000", "{}"] {
        let said = bad.parse::<Anchor>().expect_err(bad).to_string();
        assert!(said.contains("is no anchor; write SEQ:HASH"), "{said}");
    }
}
