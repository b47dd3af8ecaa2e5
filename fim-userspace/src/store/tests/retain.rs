//! Pruning, and what is left afterwards.

use std::time::Duration;

use super::*;
use crate::store::seal::{STARTED, Sealer, TIME};

const SECOND: i64 = 1_000_000;

fn purged(message: String) -> Event {
    Event::about_fim(EventKind::Purged, "host", "lsm", 900_000, message)
}

fn limits(seconds: u64) -> Retention {
    Retention { max_age: Some(Duration::from_secs(seconds)), max_size: None }
}

/// One record a second, from second 1 on.
fn every_second(from: u64, to: u64) -> Vec<Event> {
    let mut events = events(from, to);
    for (n, event) in (from..).zip(&mut events) {
        event.time = crate::core::event::rfc3339(n as i64 * 1_000_000_000);
    }
    events
}

fn evidence(n: u8) -> EvidenceRow {
    EvidenceRow {
        watch: ETC.into(),
        path: rel("a"),
        found: found(n),
        digest: found(n).entry.sha256,
        reason: crate::core::quarantine::Reason::Altered,
    }
}

fn prune_all(store: &mut Store, pruning: &Pruning) {
    let records = store.prune(pruning, "1970-01-01T00:05:00Z", purged).expect("announced");
    assert_eq!(store.verify_chain().expect("verified").fault, None, "between announcement and removal");
    let mut after = 0;
    let mut last = 0;
    while let Some(gone) = store.prune_some(after, 7).expect("removed") {
        (after, last) = (gone, gone);
        assert_eq!(store.verify_chain().expect("verified").fault, None, "in the middle of the removal");
    }
    assert!(last <= pruning.head.seq);
    assert_eq!(records.len(), 1);
    assert!(records[0].event.message.as_deref().expect("told").contains("are removed, since"));
}

#[test]
fn old_records_go_and_the_chain_still_verifies() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    let key = Sealer::set_up(&mut store, 0).expect("set up");
    let mut sealer = Sealer::open(dir.path()).expect("read").expect("there");
    store.append_with(&every_second(1, 100), &[], &[(4, evidence(1)), (9, evidence(2))]).expect("appended");
    sealer.seal(&mut store, 100 * SECOND, TIME).expect("sealed");
    store.append(&every_second(101, 200), &[]).expect("appended");
    assert_eq!(store.pruning(limits(500), 300 * SECOND).expect("looked"), None, "nothing is old enough");
    assert_eq!(
        store.pruning(Retention::default(), i64::MAX).expect("looked"),
        None,
        "all is kept by default"
    );
    let pruning = store.pruning(limits(150), 300 * SECOND).expect("looked").expect("old ones");
    assert_eq!(pruning.head.seq, 100, "records to 149 are old, the seal proves 100");
    // Its content is gone from the vault, so that it keeps its record no longer.
    raw(dir.path()).execute("UPDATE evidence SET fate = 'purged' WHERE seq = 10", []).expect("purged");
    prune_all(&mut store, &pruning);
    let seqs: Vec<u64> = store.ledger_after(0, 1_000).expect("read").iter().map(|r| r.seq).collect();
    assert_eq!((seqs[0], seqs[1], seqs.len()), (5, 101, 102), "what evidence refers to stays");
    let sums: (i64, i64) = raw(dir.path())
        .query_row("SELECT sum(records), count(*) FROM summary WHERE day = '1970-01-01'", [], |r| {
            Ok((r.get(0)?, r.get(1)?))
        })
        .expect("summary");
    assert_eq!(sums, (99, 1));
    sealer.seal(&mut store, 301 * SECOND, STARTED).expect("sealed");
    let report = store.verify(Verification { key: Some(&key), ..Verification::default() }).expect("verified");
    assert_eq!((report.fault, report.pruned, report.sound), (None, 100, 201));
    assert_eq!(report.sealed.proven, 3);
    // Once more, and the evidence of the first is gone by now.
    raw(dir.path()).execute("UPDATE evidence SET fate = 'purged'", []).expect("purged");
    store.append(&every_second(201, 220), &[]).expect("appended");
    let pruning = store.pruning(limits(1), 10_000 * SECOND).expect("looked").expect("old ones");
    assert_eq!(pruning.head.seq, 201);
    prune_all(&mut store, &pruning);
    let first = store.ledger_after(0, 1).expect("read")[0].seq;
    assert_eq!((first, store.evidence_of(5).expect("read").len()), (202, 0));
    let report = store.verify(Verification { key: Some(&key), ..Verification::default() }).expect("verified");
    assert_eq!((report.fault, report.pruned), (None, 201));
    assert!(
        raw(dir.path()).execute("DELETE FROM ledger WHERE seq = 202", []).is_err(),
        "the rest is append-only"
    );
}

