use std::collections::BTreeMap;
use std::path::Path;

use super::coverage::{Run, Watching};
use super::packages::Packages;
use super::tally::{self, UNKNOWN};
use super::*;
use crate::core::actor::{Actor, Confidence};
use crate::core::event::{Event, EventKind, Record, Response, Verdict};

fn config(extra: &str) -> Config {
    let text = format!("[[watch]]\npath = \"/etc\"\n{extra}");
    Config::parse(Path::new("fim.toml"), &text).expect("sound")
}

fn record(seq: u64, minute: u32, kind: EventKind) -> Record {
    let mut event = Event::about_fim(kind, "h", "lsm", 0, "said".into());
    event.time = format!("2026-11-22T10:{minute:02}:00.000000Z");
    event.watch = Some("/etc".into());
    if kind.is_change() {
        event.message = None;
        event.set_path(format!("/etc/f{seq}").as_bytes());
    }
    Record { seq, id: format!("{seq:032x}"), event }
}

fn by(mut record: Record, uid: u32, auid: Option<u32>, exe: &str) -> Record {
    let exe = Some(exe.to_owned());
    record.event.actor = Some(Actor {
        pid: Some(4711),
        uid: Some(uid),
        gid: Some(77),
        auid,
        exe,
        confidence: Confidence::Exact,
        ..Actor::unknown()
    });
    record
}

#[test]
fn changes_are_counted_by_authorisation_kind_user_and_program() {
    let mut tally = Tally::default();
    let mut one = by(record(1, 1, EventKind::Modified), 0, Some(1001), "/usr/bin/vim");
    (one.event.verdict, one.event.response) = (Some(Verdict::Unauthorised), Response::Restored);
    let mut two = by(record(2, 2, EventKind::Created), 33, None, "/usr/bin/dpkg");
    two.event.verdict = Some(Verdict::Authorised);
    let three = record(3, 3, EventKind::Deleted);
    for record in [&one, &two, &three, &record(4, 4, EventKind::Trouble)] {
        tally.take(record);
    }
    tally.finish();
    let counts = tally.counts;
    assert_eq!((counts.changes, counts.authorised, counts.unauthorised, counts.unjudged), (3, 1, 1, 1));
    assert_eq!((counts.restored, counts.attributed_exactly), (1, 2));
    assert_eq!(tally.days, [Day { date: "2026-11-22".into(), authorised: 1, other: 2 }]);
    let users: Vec<&str> = tally.by_user.iter().map(|s| s.name.as_str()).collect();
    assert!(users.iter().any(|u| u.contains("1001")), "who logged in, not root: {users:?}");
    assert!(users.contains(&UNKNOWN), "{users:?}");
    assert_eq!(tally.unauthorised.iter().map(|c| c.seq).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn a_day_without_changes_is_a_day() {
    let mut tally = Tally::default();
    let mut late = record(2, 2, EventKind::Modified);
    late.event.time = "2026-11-24T10:00:00.000000Z".into();
    [&record(1, 1, EventKind::Modified), &late].into_iter().for_each(|r| tally.take(r));
    tally.finish();
    let days: Vec<(&str, u64)> = tally.days.iter().map(|d| (d.date.as_str(), d.other)).collect();
    assert_eq!(days, [("2026-11-22", 1), ("2026-11-23", 0), ("2026-11-24", 1)]);
}

#[test]
fn a_long_list_ends_in_the_sum_of_the_rest() {
    let shares = tally::shares((1..=30).map(|n| (format!("n{n:02}"), n)));
    assert_eq!((shares.len(), shares[0].changes, shares[19].name.as_str()), (20, 30, "11 others"));
    assert_eq!(shares.iter().map(|s| s.changes).sum::<u64>(), 465);
}

#[test]
fn a_life_that_ended_without_a_word_ends_with_its_last_record() {
    let mut watching = Watching::default();
    for record in [
        record(1, 0, EventKind::Started),
        record(2, 10, EventKind::Modified),
        record(3, 20, EventKind::Started),
        record(4, 25, EventKind::CoverageGap),
        record(5, 26, EventKind::Rescanned),
        record(6, 40, EventKind::Stopped),
    ] {
        watching.take(&record);
    }
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("state")).expect("opens");
    let period = ("2026-11-22T10:00:00.000000Z", "2026-11-22T11:00:00.000000Z");
    let coverage = coverage::gather(&store, &config(""), watching, period).expect("gathered");
    let time = |minute: u32| format!("2026-11-22T10:{minute:02}:00.000000Z");
    assert_eq!(
        coverage.runs,
        [
            Run { from: time(0), began_before: false, until: Some(time(10)), cut_short: true },
            Run { from: time(20), began_before: false, until: Some(time(40)), cut_short: false },
        ]
    );
    assert!((coverage.watched - 0.5).abs() < 1e-9, "30 of 60 minutes: {}", coverage.watched);
    assert_eq!(coverage.gaps[0].closed, Some(time(26)));
}

#[test]
fn files_are_counted_for_the_package_that_lists_them() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("bash.list"), "/.\n/etc/skel\n/etc/bash.bashrc\n").expect("written");
    std::fs::write(dir.path().join("libc6:amd64.list"), "/etc/ld.so.conf\n").expect("written");
    std::fs::write(dir.path().join("bash.md5sums"), "/etc/own\n").expect("written");
    let changes: BTreeMap<String, u64> = [("/etc/bash.bashrc", 3), ("/etc/ld.so.conf", 2), ("/etc/own", 7)]
        .map(|(p, n)| (p.to_owned(), n))
        .into();
    let shares = Packages::of(dir.path()).shares(&changes);
    let named: Vec<(&str, u64)> = shares.iter().map(|s| (s.name.as_str(), s.changes)).collect();
    assert_eq!(named, [("no package", 7), ("bash", 3), ("libc6", 2)]);
}

