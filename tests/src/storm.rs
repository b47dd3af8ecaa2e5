//! Execs, one after the other on every processor, as fast as the machine goes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A running storm; dropped, it ends.
pub struct Storm {
    stop: Arc<AtomicBool>,
    begun: Instant,
    execs: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<(), String>>>,
}

/// What a storm was.
pub struct Blown {
    pub execs: u64,
    pub time: Duration,
}

impl Blown {
    /// Execs a second.
    pub fn rate(&self) -> f64 {
        self.execs as f64 / self.time.as_secs_f64()
    }
}

impl Storm {
    /// One thread a processor starts `true` and waits for its end.
    pub fn begin() -> Result<Self, String> {
        let program = program()?;
        let (stop, execs) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let count = std::thread::available_parallelism().map_err(|e| e.to_string())?.get();
        let threads = (0..count)
            .map(|_| {
                let (program, stop, execs) = (program.clone(), stop.clone(), execs.clone());
                std::thread::spawn(move || blow(&program, &stop, &execs))
            })
            .collect();
        Ok(Self { stop, begun: Instant::now(), execs, threads })
    }

    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    pub fn end(mut self) -> Result<Blown, String> {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| "a thread of the storm panicked")??;
        }
        Ok(Blown { execs: self.execs.load(Ordering::Acquire), time: self.begun.elapsed() })
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn program() -> Result<PathBuf, String> {
    let places = ["/usr/bin/true", "/bin/true"];
    let found = places.into_iter().map(PathBuf::from).find(|path| path.exists());
    found.ok_or_else(|| format!("none of {places:?} is there"))
}

fn blow(program: &Path, stop: &AtomicBool, execs: &AtomicU64) -> Result<(), String> {
    while !stop.load(Ordering::Acquire) {
        let status = Command::new(program).stdin(Stdio::null()).status();
        let status = status.map_err(|e| format!("{} cannot be started: {e}", program.display()))?;
        if !status.success() {
            return Err(format!("{} ended with {status}", program.display()));
        }
        execs.fetch_add(1, Ordering::AcqRel);
    }
    Ok(())
}
