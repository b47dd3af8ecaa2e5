//! As many changes as a loop can make: whatever is lost on the way, nothing is missing at the end, and every loss is
//! accounted for.

use std::collections::BTreeMap;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::table::place::{approved, approved_file};
use crate::actor::spawn::{self, GID, UID};
use crate::fim::{Daemon, Fim, Policy, Setting, make_open};
use crate::record::{Record, named_changes};
use crate::report::{Outcome, Report};
use crate::tree::{Node, Snapshot, differences, leftovers, snapshot};
use crate::wait;

pub fn run(setting: &Setting, report: &mut Report) {
    let count = if setting.full { 100_000 } else { 10_000 };
    let Some(work) = setting.works.first() else {
        return;
    };
    report.case(&format!("flood/alert-{count}"), || flood(setting, work, Policy::Alert, count));
    // Undoing keeps evidence of every file on disk: the same loop, a tenth as long.
    report
        .case(&format!("flood/restore-{}", count / 10), || flood(setting, work, Policy::Restore, count / 10));
}

struct Flood {
    fim: Fim,
    daemon: Daemon,
    approved: Snapshot,
    patience: Duration,
    took: Duration,
}

fn flood(setting: &Setting, work: &Path, policy: Policy, count: u32) -> Outcome {
    let fim = Fim::new(setting, work, &format!("flood-{}", policy.name()), policy)?;
    populate(&fim, count / 20).map_err(|e| e.to_string())?;
    let approved = snapshot(&fim.watched).map_err(|e| e.to_string())?;
    fim.init()?;
    let daemon = fim.start()?;
    let started = Instant::now();
    let args = ["flood".to_owned(), fim.watched.display().to_string(), count.to_string()];
    spawn::start(&setting.actor, &args, false)?.finish()?;
    // The daemon has as long again as the loop took, many times over, before the test gives up.
    let patience = setting.patience.max(started.elapsed() * 20).max(Duration::from_secs(300));
    let mut flood = Flood { fim, daemon, approved, patience, took: started.elapsed() };
    let (settled, ledger) = match policy {
        Policy::Alert => flood.told()?,
        Policy::Restore => flood.undone()?,
    };
    let (gaps, dropped) = ledger.accounted(&flood.fim.status()?)?;
    if !flood.daemon.is_running() {
        return Err(format!("the daemon is gone; {}", flood.daemon.last_words()));
    }
    flood.daemon.stop(setting.patience)?;
    flood.fim.remove();
    Ok(format!(
        "(flooded in {} ms, settled {} ms later, {} records, {dropped} dropped, {gaps} coverage gaps, each rescanned)",
        flood.took.as_millis(),
        settled.as_millis(),
        ledger.records
    ))
}

/// Half of the flood's folders, with approved files in them.
fn populate(fim: &Fim, files: u32) -> std::io::Result<()> {
    for folder in 0..25 {
        let folder = fim.watched.join(format!("d{folder:02}"));
        make_open(&folder)?;
        chown(folder, Some(UID), Some(GID))?;
    }
    for index in 0..files {
        let path = format!("d{:02}/approved{index:05}", index % 25);
        approved_file(&fim.watched.join(&path), &approved(&path))?;
    }
    Ok(())
}

impl Flood {
    /// Alert only: every difference that is left on disk stands in the ledger as it is.
    fn told(&mut self) -> Result<(Duration, Ledger), String> {
        let start = Instant::now();
        let now = snapshot(&self.fim.watched).map_err(|e| e.to_string())?;
        let wanted = surviving(&self.approved, &now);
        let mut ledger = Ledger::default();
        wait::until(self.patience, || {
            ledger.read(&self.fim)?;
            let missing: Vec<String> = wanted
                .iter()
                .filter_map(|(path, state)| ledger.lacks(&self.fim.watched.join(path), state))
                .collect();
            let some = missing.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
            if missing.is_empty() {
                Ok(())
            } else {
                Err(format!(
                    "{} of {} differences are not in the ledger: {some}",
                    missing.len(),
                    wanted.len()
                ))
            }
        })?;
        ledger.wait_for_rescans(&self.fim, self.patience)?;
        let settled = start.elapsed();
        let (_, text) = self.fim.check()?;
        let named: BTreeMap<String, String> = named_changes(&text).into_iter().collect();
        let unnamed: Vec<&PathBuf> = wanted
            .keys()
            .filter(|p| !named.contains_key(&self.fim.watched.join(p).display().to_string()))
            .take(5)
            .collect();
        if unnamed.is_empty() {
            Ok((settled, ledger))
        } else {
            Err(format!("fim check does not name {unnamed:?}"))
        }
    }