#[test]
fn a_sink_that_is_behind_holds_pruning_back_up_to_a_point() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    store.append(&every_second(1, 300), &[]).expect("appended");
    let behind = SinkState {
        name: "siem".into(),
        cursor: 40,
        last_success: Some("1970-01-01T00:01:00Z".into()),
        ..Default::default()
    };
    store.sink_state_set(&behind).expect("written");
    store
        .sink_state_set(&SinkState { name: "idle".into(), cursor: 1, idle: true, ..behind })
        .expect("written");
    let pruning = store.pruning(limits(100), 400 * SECOND).expect("looked").expect("old ones");
    assert_eq!(pruning.head.seq, 40, "what it has not seen stays");
    let month = 31 * 86_400 * SECOND;
    let pruning = store.pruning(limits(100), month).expect("looked").expect("old ones");
    assert_eq!(pruning.head.seq, 299, "nobody waits for a sink that is gone; the last record stays");
    let size = |max_size| Retention { max_age: None, max_size: Some(max_size) };
    let whole: u64 = 300 * 700;
    assert_eq!(store.pruning(size(2 * whole), 400 * SECOND).expect("looked"), None);
    let pruning = store.pruning(size(whole / 8), 400 * SECOND).expect("looked").expect("too large");
    assert!(pruning.head.seq > 200 && pruning.why.contains("\"siem\" loses"), "{pruning:?}");
}

#[test]
fn a_few_huge_records_do_not_have_the_ledger_taken_for_many_times_its_size() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    store.append(&every_second(1, 3_000), &[]).expect("appended");
    let siem = SinkState { name: "siem".into(), cursor: 40, ..Default::default() };
    store.sink_state_set(&siem).expect("written");
    let mut huge = every_second(3_001, 3_020);
    huge.iter_mut().for_each(|event| event.message = Some("x".repeat(400_000)));
    store.append(&huge, &[]).expect("appended");
    let size = |max_size| Retention { max_age: None, max_size: Some(max_size) };
    // About 2 MB of small ones and 8 MB of huge ones.
    let pruning = store.pruning(size(16_000_000), 4_000 * SECOND).expect("looked");
    assert_eq!(pruning, None, "it is not that large");
    let pruning = store.pruning(size(9_000_000), 4_000 * SECOND).expect("looked").expect("too large");
    assert_eq!(pruning.head.seq, 40, "what is not delivered stays: it is far from twice that large");
    store.sink_state_set(&SinkState { cursor: 3_020, ..siem }).expect("written");
    let pruning = store.pruning(size(9_500_000), 4_000 * SECOND).expect("looked").expect("too large");
    assert!((1_000..3_000).contains(&pruning.head.seq), "no more goes than has to: {pruning:?}");
}

#[test]
fn a_sink_that_never_delivered_anything_holds_its_records_back_too() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    store.cursor_or_head("siem").expect("begun");
    store.append(&every_second(1, 300), &[]).expect("appended");
    assert_eq!(store.pruning(limits(100), 400 * SECOND).expect("looked"), None, "it has seen nothing yet");
    let failing = SinkState { name: "siem".into(), error: Some("refused".into()), ..Default::default() };
    store.sink_state_set(&failing).expect("written");
    assert_eq!(store.pruning(limits(100), 400 * SECOND).expect("looked"), None, "nor after a failure");
    let month = jiff::Timestamp::now().as_microsecond() + 31 * 86_400 * SECOND;
    assert!(store.pruning(limits(100), month).expect("looked").is_some(), "nobody waits for ever");
}

#[test]
fn a_sink_that_had_nothing_to_say_for_long_keeps_what_it_may_not_say_yet() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    let day = 86_400;
    store.append(&every_second(1, 3), &[]).expect("appended");
    store.append(&every_second(40 * day, 40 * day + 2), &[]).expect("appended");
    let quiet = SinkState {
        name: "ops".into(),
        cursor: 4,
        last_success: Some("1970-01-01T00:01:00Z".into()),
        ..Default::default()
    };
    store.sink_state_set(&quiet).expect("written");
    let looked =
        |store: &Store, days: u64| store.pruning(limits(60), (days * day) as i64 * SECOND).expect("looked");
    let pruning = looked(&store, 41).expect("old ones");
    assert_eq!(pruning.head.seq, 4, "record 5 waits for the end of quiet hours");
    let pruning = looked(&store, 71).expect("old ones");
    assert_eq!(pruning.head.seq, 5, "nobody waits for ever; the last record stays");
}
