//! kill -9 at random moments of a busy run: no half-written file, no lost baseline, and what was done while the daemon
//! was down is found.

use std::os::unix::fs::chown;
use std::path::Path;
use std::time::Duration;

use super::table::place::{approved, approved_file};
use crate::actor::spawn::{self, GID, UID};
use crate::actor::{Random, block, is_block};
use crate::disk::Disk;
use crate::fim::{Daemon, Fim, Policy, Setting, make_open};
use crate::record::Record;
use crate::report::{Outcome, Report, say};
use crate::state;
use crate::tree::{Snapshot, as_approved, snapshot};
use crate::wait;

/// Files of the busy writer: most are small, some take a while to copy.
const SIZES: [usize; 10] = [4096, 4096, 4096, 4096, 4096, 4096, 70_000, 70_000, 1_000_003, 3_000_017];

pub fn run(setting: &Setting, report: &mut Report, kills: Option<u32>, seed: u64) {
    let kills = kills.unwrap_or(if setting.full { 200 } else { 10 });
    let name = format!("crash/{kills}-kills");
    let Some(work) = setting.works.first() else { return };
    say(&format!("crash: seed {seed}"));
    if report.wants(&name) {
        report.case(&name, || crash(setting, work, kills, seed));
    }
    if setting.full {
        let kills = (kills / 4).max(1);
        for kind in ["xfs", "btrfs"] {
            let name = format!("crash/{kills}-kills/{kind}");
            report.case(&name, || on_disk(setting, work, kind, kills, seed));
        }
    }
}

/// The same on a file system of its own, state and watched tree alike.
fn on_disk(setting: &Setting, work: &Path, kind: &'static str, kills: u32, seed: u64) -> Outcome {
    let home = work.join(format!("crash-{kind}"));
    let at = home.join("disk");
    std::fs::create_dir_all(&at).map_err(|e| e.to_string())?;
    let disk = Disk::new(kind, 8 << 30, home.join("image"), &at)?;
    let remark = crash(setting, &at, kills, seed)?;
    disk.unmount()?;
    std::fs::remove_dir_all(home).map_err(|e| e.to_string())?;
    Ok(remark)
}

struct Crash<'a> {
    setting: &'a Setting,
    fim: Fim,
    approved: Snapshot,
    random: Random,
}

fn crash(setting: &Setting, work: &Path, kills: u32, seed: u64) -> Outcome {
    let fim = Fim::new(setting, work, "crash", Policy::Restore)?;
    populate(&fim.watched).map_err(|e| e.to_string())?;
    let approved = snapshot(&fim.watched).map_err(|e| e.to_string())?;
    fim.init()?;
    let mut crash = Crash { setting, fim, approved, random: Random::new(seed) };
    let mut daemon = crash.fim.start()?;
    for round in 0..kills {
        daemon = crash.round(daemon, round).map_err(|e| {
            format!("kill {round}, seed {seed}: {e}; everything is kept in {}", crash.fim.home.display())
        })?;
    }
    let records = crash.fim.log_after(0)?;
    in_sequence(&records)?;
    daemon.stop(setting.patience)?;
    let interrupted = records.iter().filter(|r| r.kind == "interrupted").count();
    let remark = format!("({} records, {interrupted} responses interrupted)", records.len());
    crash.fim.remove();
    Ok(remark)
}

pub fn populate(watched: &Path) -> std::io::Result<()> {
    for dir in ["busy", "down"] {
        let dir = watched.join(dir);
        make_open(&dir)?;
        chown(dir, Some(UID), Some(GID))?;
    }
    for (index, size) in SIZES.iter().enumerate() {
        approved_file(&watched.join(format!("busy/file{index}")), &block(0, *size))?;
    }
    for name in ["down/changed", "down/deleted"] {
        approved_file(&watched.join(name), &approved(name))?;
    }
    Ok(())
}

impl Crash<'_> {
    /// One kill and what must be true afterwards; the daemon of the next round.
    fn round(&mut self, daemon: Daemon, round: u32) -> Result<Daemon, String> {
        self.kill_while_busy(daemon)?;
        self.nothing_torn()?;
        if round % 5 == 4 {
            self.kill_while_starting()?;
            self.nothing_torn()?;
        }
        let head = self.fim.log_head()?;
        let stray = format!("down/made{round}");
        for (op, path) in [("write", "down/changed"), ("unlink", "down/deleted"), ("create", &stray)] {
            let path = self.fim.watched.join(path).display().to_string();
            let mut actor = spawn::start(&self.setting.actor, &[op.to_owned(), path], false)?;
            actor.acted()?;
            actor.finish()?;
        }
        let daemon = self.fim.start()?;
        wait::until(self.setting.patience, || {
            let records = self.fim.log_after(head)?;
            self.found(&records, "modified", "down/changed", "restored")?;
            self.found(&records, "deleted", "down/deleted", "restored")?;
            self.found(&records, "created", &stray, "quarantined")?;
            as_approved(&self.fim.watched, &self.approved)
        })?;
        state::sound(&self.fim.state)?;
        match self.fim.check()? {
            (0, _) => Ok(daemon),
            (code, text) => Err(format!("fim check ended with {code}: {text}")),
        }
    }

    fn kill_while_busy(&mut self, daemon: Daemon) -> Result<(), String> {
        let dir = self.fim.watched.join("busy").display().to_string();
        let seed = self.random.below(u64::MAX).to_string();
        let writer = spawn::start(&self.setting.actor, &["busy".into(), dir, seed], false)?;
        // The random moment is what is being tested; nothing waits for anything here.
        std::thread::sleep(Duration::from_micros(self.random.below(400_000)));
        daemon.kill()?;
        writer.finish()
    }

    fn kill_while_starting(&mut self) -> Result<(), String> {
        let daemon = self.fim.spawn(self.fim.command(&["run"]))?;
        std::thread::sleep(Duration::from_micros(self.random.below(150_000)));
        daemon.kill()
    }

    /// Daemon dead, writer done: each file is there whole, as approved or as the writer left it, or it is not there.
    fn nothing_torn(&self) -> Result<(), String> {
        for (index, size) in SIZES.iter().enumerate() {
            let path = self.fim.watched.join(format!("busy/file{index}"));
            match std::fs::read(&path) {
                Ok(content) if is_block(&content, *size) => {}
                Ok(content) => {
                    return Err(format!("{} is half-written ({} bytes)", path.display(), content.len()));
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(format!("{}: {e}", path.display())),
            }
        }
        Ok(())
    }

    fn found(&self, records: &[Record], kind: &str, path: &str, response: &str) -> Result<(), String> {
        let path = self.fim.watched.join(path);
        let fits = |r: &&Record| r.kind == kind && r.is_about(&path) && r.response == response;
        match records.iter().find(fits) {
            Some(_) => Ok(()),
            None => {
                let about: Vec<_> = records.iter().filter(|r| r.is_about(&path)).map(Record::brief).collect();
                Err(format!("done while down, not found: {kind} {} ({response}); {about:?}", path.display()))
            }
        }
    }
}

/// Numbered from 1 without a gap.
fn in_sequence(records: &[Record]) -> Result<(), String> {
    match records.iter().zip(1..).find(|(r, n)| r.seq != *n) {
        Some((record, n)) => Err(format!("the ledger jumps: record {n} is {}", record.brief())),
        None => Ok(()),
    }
}