    /// Everything undone: the tree is what was approved.
    fn undone(&mut self) -> Result<(Duration, Ledger), String> {
        let start = Instant::now();
        let mut ledger = Ledger::default();
        wait::until(self.patience, || {
            let now = snapshot(&self.fim.watched).map_err(|e| e.to_string())?;
            let left = differences(&self.approved, &now, 4);
            if !left.is_empty() {
                return Err(format!("not as approved: {} (and perhaps more)", left.join("; ")));
            }
            match leftovers(&now).first() {
                Some(path) => Err(format!("left behind: {}", path.display())),
                None => Ok(()),
            }
        })?;
        ledger.wait_for_rescans(&self.fim, self.patience)?;
        let settled = start.elapsed();
        match self.fim.check()? {
            (0, _) => Ok((settled, ledger)),
            (code, text) => Err(format!("fim check ended with {code}: {text}")),
        }
    }
}

/// What differs at the end, with the digest that is there now; `None`: deleted.
fn surviving(approved: &Snapshot, now: &Snapshot) -> BTreeMap<PathBuf, Option<Node>> {
    let gone = approved.keys().filter(|p| !now.contains_key(*p)).map(|p| (p.clone(), None));
    let there =
        now.iter().filter(|(p, n)| approved.get(*p) != Some(n)).map(|(p, n)| (p.clone(), Some(n.clone())));
    gone.chain(there).collect()
}

/// The ledger, read on and on; of each path only the newest record is kept.
#[derive(Default)]
struct Ledger {
    head: u64,
    records: usize,
    newest: BTreeMap<String, Record>,
    /// Sequence numbers.
    gaps: Vec<u64>,
    rescans: Vec<u64>,
}

impl Ledger {
    fn read(&mut self, fim: &Fim) -> Result<(), String> {
        for record in fim.log_after(self.head)? {
            self.head = self.head.max(record.seq);
            self.records += 1;
            match record.kind.as_str() {
                "coverage_gap" => self.gaps.push(record.seq),
                "rescanned" => self.rescans.push(record.seq),
                _ => {
                    if let Some(path) = record.path.clone().filter(|_| record.is_change()) {
                        self.newest.insert(path, record);
                    }
                }
            }
        }
        Ok(())
    }

    /// Why the newest record of `path` does not tell what is there; `None`: it does.
    fn lacks(&self, path: &Path, state: &Option<Node>) -> Option<String> {
        let Some(record) = self.newest.get(&path.display().to_string()) else {
            return Some(format!("{}: nothing", path.display()));
        };
        let told = record.after.as_ref().map(|s| s.sha256.clone().unwrap_or_default());
        let there = state.as_ref().map(|n| n.content.clone());
        (told != there).then(|| format!("{} with another state", record.brief()))
    }

    fn wait_for_rescans(&mut self, fim: &Fim, patience: Duration) -> Result<(), String> {
        wait::until(patience, || {
            self.read(fim)?;
            match (self.gaps.last(), self.rescans.last()) {
                (Some(gap), rescan) if rescan.is_none_or(|r| r < gap) => {
                    Err(format!("the coverage gap of record {gap} has no rescan after it"))
                }
                _ => fim.at_rest(),
            }
        })
    }

    /// Coverage gaps and dropped events; an error where something was dropped and the ledger is silent about it.
    fn accounted(&self, status: &Value) -> Result<(usize, u64), String> {
        let dropped = sum_of("dropped", status);
        if dropped > 0 && self.gaps.is_empty() {
            return Err(format!(
                "{dropped} events were dropped and no coverage gap is in the ledger: {status}"
            ));
        }
        Ok((self.gaps.len(), dropped))
    }
}

/// Every number under this key, wherever it stands, added up.
fn sum_of(key: &str, value: &Value) -> u64 {
    match value {
        Value::Array(items) => items.iter().map(|v| sum_of(key, v)).sum(),
        Value::Object(map) => {
            map.iter().map(|(k, v)| if k == key { v.as_u64().unwrap_or(0) } else { sum_of(key, v) }).sum()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_drop_without_a_gap_is_refused() {
        let status =
            json!({"attach": [{"hook": "a", "dropped": 3}, {"hook": "b", "dropped": 4}], "tier": "lsm"});
        assert_eq!(sum_of("dropped", &status), 7);
        let silent = Ledger::default();
        assert!(silent.accounted(&status).is_err());
        assert_eq!(silent.accounted(&json!({"dropped": 0})), Ok((0, 0)));
        let honest = Ledger { gaps: vec![5], rescans: vec![6], ..Ledger::default() };
        assert_eq!(honest.accounted(&status), Ok((1, 7)));
    }
}