/// A store with some records, one of them with a name that is meant to break out of a page.
fn hostile() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut store = Store::open(&dir.path().join("state")).expect("opens");
    let mut evil = record(2, 5, EventKind::Created);
    evil.event.set_path(b"/etc/<script src=//evil.example>\n=HYPERLINK(1)");
    evil.event.verdict = Some(Verdict::Unauthorised);
    let mut formula = by(record(3, 6, EventKind::Modified), 5, None, "=1+1");
    formula.event.verdict = Some(Verdict::Unauthorised);
    let events: Vec<Event> =
        [record(1, 0, EventKind::Started), evil, formula].into_iter().map(|r| r.event).collect();
    store.append(&events, &[]).expect("appended");
    (dir, store)
}

fn period() -> Period {
    let ns = |text: &str| text.parse::<jiff::Timestamp>().expect("a time").as_nanosecond() as i64;
    Period { since_ns: ns("2026-11-22T00:00:00Z"), until_ns: ns("2026-11-23T00:00:00Z") }
}

#[test]
fn the_page_holds_nothing_that_runs_or_is_loaded() {
    let (_dir, store) = hostile();
    let report = Report::gather(&store, &config(""), period(), period().until_ns).expect("gathered");
    let page = html::page(&report);
    assert!(page.contains("&lt;script src=//evil.example&gt;\\x0a=HYPERLINK(1)"), "{page}");
    for forbidden in
        ["<script", "<img", "<link", "<iframe", "src=\"", "href=", "url(", "@import", "http:", "https:"]
    {
        assert!(!page.contains(forbidden), "the page has {forbidden}");
    }
    assert!(page.contains("All 3 records are as they were written"));
}

#[test]
fn no_cell_of_the_table_is_a_formula() {
    let (_dir, store) = hostile();
    let mut out = Vec::new();
    csv::write(&store, period(), &mut out).expect("written");
    let mut table = ::csv::Reader::from_reader(out.as_slice());
    let rows: Vec<::csv::StringRecord> = table.records().collect::<Result<_, _>>().expect("a table");
    assert_eq!((rows.len(), &rows[0][0], &rows[1][14]), (2, "2", "'=1+1"));
    assert!(rows.iter().flatten().all(|cell| !cell.starts_with(['=', '+', '-', '@'])));
}

