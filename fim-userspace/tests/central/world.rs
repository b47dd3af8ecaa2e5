//! Hosts with a ledger and a sink at work, as the daemon runs it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fim::config::{CentralConfig, Config};
use fim::core::actor::{Actor, Confidence};
use fim::core::event::{Event, EventKind, Record, Response, Verdict};
use fim::sink::{Backoff, Central, Runner};
use fim::store::{SinkState, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::server::{PASSWORD, Server};

pub struct Host {
    pub dir: tempfile::TempDir,
    /// One connection for all threads, as the daemon's writer.
    pub store: Mutex<Store>,
    pub config: CentralConfig,
}

impl Host {
    pub fn new(name: &str, server: &Server) -> Self {
        Self::with(name, &server.url(), "")
    }

    pub fn with(name: &str, url: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
        let config = config(dir.path(), name, url, more);
        Self { store: Mutex::new(Store::open(dir.path()).expect("a store")), dir, config }
    }

    pub fn append(&self, events: &[Event]) -> Vec<Record> {
        self.store.lock().expect("unpoisoned").append(events, &[]).expect("appended")
    }

    pub fn central(&self) -> Central {
        Central::new(&self.config, self.dir.path()).expect("a sink")
    }

    pub fn state(&self) -> SinkState {
        let states = self.store.lock().expect("unpoisoned").sink_states().expect("states");
        states.into_iter().find(|s| s.name == "central").expect("known")
    }

    pub fn start(&self) -> Running {
        let runner = Runner::new(self.central(), self.dir.path()).expect("a runner");
        let runner = runner.with_backoff(Backoff::new(Duration::from_millis(20), Duration::from_millis(100)));
        let (grown, stop) = (watch::Sender::new(0), watch::Sender::new(false));
        let task = tokio::spawn(runner.run(grown.subscribe(), stop.subscribe()));
        Running { grown, stop, task }
    }

    /// Waits until everything up to `seq` is delivered.
    pub async fn delivered(&self, seq: u64) {
        until(Duration::from_secs(60), || self.state().cursor >= seq, || format!("{:?}", self.state())).await;
    }

    /// Waits for a failure that says all of `words`.
    pub async fn failed(&self, words: &[&str]) -> String {
        let error = || self.state().error.unwrap_or_default();
        let told = || words.iter().all(|word| error().contains(word));
        until(Duration::from_secs(30), told, || format!("{words:?} in {:?}", error())).await;
        let said = error();
        assert!(!said.contains(PASSWORD), "{said}");
        said
    }
}

pub fn config(dir: &Path, name: &str, url: &str, more: &str) -> CentralConfig {
    let secret = dir.join("password");
    if !secret.exists() {
        std::fs::write(&secret, PASSWORD).expect("written");
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    }
    let text = format!(
        "[[watch]]\npath = \"/etc\"\n[central]\nurl = {url:?}\npassword_file = {secret:?}\nhost_id = {name:?}\n{more}\n"
    );
    Config::parse(Path::new("fim.toml"), &text).expect("valid").central.expect("a [central]")
}

pub struct Running {
    grown: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    pub fn ring(&self) {
        self.grown.send_modify(|n| *n += 1);
    }

    pub async fn finish(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(Duration::from_secs(30), self.task).await.expect("ends").expect("no panic");
    }
}

pub async fn until(limit: Duration, mut condition: impl FnMut() -> bool, what: impl Fn() -> String) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {}", what());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn event(n: usize) -> Event {
    let mut event = Event::about_fim(
        EventKind::Modified,
        "host",
        "lsm",
        1_700_000_000_000_001_000 + n as i64 * 1_000,
        format!("n{n}"),
    );
    event.set_path(format!("/etc/f{n}").as_bytes());
    event.verdict = Some(Verdict::Unauthorised);
    event.response = Response::Restored;
    let mut actor = Actor::unknown();
    (actor.pid, actor.ppid) = (Some(4_000_000_001), Some(12));
    (actor.uid, actor.gid, actor.euid, actor.auid) = (Some(1000), Some(1001), Some(0), Some(1002));
    actor.exe = Some("/usr/bin/dash".into());
    actor.comm = Some("sh".into());
    actor.confidence = Confidence::Exact;
    event.actor = Some(actor);
    event
}

pub fn events(range: std::ops::Range<usize>) -> Vec<Event> {
    range.map(event).collect()
}
