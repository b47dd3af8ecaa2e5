use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::core::actor::Actor;
use crate::core::event::{Event, EventKind, Verdict, rfc3339};
use crate::core::policy::Severity;

const KINDS: [EventKind; 3] = [EventKind::Modified, EventKind::Deleted, EventKind::Renamed];
const PATHS: [&str; 12] = [
    "/etc/a",
    "/etc/a/b",
    "/etc/ab",
    "/etc/c.conf",
    "/etc/d/e.conf",
    "/srv/1",
    "/srv/2",
    "/srv/3",
    "/srv/4",
    "/srv/5",
    "/srv/6",
    "/srv/7",
];
const EXES: [&str; 3] = ["/bin/sh", "/bin/a b", "/opt/x/sh"];

fn state() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    dir
}

fn actor(uid: u32, exe: &str) -> Actor {
    Actor { uid: Some(uid), euid: Some(uid + 100), auid: Some(7), exe: Some(exe.into()), ..Actor::unknown() }
}

fn event() -> impl Strategy<Value = Event> {
    let who = prop::option::of((0u32..3, select(&EXES[..]), prop::option::of(0u32..3)));
    let severity = select(vec![Severity::Low, Severity::High, Severity::Critical]);
    (
        select(&KINDS[..]),
        prop::option::weighted(0.9, select(&PATHS[..])),
        who,
        0i64..50,
        severity,
        any::<bool>(),
    )
        .prop_map(|(kind, path, who, jump, severity, verdict)| {
            let mut event = Event::about_fim(kind, "h", "lsm", jump, String::new());
            if let Some(path) = path {
                event.set_path(path.as_bytes());
            }
            if kind == EventKind::Renamed {
                event.old_path = Some(PATHS[jump as usize % PATHS.len()].into());
            }
            event.severity = severity;
            event.verdict = verdict.then_some(Verdict::Unauthorised);
            if let Some((uid, exe, other)) = who {
                event.actor = Some(actor(uid, exe));
                event.other_actors = other.map(|uid| actor(uid, "/bin/other")).into_iter().collect();
            }
            event
        })
}

