//! The self-test of the sensors: every few minutes a helper makes a change in a private watched folder. What is reported
//! of it is no change of the user's and reaches no ledger, unless it is wrong.

mod act;

use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::core::canary::{Demand, GID, Trial, UID};
use crate::core::event::rfc3339;
use crate::core::observation::{Observation, WatchId};
use crate::core::path::{RelPath, display};
use crate::core::tier::Tier;
use crate::sensor::fanotify::Fanotify;
use crate::tree::Root;

use super::clock::{boottime_ns, realtime_ns};
use super::sensors::Sensors;

pub use act::act;

/// The hidden command that makes the change.
const COMMAND: &str = "canary";
const FOLDER: &str = "canary";
/// Nanoseconds that the reports may take; under load they come late.
const PATIENCE_NS: u64 = 30_000_000_000;

/// What a self-test came to.
pub enum Outcome {
    /// Everything was seen.
    Passed,
    /// What was wrong, in a sentence.
    Failed(String),
}

pub struct Canary {
    watch: WatchId,
    folder: PathBuf,
    demand: Demand,
    period_ns: u64,
    next_ns: u64,
    running: Option<Running>,
    /// When everything was last seen, RFC 3339.
    pub passed: Option<String>,
    /// What was wrong with the last one.
    pub trouble: Option<String>,
}

struct Running {
    trial: Trial,
    helper: Child,
    until_ns: u64,
}

impl Canary {
    /// `None` where it is not wanted, or nothing is seen live anyway. `watch` is a number that no `[[watch]]` has.
    ///
    /// # Errors
    /// When the folder cannot be made or watched.
    pub fn start(
        period: Duration,
        state_dir: &Path,
        watch: WatchId,
        sensors: &Sensors,
    ) -> anyhow::Result<Option<Self>> {
        if period.is_zero() || sensors.tier == Tier::Scan {
            return Ok(None);
        }
        let folder = state_dir.join(FOLDER);
        let shown = || format!("the folder of the self-test, {}, cannot be watched", display(&folder));
        match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e).with_context(shown),
            _ => {}
        }
        chown(&folder, Some(UID), Some(GID)).with_context(shown)?;
        let root = Arc::new(Root::open(&folder).with_context(shown)?);
        let dir = root.open_dir(&RelPath::root()).with_context(shown)?;
        let marked = Fanotify::probe(dir.as_fd(), false).is_ok_and(|(_, marked)| marked.is_ok());
        if let Some(fanotify) = &sensors.fanotify {
            fanotify.watch(watch, root);
        }
        let told = sensors.marks().map(|marks| marks.directory(dir.as_fd(), watch, &RelPath::root()));
        if let Some(Err(error)) = told {
            tracing::debug!("not every sensor sees the folder of the self-test: {error}");
        }
        let exe = std::fs::read_link("/proc/self/exe").ok().map(|path| display(&path));
        let demand = Demand {
            fanotify: sensors.fanotify.is_some() && marked,
            ebpf: sensors.tier.hooks_files(),
            exact: sensors.ebpf.is_some(),
            // After an upgrade the name is another file's.
            exe: exe.filter(|path| !path.ends_with(" (deleted)")),
        };
        if !demand.fanotify && !demand.ebpf {
            return Ok(None);
        }
        let period_ns = period.as_nanos() as u64;
        let next_ns = boottime_ns() + period_ns;
        Ok(Some(Self {
            watch,
            folder,
            demand,
            period_ns,
            next_ns,
            running: None,
            passed: None,
            trouble: None,
        }))
    }

    pub fn watch(&self) -> WatchId {
        self.watch
    }

    /// Whether a report is about the test's own folder; it is taken in.
    pub fn took(&mut self, seen: &Observation) -> bool {
        if seen.watch != self.watch {
            return false;
        }
        if let Some(running) = &mut self.running {
            running.trial.observe(seen);
        }
        true
    }

    /// When it wants its next turn, nanoseconds since boot.
    pub fn due_ns(&self) -> u64 {
        self.running
            .as_ref()
            .map_or(self.next_ns, |running| if running.trial.complete() { 0 } else { running.until_ns })
    }

    /// Begins a test that is due, or ends one that is over.
    pub fn turn(&mut self) -> Option<Outcome> {
        let now = boottime_ns();
        if let Some(running) = self.running.take_if(|r| r.trial.complete() || now >= r.until_ns) {
            let said = end(running.helper);
            let verdict = running.trial.verdict().map(|verdict| match said {
                Some(said) => format!("the change of the self-test could not be made: {said}"),
                None => verdict,
            });
            return Some(self.ended(verdict));
        }
        if self.running.is_some() || now < self.next_ns {
            return None;
        }
        self.next_ns = now + self.period_ns;
        match self.begin() {
            Ok(helper) => {
                let trial = Trial::new(self.demand.clone(), helper.id());
                self.running = Some(Running { trial, helper, until_ns: now + PATIENCE_NS });
                None
            }
            Err(error) => Some(self.ended(Some(format!("the self-test could not be begun ({error})")))),
        }
    }

    fn ended(&mut self, trouble: Option<String>) -> Outcome {
        self.trouble.clone_from(&trouble);
        match trouble {
            Some(trouble) => Outcome::Failed(trouble),
            None => {
                self.passed = Some(rfc3339(realtime_ns()));
                Outcome::Passed
            }
        }
    }

    /// The helper goes to the folder as root, becomes nobody there, and stays until it is told to go, so that it can be
    /// looked up.
    fn begin(&self) -> std::io::Result<Child> {
        Command::new("/proc/self/exe")
            .arg(COMMAND)
            .current_dir(&self.folder)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            end(running.helper);
        }
    }
}

/// Has it go; what it complained of.
fn end(mut helper: Child) -> Option<String> {
    // It has done its work or never will.
    let _ = helper.kill();
    let said = helper.wait_with_output().ok()?.stderr;
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    (!said.is_empty()).then_some(said)
}
