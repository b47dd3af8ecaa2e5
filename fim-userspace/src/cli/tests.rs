use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::CommandFactory;

use super::*;
use crate::core::entry::tests::regular;
use crate::core::entry::{Found, Identity};
use crate::core::event::{Event, EventKind};
use crate::core::path::RelPath;
use crate::store::status::{AttachedHook, GapStatus, Status, WatchStatus};
use crate::store::{SinkState, Store, Taken};

fn config(dir: &Path) -> Config {
    let text = format!(
        "[state]\ndir = {dir:?}\n[[watch]]\npath = \"/etc\"\n[[alert]]\nname = \"soc\"\ntype = \"webhook\"\nurl = \"https://h/x\"\n"
    );
    Config::parse(Path::new("fim.toml"), &text).expect("valid")
}

fn state() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    dir
}

fn event(n: u32) -> Event {
    let mut event =
        Event::about_fim(EventKind::Modified, "h", "lsm", i64::from(n) * 1_000_000, format!("n{n}"));
    event.set_path(format!("/etc/a\n{n}").as_bytes());
    event
}

fn with_baseline(dir: &Path) -> Store {
    let mut store = Store::open(dir).expect("a store");
    let found = Found { entry: regular(1), identity: Identity { dev: 1, ino: 2, ctime_ns: 3, nlink: 1 } };
    let mut rebuild = store.baseline_rebuild().expect("begun");
    rebuild.put(Path::new("/etc"), &[(RelPath::new("hosts").expect("sound"), found)]).expect("put");
    let taken = Taken { time: "2026-11-22T01:02:03Z".into(), by: "ann".into(), host: "web1".into() };
    rebuild.commit(&taken).expect("committed");
    store
}

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
    let cli =
        Cli::try_parse_from(["fim", "log", "-n", "5", "--config", "/x/fim.toml", "--json"]).expect("valid");
    assert_eq!((cli.config.as_path(), cli.json), (Path::new("/x/fim.toml"), true));
    let cli = Cli::try_parse_from(["fim", "status"]).expect("valid");
    assert_eq!(cli.config.as_path(), Path::new("/etc/fim/fim.toml"));
    let cli = Cli::try_parse_from(["fim", "run", "--dry-run"]).expect("valid");
    assert!(matches!(cli.command, Command::Run { dry_run: true }));
    assert!(Cli::try_parse_from(["fim", "explain"]).is_err(), "a path is required");
    let error = Cli::try_parse_from(["fim", "stats"]).expect_err("no such command");
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("'status'"), "{error}");
}

#[test]
fn the_log_prints_lines_or_json() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("a store");
    let records = store.append(&[event(1), event(2)], &[]).expect("appended");
    let print = |json| {
        let mut out = Vec::new();
        log::Printer::new(&mut out, json).print(&records).expect("printed");
        String::from_utf8(out).expect("text")
    };
    let text = print(false);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.starts_with("1970-01-01 00:00:00.001Z  low       modified /etc/a\\x0a1 by"), "{text}");
    let lines: Vec<serde_json::Value> =
        print(true).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[1]["seq"], &lines[1]["path"]), (&2.into(), &"/etc/a\\x0a2".into()));
    assert_eq!(lines[1]["path_raw"], "L2V0Yy9hCjI=");
    for key in [
        "id",
        "time",
        "host",
        "kind",
        "old_path",
        "verdict",
        "response",
        "severity",
        "tier",
        "actor",
        "latency_us",
    ] {
        assert!(lines[0].get(key).is_some(), "{key}");
    }
}

#[test]
fn before_anything_was_done_status_says_what_to_do() {
    let dir = state();
    let report = status::Report::gather(&config(dir.path())).expect("gathered");
    assert!(!report.running);
    let text = report.text();
    assert!(text.contains("start it with `fim run`") && text.contains("run `fim init`"), "{text}");
    let error = log::run(&config(dir.path()), &log::Args::default(), false).expect_err("no database");
    assert!(sentence(&error).contains("run `fim init`"), "{error:#}");
}

