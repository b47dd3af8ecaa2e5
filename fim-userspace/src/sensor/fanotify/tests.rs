use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::*;
use crate::core::actor::{Actor, Confidence};
use crate::core::observation::{Deed, Observation, Source};

mod real;
mod recorded;

const W: WatchId = WatchId(3);

fn p(path: &str) -> RelPath {
    RelPath::new(path).expect("sound")
}

/// Answers with the bare pid; waits while a test holds the gate, and so holds up the sensor's thread.
#[derive(Default)]
struct Stub {
    gate: Mutex<()>,
    entered: AtomicU64,
    asked: AtomicU64,
}

impl Identify for Stub {
    fn identify(&self, pid: u32, _: Option<BorrowedFd<'_>>) -> Actor {
        self.entered.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.lock().unwrap_or_else(PoisonError::into_inner));
        self.asked.fetch_add(1, Ordering::SeqCst);
        Actor { pid: Some(pid), confidence: Confidence::Exact, ..Actor::unknown() }
    }
}

/// The sensor on a real directory.
struct Watched {
    base: PathBuf,
    dirs: Arc<Directories>,
    stub: Arc<Stub>,
    sensor: Fanotify,
    signals: Receiver<Signal>,
    ends: u32,
}

impl Watched {
    /// Watches what is at `base` now.
    fn new(base: &Path, options: Options) -> Self {
        let dirs = Directories::new();
        let stub = Arc::new(Stub::default());
        let (out, signals) = crossbeam_channel::bounded(100_000);
        let exclude = options.exclude.clone();
        let sensor = Fanotify::start(dirs.clone(), stub.clone(), out, options).expect("fanotify, as root");
        let root = Arc::new(Root::open(base).expect("opens"));
        sensor.watch(W, root.clone());
        adopt::adopt(&root, W, &RelPath::root(), &dirs, &sensor, &exclude, false).expect("marks");
        Self { base: base.into(), dirs, stub, sensor, signals, ends: 0 }
    }

    fn temporary() -> (tempfile::TempDir, Self) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let watched = Self::new(dir.path(), Options::default());
        (dir, watched)
    }

    /// Runs a command in the watched directory; its pid.
    fn sh(&self, script: &str) -> u32 {
        sh_in(&self.base, script)
    }

    /// Waits until the sensor's thread stands at the gate, which the caller holds; who passed it before does not count.
    fn entered(&self) {
        let passed = self.stub.asked.load(Ordering::SeqCst);
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.stub.entered.load(Ordering::SeqCst) <= passed {
            assert!(Instant::now() < deadline, "the first event is never looked at");
            std::thread::yield_now();
        }
    }

    /// Everything up to now: a child's last file tells that the sensor has come that far.
    fn so_far(&mut self) -> Vec<Signal> {
        self.ends += 1;
        let end = format!("end-{}", self.ends);
        self.sh(&format!("echo > {end}; rm {end}"));
        let mut seen = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let signal = self.signals.recv_deadline(deadline).expect("the end is seen");
            match &signal {
                Signal::Observed(o) if o.path.as_bytes().starts_with(b"end-") => {
                    if o.path == p(&end) && o.deed == Deed::Deleted {
                        return seen;
                    }
                }
                _ => seen.push(signal),
            }
        }
    }

    fn observed(&mut self) -> Vec<Observation> {
        let only = |signal| match signal {
            Signal::Observed(observation) => observation,
            other => panic!("{other:?}"),
        };
        self.so_far().into_iter().map(only).collect()
    }

    fn deeds(&mut self) -> Vec<(String, Deed)> {
        self.observed().into_iter().map(|o| (o.path.to_string(), o.deed)).collect()
    }
}

fn sh_in(dir: &Path, script: &str) -> u32 {
    let mut child = Command::new("sh").args(["-ec", script]).current_dir(dir).spawn().expect("sh starts");
    let pid = child.id();
    assert!(child.wait().expect("sh runs").success(), "{script}");
    pid
}

fn here(from: Option<&str>) -> Deed {
    Deed::MovedHere { from: from.map(p) }
}

fn deed(path: &str, deed: Deed) -> (String, Deed) {
    (path.into(), deed)
}