fn criteria() -> impl Strategy<Value = Criteria> {
    let paths =
        vec!["/etc", "/etc/a", "/etc/*", "/**/*.conf", "/srv", "/srv/[1-3]", "/none/*", "/", "/etc/c.conf"];
    let patterns =
        |texts: Vec<&str>| texts.iter().map(|text| Pattern::new(text).expect("sound")).collect::<Vec<_>>();
    let time = || prop::option::weighted(0.3, 0i64..400_000);
    (
        (time(), time()),
        prop::option::weighted(0.5, subsequence(paths, 1..=2)),
        subsequence(KINDS.to_vec(), 0..=2),
        subsequence(vec![0u32, 1, 101, 7, 9], 0..=1),
        subsequence(vec!["/bin", "/opt/*/sh", "/bin/o*"], 0..=1),
        any::<bool>(),
        prop::option::of(select(vec![Severity::Low, Severity::High, Severity::Critical])),
    )
        .prop_map(
            move |((since_us, until_us), paths, kinds, users, exes, unauthorised, min_severity)| Criteria {
                since_us,
                until_us,
                paths: patterns(paths.unwrap_or_default()),
                kinds,
                users,
                exes: patterns(exes),
                unauthorised,
                min_severity,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Through the indexes the same is found as by looking at each record.
    #[test]
    fn a_search_finds_what_is_there(
        mut events in prop::collection::vec(event(), 1..400),
        searches in prop::collection::vec(criteria(), 40),
    ) {
        // About in order, with the clock set back now and then.
        for (n, event) in (0i64..).zip(&mut events) {
            let back = if n % 90 > 80 { 100 } else { 0 };
            event.time = rfc3339((n - back) * 1_000_000);
        }
        let dir = state();
        let mut store = Store::open(dir.path()).expect("opens");
        for batch in events.chunks(37) {
            store.append(batch, &[]).expect("appended");
        }
        prop_assert_eq!(store.verify_chain().expect("verified").fault, None);
        let all = store.ledger_after(0, usize::MAX).expect("read");
        for criteria in searches {
            let mut expected: Vec<u64> =
                all.iter().filter(|r| criteria.met_by(&r.event)).map(|r| r.seq).collect();
            expected.reverse();
            prop_assert_eq!(&store.find(&criteria, usize::MAX).expect("found"), &expected, "{:?}", criteria);
            expected.truncate(3);
            prop_assert_eq!(&store.find(&criteria, 3).expect("found"), &expected);
        }
        for record in all.iter().step_by(13) {
            prop_assert_eq!(store.find_id(&record.id[..12]).expect("found"), vec![record.seq]);
            prop_assert_eq!(store.find_id(&record.id[..7]).expect("found"), vec![record.seq]);
        }
        prop_assert_eq!(store.find_id("0000000000000000").expect("found"), Vec::<u64>::new());
    }
}

#[test]
fn no_search_reads_the_whole_ledger() {
    let dir = state();
    let store = Store::open(dir.path()).expect("opens");
    let db = rusqlite::Connection::open(dir.path().join(crate::store::DATABASE)).expect("opens");
    let cases = [
        (
            plan::RANGE,
            "SEARCH ledger_path USING COVERING INDEX sqlite_autoindex_ledger_path_1 (path>? AND path<?)",
        ),
        (
            "SELECT path FROM ledger_path WHERE id = ?1",
            "SEARCH ledger_path USING INTEGER PRIMARY KEY (rowid=?)",
        ),
        (
            "SELECT data FROM ledger_column WHERE id = ?1",
            "SEARCH ledger_column USING INTEGER PRIMARY KEY (rowid=?)",
        ),
        (
            "SELECT id FROM ledger_path WHERE path = ?1",
            "SEARCH ledger_path USING COVERING INDEX sqlite_autoindex_ledger_path_1 (path=?)",
        ),
        (
            "SELECT id FROM actor WHERE ifnull(uid, -1) = ifnull(?1, -1)
          AND ifnull(gid, -1) = ifnull(?2, -1) AND ifnull(euid, -1) = ifnull(?3, -1)
          AND ifnull(auid, -1) = ifnull(?4, -1) AND ifnull(exe, 0) = ifnull(?5, 0)",
            "SEARCH actor USING COVERING INDEX actor_once (<expr>=? AND <expr>=? AND <expr>=? AND <expr>=? AND <expr>=?)",
        ),
    ];
    for (sql, expected) in cases {
        let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("prepared");
        let mut rows = explain.raw_query();
        let mut steps: Vec<String> = Vec::new();
        while let Some(row) = rows.next().expect("explained") {
            steps.push(row.get(3).expect("a step"));
        }
        assert_eq!(steps, [expected], "{sql}");
    }
    drop(store);
}

#[test]
fn patterns_mean_what_people_expect() {
    let is = |pattern: &str, path: &str| Pattern::new(pattern).expect("sound").matches(path);
    assert!(is("/etc", "/etc") && is("/etc/", "/etc/a/b") && !is("/etc", "/etcetera") && is("/", "/a"));
    assert!(is("/etc/*", "/etc/a") && !is("/etc/*", "/etc/a/b") && is("/etc/**", "/etc/a/b"));
    assert!(is("/etc/a\\x0a*", "/etc/a\\x0ab"), "escaped as records show it");
    assert!(is("**/x*", "/x") && is("**/x*", "/a/x1") && is("/a/{b,cd}/**/e", "/a/cd/e"));
    assert!(is("/{longer,x}", "/x") && is("/[ab]c", "/ac") && is("/[]]x{y,z}", "/]xz") && is("**", "/a/b"));
    let said = Pattern::new("/etc/[").expect_err("refused").to_string();
    assert!(said.contains("\"/etc/[\"") && said.contains("write for example"), "{said}");
}