#[test]
fn a_daemon_that_runs_well_is_no_problem() {
    let dir = state();
    let mut store = with_baseline(dir.path());
    store.append(&[event(1)], &[]).expect("appended");
    let idle = SinkState {
        name: "journald".into(),
        idle: true,
        error: Some("no journald".into()),
        ..Default::default()
    };
    store.sink_state_set(&idle).expect("written");
    let mut status = Status {
        ready: true,
        tier: "tracepoint".into(),
        started: "2026-11-22T02:00:00Z".into(),
        watches: vec![WatchStatus {
            path: "/etc".into(),
            files: 1,
            coverage: "all is seen live".into(),
            last_scan: None,
        }],
        ..Status::of_this_process()
    };
    status.write(dir.path()).expect("written");
    let report = status::Report::gather(&config(dir.path())).expect("gathered");
    assert_eq!(report.problems, [""; 0]);
    assert_eq!(report.code(), 0);
    let text = report.text();
    for part in
        ["tier tracepoint", "/etc  1 entries", "all is seen live", "ledger: 1 records", "by ann on web1"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }

    status.ready = false;
    status.trouble = Some("the disk is full".into());
    status.gaps = GapStatus { count: 2, open: 1, ..GapStatus::default() };
    status.attach =
        vec![AttachedHook { hook: "file_open".into(), state: "failed".into(), reason: Some("EPERM".into()) }];
    status.write(dir.path()).expect("written");
    for name in ["soc", "old-and-gone"] {
        let failing =
            SinkState { name: name.into(), error: Some("cannot connect".into()), ..Default::default() };
        store.sink_state_set(&failing).expect("written");
    }
    let report = status::Report::gather(&config(dir.path())).expect("gathered");
    let problems = report.problems.join("\n");
    for part in
        ["still starting", "disk is full", "file_open is not attached: EPERM", "1 coverage gap", "\"soc\""]
    {
        assert!(problems.contains(part), "{part} in {problems}");
    }
    assert_eq!(report.problems.len(), 5, "{problems}");
    assert_eq!(report.code(), REPORT);
}

#[test]
fn a_daemon_that_died_is_not_taken_for_alive() {
    let dir = state();
    with_baseline(dir.path());
    let mut status = Status { ready: true, ..Status::of_this_process() };
    status.start_ticks += 1;
    status.write(dir.path()).expect("written");
    let report = status::Report::gather(&config(dir.path())).expect("gathered");
    assert!(!report.running && report.problems.len() == 1, "{:?}", report.problems);
    assert!(report.text().contains("has ended; start it with `fim run`"), "{}", report.text());
    assert!(report.text().contains("/etc  1 entries"), "the database still says what is approved");
}

#[test]
fn causes_are_said_once() {
    let inner = std::io::Error::other("no \x1b[2J room");
    let error = anyhow::Error::new(inner).context("cannot write: no \x1b[2J room").context("fim stopped");
    assert_eq!(sentence(&error), "fim stopped: cannot write: no \\x1b[2J room");
}

/// `fim report` into a file.
fn report_to(dir: &Path, words: &[&str], file: &Path) -> Result<(), String> {
    let file = file.to_str().expect("text");
    let words = [&["fim", "report", "--since", "1970-01-01T00:00:00Z", "-o", file], words];
    let Command::Report(args) = Cli::try_parse_from(words.concat()).expect("sound").command else {
        unreachable!("a report")
    };
    report::run(&config(dir), &args, false).map(drop).map_err(|e| sentence(&e))
}

#[test]
fn a_report_never_goes_into_a_file_that_is_somebody_elses() {
    use std::os::unix::fs::MetadataExt;
    let dir = state();
    with_baseline(dir.path());
    let file = dir.path().join("report.html");
    std::fs::write(&file, "theirs").expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).expect("chmod");
    let kept_open = std::fs::File::open(&file).expect("opens");
    report_to(dir.path(), &["--html"], &file).expect("reported");
    let (meta, theirs) = (file.metadata().expect("there"), kept_open.metadata().expect("there"));
    assert_eq!(meta.mode() & 0o7777, 0o600);
    assert_ne!((meta.ino(), meta.len()), (theirs.ino(), theirs.len()));
    assert_eq!(theirs.len(), 6, "who had it open reads nothing");

    let (fifo, link) = (dir.path().join("fifo"), dir.path().join("link"));
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("made");
    // Somebody reads, so that opening it does not wait.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
    let _reader = rustix::fs::open(&fifo, flags, rustix::fs::Mode::empty()).expect("opens");
    std::os::unix::fs::symlink(&file, &link).expect("linked");
    for other in [&fifo, &link, &dir.path().to_path_buf()] {
        let said = report_to(dir.path(), &["--html"], other).expect_err("no regular file");
        assert!(said.contains("no regular file") && said.contains("name another"), "{said}");
    }
    let names = std::fs::read_dir(dir.path()).expect("listed").flatten().map(|e| e.file_name());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().starts_with(".fim-")));
}

#[test]
fn a_table_has_every_change_of_the_period() {
    let dir = state();
    let mut store = with_baseline(dir.path());
    let events: Vec<Event> = (1..=1_207).map(event).collect();
    store.append(&events, &[]).expect("appended");
    let file = dir.path().join("all.csv");
    report_to(dir.path(), &["--csv"], &file).expect("reported");
    let mut table = ::csv::Reader::from_path(&file).expect("opens");
    let seqs: Vec<String> =
        table.records().map(|row| row.expect("a row").get(0).unwrap_or_default().to_owned()).collect();
    assert_eq!((seqs.len(), seqs[1_206].as_str()), (1_207, "1207"));
}
