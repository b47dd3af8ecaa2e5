//! What can break under a running daemon, one thing at a time. docs/faults.md promises what happens then; here it is held
//! to it: the daemon lives, says so, loses no altered content, and puts things right once the fault is gone.

mod clock;
mod disk;
mod mounts;
mod shortage;
mod vault;

use std::path::{Path, PathBuf};

use crate::actor::spawn;
use crate::actor::{Op, effect};
use crate::fim::{Daemon, Fim, Policy, Setting};
use crate::record::Record;
use crate::report::Report;
use crate::state;
use crate::suites::table::place::{approved, approved_file};
use crate::tree::{Snapshot, as_approved, snapshot};
use crate::wait;

pub fn run(setting: &Setting, report: &mut Report) {
    report.case("faults/read-only-watch", || mounts::read_only_watch(setting));
    report.case("faults/full-watch", || mounts::full_watch(setting));
    report.case("faults/mounted-over", || mounts::mounted_over(setting));
    report.case("faults/closed-to-root", || mounts::closed_to_root(setting));
    report.case("faults/no-descriptors", || mounts::no_descriptors(setting));
    report.case("faults/vault-removed", || vault::removed(setting));
    report.case("faults/vault-corrupted", || vault::corrupted(setting));
    report.case("faults/vault-full", || shortage::full(setting));
    report.case("faults/vault-refilled", || shortage::refilled(setting));
    report.case("faults/state-disk-fails", || disk::state_fails(setting));
    report.case("faults/state-read-only", || disk::state_read_only(setting));
    report.case("faults/watch-disk-fails", || disk::watch_fails(setting));
    report.case("faults/one-file-unreadable", || disk::one_file_unreadable(setting));
}

/// Sets the machine's clock: only where the machine is the test's own.
pub fn run_clock(setting: &Setting, report: &mut Report) {
    report.case("clock/jumps", || clock::jumps(setting));
}

/// One watched file among others, a daemon, and what was approved.
struct Scene {
    fim: Fim,
    daemon: Daemon,
    file: PathBuf,
    approved: Snapshot,
}

/// What the file holds when the baseline is taken.
const NAME: &str = "file";

impl Scene {
    fn fim(setting: &Setting, name: &str) -> Result<Fim, String> {
        let work = setting.works.first().ok_or("no work directory")?;
        Fim::new(setting, work, name, Policy::Restore)
    }

    /// Files in the watched folder as it is by now, the baseline, the daemon.
    fn begin(fim: Fim) -> Result<Self, String> {
        let file = fim.watched.join(NAME);
        approved_file(&file, &approved(NAME)).map_err(|e| e.to_string())?;
        approved_file(&fim.watched.join("beside"), &approved("beside")).map_err(|e| e.to_string())?;
        let approved = snapshot(&fim.watched).map_err(|e| e.to_string())?;
        fim.init()?;
        let daemon = fim.start()?;
        Ok(Self { fim, daemon, file, approved })
    }

    /// Overwrites the start of the file, reached by `path`.
    fn write(setting: &Setting, path: &Path) -> Result<(), String> {
        spawn::start(&setting.actor, &["write".into(), path.display().to_string()], false)?.finish()
    }

    /// The content that `write` leaves.
    fn altered() -> Vec<u8> {
        effect(Op::Write, &approved(NAME)).unwrap_or_default()
    }

    fn alive(&mut self) -> Result<(), String> {
        match self.daemon.is_running() && !self.daemon.last_words().contains("panicked") {
            true => Ok(()),
            false => Err(format!("the daemon is gone; {}", self.daemon.last_words())),
        }
    }

    /// Waits for a record of this file that ended so, or for such words from the daemon; gives the words.
    fn told(&mut self, setting: &Setting, words: &[&str]) -> Result<String, String> {
        wait::until(setting.patience, || {
            if !self.daemon.is_running() {
                return Ok(Err(format!("the daemon is gone; {}", self.daemon.last_words())));
            }
            // The database itself may be what is broken.
            let records = self.fim.log_after(0).unwrap_or_default();
            let told = records.iter().flat_map(|r| [&r.error, &r.message]).flatten().cloned();
            let mut told: Vec<String> = told.collect();
            told.push(self.daemon.last_words());
            match told.iter().find(|t| words.iter().any(|w| t.contains(w))) {
                Some(sentence) => Ok(Ok(sentence.clone())),
                None => Err(format!("nobody says any of {words:?}: {}", told.join(" / "))),
            }
        })?
    }

    /// The altered content is in its place or in the vault.
    fn nothing_lost(&self) -> Result<(), String> {
        let altered = Self::altered();
        let in_tree = state::files(&self.fim.watched)?
            .iter()
            .any(|path| std::fs::read(path).is_ok_and(|content| content == altered));
        if in_tree || state::holds(&self.fim.state, &altered) {
            Ok(())
        } else {
            Err("the altered content is neither in the tree nor in the vault".into())
        }
    }

    /// The fault is gone: everything is right again, recorded, and its evidence whole.
    fn recovers(&mut self, setting: &Setting) -> Result<(), String> {
        wait::until(setting.patience.max(std::time::Duration::from_secs(120)), || {
            let records = self.fim.log_after(0)?;
            let restored = |r: &Record| r.is_about(&self.file) && r.response == "restored";
            if !records.iter().any(restored) {
                let told: Vec<String> = records.iter().map(Record::brief).collect();
                return Err(format!("the change is not undone: {}", told.join(" ")));
            }
            as_approved(&self.fim.watched, &self.approved)?;
            self.fim.at_rest()
        })?;
        if !state::holds(&self.fim.state, &Self::altered()) {
            return Err("the altered content is not in the vault".into());
        }
        state::sound(&self.fim.state).map(drop)?;
        self.alive()
    }

    fn end(self, setting: &Setting) -> Result<(), String> {
        self.daemon.stop(setting.patience)?;
        self.fim.remove();
        Ok(())
    }
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}
