//! The power goes at a random moment of heavy work: each start on the same disks looks at what the last cut left, and then
//! works until it is cut off itself. Who cuts is outside: `cargo xtask vm --cuts N`.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::crash::populate;
use crate::actor::Random;
use crate::actor::spawn;
use crate::fim::{Daemon, Fim, Policy, Setting};
use crate::report::{Report, say};
use crate::state;
use crate::tree::{as_approved, snapshot};
use crate::wait;

/// What the host waits for before it cuts.
const WORKING: &str = "FIM-VM-CUT";
/// Nobody cuts: the host is gone, or this is no virtual machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// `last`: only looks, and ends.
pub fn run(setting: &Setting, report: &mut Report, last: bool, seed: u64) {
    let mut working = Vec::new();
    for work in &setting.works {
        let name = format!("powercut/{}", work.file_name().unwrap_or_default().display());
        if !report.wants(&name) {
            continue;
        }
        let mut daemon = None;
        report.case(&name, || {
            let (remark, fim, running) = begin(setting, work)?;
            daemon = Some((fim, running));
            Ok(remark)
        });
        working.extend(daemon);
    }
    if last || working.len() < setting.works.len() {
        return;
    }
    report.case("powercut/cut", || Err(work_until_cut(setting, &working, seed)));
}

/// Takes the baseline on new disks; on used ones, starts the daemon and holds what it finds to what was approved.
fn begin(setting: &Setting, work: &Path) -> Result<(String, Fim, Daemon), String> {
    let home = work.join("powercut");
    let prepared = home.join("prepared");
    let fim = Fim::at(setting, home.clone(), Policy::Restore, &setting.tier)?;
    let reference = home.join("reference");
    let told = |e: std::io::Error| format!("{}: {e}", home.display());
    if prepared.exists() {
        let daemon = fim.start()?;
        let remark = verify(setting, &fim, &reference)?;
        return Ok((remark, fim, daemon));
    }
    fs::create_dir_all(&reference).map_err(told)?;
    populate(&fim.watched).and_then(|()| populate(&reference)).map_err(told)?;
    fim.init()?;
    File::create(&prepared).and_then(|mut file| file.write_all(b"x")).map_err(told)?;
    rustix::fs::sync();
    let daemon = fim.start()?;
    Ok(("(new)".into(), fim, daemon))
}

fn verify(setting: &Setting, fim: &Fim, reference: &Path) -> Result<String, String> {
    let approved = snapshot(reference).map_err(|e| e.to_string())?;
    wait::until(setting.patience, || {
        as_approved(&fim.watched, &approved)?;
        fim.at_rest()
    })?;
    let sound = state::sound(&fim.state)?;
    let left = state::files(&fim.state.join("vault/tmp"))?;
    if !left.is_empty() {
        return Err(format!("half-written objects were left behind: {left:?}"));
    }
    match fim.check()? {
        (0, _) => Ok(format!("({} records, {} objects, all whole)", sound.records, sound.objects)),
        (code, text) => Err(format!("fim check ended with {code}: {text}")),
    }
}

/// Never comes to an end in peace.
fn work_until_cut(setting: &Setting, working: &[(Fim, Daemon)], seed: u64) -> String {
    let responses = |fim: &Fim| {
        state::count(&fim.state, "SELECT count(*) FROM ledger WHERE response IN ('restored', 'quarantined')")
    };
    let before: Vec<u64> = working.iter().map(|(fim, _)| responses(fim).unwrap_or_default()).collect();
    let mut random = Random::new(seed);
    let mut writers = Vec::new();
    for (fim, _) in working {
        let dir = fim.watched.join("busy").display().to_string();
        match spawn::start(&setting.actor, &["busy".into(), dir, random.below(u64::MAX).to_string()], false) {
            Ok(writer) => writers.push(writer),
            Err(e) => return e,
        }
    }
    let start = std::time::Instant::now();
    let begun = wait::until(setting.patience, || {
        working.iter().zip(&before).try_for_each(|((fim, _), before)| match responses(fim)? {
            now if now > *before => Ok(()),
            _ => Err("the daemon does not respond".into()),
        })
    });
    if let Err(e) = begun {
        return e;
    }
    say(WORKING);
    while start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_secs(1));
    }
    format!("nobody cut the power within {} s", PATIENCE.as_secs())
}