#[test]
fn requirements_are_not_claimed_without_evidence() {
    let (_dir, store) = hostile();
    let standing = |extra: &str, id: &str| {
        let report = Report::gather(&store, &config(extra), period(), period().until_ns).expect("gathered");
        report.controls.into_iter().find(|c| c.id == id).expect("listed").standing
    };
    assert_eq!(standing("", "10.3.4"), Standing::Missing, "no log is watched");
    assert_eq!(standing("on_modified = \"alert\"\non_created = \"alert\"\n", "SI-7(5)"), Standing::Missing);
    assert_eq!(standing("", "SI-7(5)"), Standing::Evidence);
    assert_eq!(standing("", "11.5.2"), Standing::Missing, "nobody is told, and it watched half of the day");
    let route = "[[alert]]\ntype = \"webhook\"\nurl = \"https://hooks.example.org/fim\"\n";
    assert_eq!(standing(route, "11.5.2"), Standing::Partly);
}

#[test]
fn a_dry_run_is_no_evidence() {
    let (_dir, store) = hostile();
    let gather =
        |extra: &str| Report::gather(&store, &config(extra), period(), period().until_ns).expect("gathered");
    let control = |report: &Report, id: &str| {
        report.controls.iter().find(|c| c.id == id).map(|c| (c.standing, c.because.clone())).expect("listed")
    };
    let report = gather("dry_run = true\n");
    let (standing, because) = control(&report, "SI-7(5)");
    assert_eq!(standing, Standing::Missing, "{because}");
    assert!(because.contains("0 of 1 watch(es) undo changes") && because.contains("dry run"), "{because}");
    assert!(report.coverage.watches[0].response.ends_with("(dry run)"), "{:?}", report.coverage.watches);
}

/// A ledger of an hour whose beginning was removed, up to the record `pruned`.
fn pruned(kinds: &[(u32, EventKind)], pruned: u64) -> Report {
    let dir = tempfile::tempdir().expect("a directory");
    let mut store = Store::open(&dir.path().join("state")).expect("opens");
    let events: Vec<Event> = kinds.iter().map(|(minute, kind)| record(1, *minute, *kind).event).collect();
    store.append(&events, &[]).expect("appended");
    let limits = crate::store::Retention { max_age: Some(std::time::Duration::from_secs(1)), max_size: None };
    let now = "2026-11-22T11:00:00Z".parse::<jiff::Timestamp>().expect("a time").as_microsecond();
    let mut pruning = store.pruning(limits, now).expect("looked").expect("old ones");
    let rows = rusqlite::Connection::open(dir.path().join("state/fim.db")).expect("opens");
    pruning.head.seq = pruned;
    pruning.head.hash = rows
        .query_row("SELECT hash FROM ledger WHERE seq = ?1", [pruned.cast_signed()], |row| row.get(0))
        .expect("there");
    let tell = |message| {
        let mut event = Event::about_fim(EventKind::Purged, "h", "lsm", 0, message);
        event.time = "2026-11-22T10:50:00.000000Z".into();
        event
    };
    store.prune(&pruning, "2026-11-22T10:50:00Z", tell).expect("noted");
    store.prune_some(0, 1_000).expect("removed");
    let ns = |text: &str| text.parse::<jiff::Timestamp>().expect("a time").as_nanosecond() as i64;
    let period = Period { since_ns: ns("2026-11-22T10:00:00Z"), until_ns: ns("2026-11-22T11:00:00Z") };
    Report::gather(&store, &config(""), period, period.until_ns).expect("gathered")
}

#[test]
fn a_daemon_whose_beginning_was_removed_from_the_ledger_watched_all_the_same() {
    use EventKind::{Modified, Started, Stopped};
    let goes_on = pruned(&[(0, Started), (10, Modified), (30, Modified), (40, Modified)], 2);
    assert!((goes_on.coverage.watched - 0.5).abs() < 1e-9, "from 10:30 on: {:?}", goes_on.coverage);
    let ended = pruned(&[(0, Started), (10, Modified), (30, Modified), (45, Stopped)], 2);
    assert!((ended.coverage.watched - 0.25).abs() < 1e-9, "from 10:30 to 10:45: {:?}", ended.coverage);
    let page = html::page(&ended);
    assert!(page.contains("or before (older records were removed)"), "{page}");
    let known = pruned(&[(0, Started), (10, Stopped), (30, Started), (45, Stopped)], 2);
    assert!((known.coverage.watched - 0.25).abs() < 1e-9, "{:?}", known.coverage);
    assert!(!html::page(&known).contains("or before"));
}
