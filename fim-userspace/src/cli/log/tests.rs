use std::os::unix::fs::PermissionsExt;

use jiff::tz::TimeZone;

use super::*;
use crate::core::event::Event;
use crate::store::Verification;
use crate::store::seal::{Sealer, TIME};

#[test]
fn times_are_read_as_people_write_them() {
    let zone = TimeZone::fixed(jiff::tz::offset(2));
    let now = jiff::civil::date(2026, 11, 22).at(15, 30, 20, 0).to_zoned(zone).expect("a time");
    let at = |text: &str| when::parse(text, &now).expect(text).timestamp().to_string();
    for (text, expected) in [
        ("2026-11-20T01:02:03Z", "2026-11-20T01:02:03Z"),
        ("2026-11-20T01:02:03.5+05:00", "2026-11-19T20:02:03.5Z"),
        ("2026-11-20 01:02", "2026-11-19T23:02:00Z"),
        ("2026-11-20", "2026-11-19T22:00:00Z"),
        ("09:30", "2026-11-22T07:30:00Z"),
        ("now", "2026-11-22T13:30:20Z"),
        ("Today", "2026-11-21T22:00:00Z"),
        ("yesterday", "2026-11-20T22:00:00Z"),
        ("2h", "2026-11-22T11:30:20Z"),
        ("2 hours ago", "2026-11-22T11:30:20Z"),
        ("1 day 3 hours", "2026-11-21T10:30:20Z"),
        ("90m", "2026-11-22T12:00:20Z"),
        ("1 month ago", "2026-10-22T13:30:20Z"),
        ("30d", "2026-10-23T13:30:20Z"),
        ("2 weeks", "2026-11-08T13:30:20Z"),
        ("2026-11-01T08:00", "2026-11-01T06:00:00Z"),
    ] {
        assert_eq!(at(text), expected, "{text}");
    }
    for bad in ["", "soon", "25:00", "2026-13-01", "5"] {
        let said = when::parse(bad, &now).expect_err(bad).to_string();
        assert!(said.contains("is no time") && said.contains("2 hours ago"), "{said}");
    }
}

#[test]
fn verification_is_told_in_sentences() {
    let dir = tempfile::tempdir().expect("temporary folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    let mut store = Store::open(dir.path()).expect("a store");
    let told = |store: &Store, key| {
        let report = store.verify(Verification { key, ..Verification::default() }).expect("verified");
        verify::text(&report, key.is_some(), 0, std::time::Duration::from_secs(60))
    };
    assert!(told(&store, None).contains("0 records") && told(&store, None).contains("fim seal setup"));
    let key = Sealer::set_up(&mut store, 1).expect("set up");
    let event = |n| Event::about_fim(EventKind::Trouble, "h", "lsm", n, format!("n{n}"));
    store.append(&[event(1), event(2), event(3)], &[]).expect("appended");
    Sealer::open(dir.path())
        .expect("read")
        .expect("there")
        .seal(&mut store, 2_000_000, TIME)
        .expect("sealed");
    let text = told(&store, Some(&key));
    for part in [
        "sound: 3 records",
        "2 seals were made by this host's key",
        "at 1970-01-01T00:00:02Z about record 3",
        "head: 3:",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(told(&store, None).contains("only the verification key proves them"));
    let raw = rusqlite::Connection::open(dir.path().join(crate::store::DATABASE)).expect("opens");
    raw.execute_batch("DROP TRIGGER ledger_no_update; UPDATE ledger SET body = '{}' WHERE seq > 1")
        .expect("altered");
    let text = told(&store, Some(&key));
    for part in ["TAMPERED: record 2 was altered", "can be told: 2", "sound from record 1 to 1"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn one_record_is_shown_in_full() {
    let mut event = Event::about_fim(EventKind::Trouble, "h", "lsm", 1, "all\nof it".into());
    event.actor =
        Some(crate::core::actor::Actor { uid: Some(31_337), ..crate::core::actor::Actor::unknown() });
    let record = crate::core::event::Record { seq: 9, id: "abc".into(), event };
    let mut out = Vec::new();
    Printer::new(&mut out, false).in_full(&record).expect("printed");
    let text = String::from_utf8(out).expect("text");
    let field = |name: &str, value: &str| {
        text.lines().any(|line| line.split_whitespace().next() == Some(name) && line.ends_with(value))
    };
    assert!(field("seq", "9") && field("actor.uid", "31337") && field("message", "all\\x0aof it"), "{text}");
    assert!(!text.contains("null") && !text.contains("old_path"), "{text}");
}
