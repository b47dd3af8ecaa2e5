//! An attacker who owns the watched folders swaps what is in them for links to the outside while the daemon puts it right.

mod outside;

use std::os::unix::fs::{chown, lchown, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::table::place::{approved, approved_file};
use crate::actor::Random;
use crate::actor::race::{CHAINS, EMPTY, FIFO, FILES, LINK, OWN, PARENT};
use crate::actor::spawn::{self, GID, UID};
use crate::fim::{Daemon, Fim, Policy, Setting, make_open};
use crate::report::{Outcome, Report, say};
use crate::state;
use crate::tree::{Snapshot, as_approved, snapshot};
use crate::wait;
use outside::Outside;

/// Attackers at the same time, on the same folders.
const ATTACKERS: u64 = 2;

pub fn run(setting: &Setting, report: &mut Report, swaps: Option<u64>, seed: u64) {
    let swaps = swaps.unwrap_or(if setting.full { 200_000 } else { 5000 });
    let name = format!("race/{swaps}-swaps");
    if let Some(work) = setting.works.first().filter(|_| report.wants(&name)) {
        say(&format!("race: seed {seed}"));
        report.case(&name, || race(setting, work, swaps, seed));
    }
}

fn race(setting: &Setting, work: &Path, swaps: u64, seed: u64) -> Outcome {
    let fim = Fim::new(setting, work, "race", Policy::Restore)?;
    populate(&fim).map_err(|e| e.to_string())?;
    let outside = Outside::make(&fim.outside, seed)?;
    let approved = snapshot(&fim.watched).map_err(|e| e.to_string())?;
    fim.init()?;
    let mut daemon = fim.start()?;
    // What it opens once and keeps is open after its first response.
    warm_up(setting, &fim, &approved)?;
    let descriptors = daemon.descriptors()?;
    let started = Instant::now();
    attack(setting, &fim, swaps, seed)?;
    let took = started.elapsed();
    let kept = |e: String| format!("seed {seed}: {e}; everything is kept in {}", fim.home.display());
    outside.unchanged().map_err(kept)?;
    let patience = setting.patience.max(took * 2).max(Duration::from_secs(300));
    comes_to_rest(&fim, &mut daemon, &approved, descriptors, patience).map_err(kept)?;
    let settled = started.elapsed() - took;
    outside.untouched(&fim).map_err(kept)?;
    let sound = state::sound(&fim.state).map_err(kept)?;
    match fim.check()? {
        (0, _) => {}
        (code, text) => return Err(kept(format!("fim check ended with {code}: {text}"))),
    }
    let undone = "SELECT count(*) FROM ledger WHERE response IN ('restored', 'quarantined')";
    let undone = state::count(&fim.state, undone)?;
    if undone < 20 {
        return Err(kept(format!("only {undone} responses in {swaps} swaps: this was no race")));
    }
    daemon.stop(setting.patience)?;
    fim.remove();
    Ok(format!(
        "(attacked for {} ms, right again {} ms later, {undone} responses, {} records, {} pieces of evidence)",
        took.as_millis(),
        settled.as_millis(),
        sound.records,
        sound.evidence
    ))
}

/// Three folders in folders, all of it the attacker's, with a file of each type that anybody can have.
fn populate(fim: &Fim) -> std::io::Result<()> {
    let own = |path: &Path| lchown(path, Some(UID), Some(GID));
    for chain in CHAINS {
        let parent = fim.watched.join(chain).join(PARENT);
        make_open(&parent)?;
        for name in FILES {
            approved_file(&parent.join(name), &approved(&format!("{chain}/{name}")))?;
        }
        mknodat(CWD, parent.join(FIFO), FileType::Fifo, Mode::from_raw_mode(0o640), 0)?;
        symlink("somewhere/else", parent.join(LINK))?;
        std::fs::create_dir(parent.join(EMPTY))?;
        for path in [FIFO, LINK, EMPTY].map(|name| parent.join(name)) {
            own(&path)?;
        }
        own(&parent)?;
        own(&fim.watched.join(chain))?;
    }
    let decoys = fim.outside.join(OWN);
    make_open(&decoys)?;
    chown(decoys, Some(UID), Some(GID))
}

fn warm_up(setting: &Setting, fim: &Fim, approved: &Snapshot) -> Result<(), String> {
    let file = fim.watched.join(CHAINS[0]).join(PARENT).join(FILES[0]);
    spawn::start(&setting.actor, &["write".into(), file.display().to_string()], false)?.finish()?;
    wait::until(setting.patience, || {
        let undone = state::count(&fim.state, "SELECT count(*) FROM ledger WHERE response = 'restored'")?;
        if undone == 0 {
            return Err("the first change is not undone".into());
        }
        as_approved(&fim.watched, approved)?;
        fim.at_rest()
    })
}

fn attack(setting: &Setting, fim: &Fim, swaps: u64, seed: u64) -> Result<(), String> {
    let mut random = Random::new(seed);
    let attackers = (0..ATTACKERS).map(|_| {
        let words = [&fim.watched, &fim.outside].map(|p| p.display().to_string());
        let numbers = [swaps.div_ceil(ATTACKERS), random.below(u64::MAX)].map(|n| n.to_string());
        let args: Vec<String> = ["race".into()].into_iter().chain(words).chain(numbers).collect();
        spawn::start(&setting.actor, &args, false)
    });
    let attackers: Vec<_> = attackers.collect::<Result<_, _>>()?;
    attackers.into_iter().try_for_each(spawn::Running::finish)
}

/// All right again, nothing waiting, nothing left behind, no descriptor more than before.
fn comes_to_rest(
    fim: &Fim,
    daemon: &mut Daemon,
    approved: &Snapshot,
    (database, before): (Vec<String>, Vec<String>),
    patience: Duration,
) -> Result<(), String> {
    // A thread that works at idle priority opens its connection, of two files and what they share, when it comes to it.
    const LATE: usize = 3;
    wait::until(patience, || {
        if !daemon.is_running() {
            return Ok(Err(format!("the daemon is gone; {}", daemon.last_words())));
        }
        as_approved(&fim.watched, approved)?;
        fim.at_rest()?;
        let (of_database, now) = daemon.descriptors()?;
        if now.len() > before.len() || of_database.len() > database.len() + LATE {
            let (count, known) = (now.len() + of_database.len(), before.len() + database.len());
            let new: Vec<String> = now.into_iter().filter(|target| !before.contains(target)).collect();
            return Err(format!("{count} descriptors are open, {known} before; new: {}", new.join(" ")));
        }
        Ok(Ok(()))
    })?
}
