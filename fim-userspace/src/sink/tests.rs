pub(super) mod hostile;
mod journal;
mod pulse;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinHandle;

use super::*;
use crate::core::actor::{Actor, Confidence};
use crate::core::event::{Event, EventKind, Response, Verdict};
use crate::core::policy::Severity;
use crate::store::Store;

pub(super) fn state() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    dir
}

pub(super) fn event(n: usize) -> Event {
    let mut event = Event::about_fim(EventKind::Modified, "host", "lsm", 0, format!("n{n}"));
    event.set_path(format!("/etc/f{n}").as_bytes());
    event.severity = Severity::High;
    event
}

pub(super) fn events(range: std::ops::Range<usize>) -> Vec<Event> {
    range.map(event).collect()
}

pub(super) async fn until(mut condition: impl FnMut() -> bool, what: impl Fn() -> String) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {}", what());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One sink at work, as the daemon runs it.
pub(super) struct Running {
    grown: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// For sinks that have nothing to report.
pub(super) fn silent() -> alert::Report {
    Arc::new(|_| true)
}

pub(super) fn run<S: Sink>(sink: S, dir: &Path) -> Running {
    let runner = Runner::new(sink, dir).expect("a runner");
    let runner = runner.with_backoff(Backoff::new(Duration::from_millis(2), Duration::from_millis(20)));
    Running::start(|grown, stop| tokio::spawn(runner.run(grown, stop)))
}

impl Running {
    pub(super) fn start(
        spawn: impl FnOnce(watch::Receiver<u64>, watch::Receiver<bool>) -> JoinHandle<()>,
    ) -> Self {
        let (grown, stop) = (watch::Sender::new(0), watch::Sender::new(false));
        let task = spawn(grown.subscribe(), stop.subscribe());
        Self { grown, stop, task }
    }

    pub(super) fn ring(&self, seq: u64) {
        self.grown.send_replace(seq);
    }

    pub(super) fn append(&self, store: &mut Store, events: &[Event]) -> Vec<Record> {
        let records = store.append(events, &[]).expect("appended");
        self.grown.send_replace(records.last().expect("records").seq);
        records
    }

    pub(super) async fn finish(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(Duration::from_secs(20), self.task).await.expect("ends").expect("no panic");
    }

    pub(super) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.expect_err("aborted").is_cancelled());
    }
}

pub(super) fn sink_state(store: &Store, name: &str) -> crate::store::SinkState {
    store.sink_states().expect("states").into_iter().find(|s| s.name == name).expect("known")
}

pub(super) fn ids<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<&'a str> {
    records.into_iter().map(|r| r.id.as_str()).collect()
}

#[tokio::test]
async fn a_log_has_what_is_muted_too() {
    let dir = state();
    let log = dir.path().join("all.ndjson");
    let text = format!(
        "[state]\ndir = {:?}\n[[watch]]\npath = \"/etc\"\n[[log]]\ntype = \"file\"\nformat = \"json\"\npath = {log:?}\n",
        dir.path()
    );
    let config = Config::parse(Path::new("fim.toml"), &text).expect("valid");
    let mut store = Store::open(dir.path()).expect("a store");
    let sinks = start(&Handle::current(), &config, &silent(), &crate::sink::Bell::default()).expect("start");
    let mut list = events(0..5);
    [1, 2, 4].into_iter().for_each(|n: usize| list[n].muted = true);
    let sent = store.append(&list, &[]).expect("appended");
    sinks.bell().ring();
    sinks.stop().await;
    let written = std::fs::read_to_string(&log).expect("a log");
    let seqs: Vec<u64> =
        written.lines().map(|l| serde_json::from_str::<Record>(l).expect("a record").seq).collect();
    assert_eq!(seqs, sent.iter().map(|r| r.seq).collect::<Vec<_>>());
}

#[test]
fn delays_grow_and_differ() {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
    let delays: Vec<Duration> = (0..12).map(|_| backoff.delay()).collect();
    for (n, delay) in delays.iter().enumerate() {
        let full = Duration::from_secs((1 << n).min(300));
        assert!(*delay >= full / 2 && *delay <= full, "{n}: {delay:?}");
    }
    backoff.reset();
    assert!(backoff.delay() <= Duration::from_secs(1));
    let firsts: std::collections::HashSet<Duration> =
        (0..20).map(|_| Backoff::new(Duration::from_secs(1), Duration::MAX).delay()).collect();
    assert!(firsts.len() > 10, "{firsts:?}");
}

pub(super) fn attributed() -> Record {
    let mut event = event(7);
    event.set_path(b"/etc/a\nb");
    event.message = None;
    event.verdict = Some(Verdict::Unauthorised);
    event.response = Response::Restored;
    event.latency_us.restored = Some(1_234);
    event.watch = Some("/etc".into());
    let mut actor = Actor::unknown();
    actor.pid = Some(123);
    actor.uid = Some(1000);
    actor.gid = Some(1001);
    actor.euid = Some(0);
    actor.auid = Some(1002);
    actor.comm = Some("sh".into());
    actor.exe = Some("/usr/bin/dash".into());
    actor.confidence = Confidence::Exact;
    event.actor = Some(actor);
    Record { seq: 42, id: "ab".repeat(16), event }
}

#[test]
fn a_record_reads_as_one_line() {
    let record = attributed();
    let mut name = |uid| (uid == 1000).then(|| "ann".to_owned());
    assert_eq!(
        line::line(&record, &mut name),
        "1970-01-01 00:00:00.000Z  high      modified /etc/a\\x0ab by ann (1000), logged in as uid 1002, \
         /usr/bin/dash, pid 123; restored in 1.2 ms"
    );
    let mut odd = record.clone();
    odd.event.actor = None;
    odd.event.response = Response::Failed;
    odd.event.error = Some("no\n\u{202e}room".into());
    assert_eq!(
        line::message(&odd, &mut |_| None),
        "modified /etc/a\\x0ab by nobody that was seen; the response failed after 1.2 ms: no\\x0a\\u{202e}room"
    );
    let mut dry = record.clone();
    (dry.event.response, dry.event.planned) = (Response::None, Some(Response::Restored));
    (dry.event.latency_us.restored, dry.event.actor, dry.event.muted) = (None, None, true);
    assert_eq!(
        line::message(&dry, &mut |_| None),
        "modified /etc/a\\x0ab by nobody that was seen; would be restored (dry run) [muted]"
    );
    let gap = Event::about_fim(EventKind::CoverageGap, "h", "lsm", 0, "3 reports were lost".into());
    let gap = Record { seq: 1, id: String::new(), event: gap };
    assert_eq!(line::message(&gap, &mut |_| None), "coverage_gap: 3 reports were lost");
}
