//! One daemon, one policy, all rows: first every operation, then the waiting.

use std::path::Path;
use std::time::Instant;

use super::attach;
use super::cases::{Case, Expect, Who};
use super::expect::{Wanted, response};
use super::not_live::{must_linger, not_live, not_named, renames_unpaired};
use super::place::{Place, approved};
use super::skipped;
use crate::actor::spawn::{self, Running};
use crate::actor::{SelfReport, effect};
use crate::fim::{Daemon, Fim, Policy, Setting};
use crate::kernel::Features;
use crate::record::{Record, named_changes};
use crate::report::{Report, say};
use crate::tree::{Node, Snapshot, differences, leftovers, node, part, sha256, snapshot};
use crate::wait;

struct Run<'a> {
    setting: &'a Setting,
    kernel: &'a Features,
    policy: Policy,
    prefix: &'a str,
    fim: Fim,
    /// The watched tree as it was approved.
    approved: Snapshot,
}

/// A row whose operation has been done.
struct Acted<'a> {
    case: &'a Case,
    place: Place,
    started: Instant,
    me: SelfReport,
    /// Absolute paths a tree operation touched.
    touched: Vec<String>,
    /// What lay outside right after the operation.
    outside: Snapshot,
    /// The process, where it has to stay until it has been looked up.
    actor: Option<Running>,
}

pub fn run(
    setting: &Setting,
    report: &mut Report,
    work: &Path,
    kernel: &Features,
    policy: Policy,
    prefix: &str,
    rows: &[&Case],
) {
    let label = format!("{}-{}", kernel.file_system, policy.name());
    let started = Instant::now();
    let begun = Fim::new(setting, work, &label, policy).and_then(|fim| {
        for case in rows {
            Place::of(&fim, case).make(case)?;
        }
        let approved = snapshot(&fim.watched).map_err(|e| e.to_string())?;
        fim.init()?;
        let run = Run { setting, kernel, policy, prefix, fim, approved };
        let daemon = run.fim.start()?;
        Ok((run, daemon))
    });
    match begun {
        Ok((run, daemon)) => {
            let fine = run.all(report, daemon, rows);
            if fine {
                run.fim.remove();
            } else {
                say(&format!("  everything of this run is kept in {}", run.fim.home.display()));
            }
        }
        Err(e) => report.outcome(&format!("{prefix}/start"), started.elapsed(), Err(e)),
    }
}

impl Run<'_> {
    fn all(&self, report: &mut Report, daemon: Daemon, rows: &[&Case]) -> bool {
        let mut fine = true;
        let mut tell =
            |report: &mut Report, name: &str, started: Instant, outcome: Result<String, String>| {
                fine &= outcome.is_ok();
                report.outcome(&format!("{}/{name}", self.prefix), started.elapsed(), outcome);
            };
        let attached = self.fim.status().and_then(|s| attach::check(&s, &self.setting.expect_tier));
        tell(report, "attach", Instant::now(), attached);

        let mut acted = Vec::new();
        for case in rows {
            match self.act(case) {
                Ok(done) => acted.push(done),
                Err(e) => tell(report, case.name, Instant::now(), Err(e)),
            }
        }
        let (later, live): (Vec<_>, Vec<_>) = acted
            .into_iter()
            .partition(|a| not_live(&self.setting.expect_tier, self.kernel, a.case).is_some());
        let mut live =
            self.await_all(live, false, |a, outcome| tell(report, a.case.name, a.started, outcome));
        for a in &mut live {
            if let Some(Err(e)) = a.actor.take().map(Running::finish) {
                tell(report, a.case.name, a.started, Err(e));
            }
        }
        let all_names: Vec<&Case> = rows.to_vec();
        let daemon = match self
            .scan_finds(daemon, later, &mut |a, outcome| tell(report, a.case.name, a.started, outcome))
        {
            Ok((daemon, mut later)) => {
                live.append(&mut later);
                daemon
            }
            Err(e) => {
                tell(report, "restart", Instant::now(), Err(e));
                return false;
            }
        };
        for (name, outcome) in self.closing(&live, &all_names, daemon) {
            tell(report, name, Instant::now(), outcome);
        }
        fine
    }

    fn act<'c>(&self, case: &'c Case) -> Result<Acted<'c>, String> {
        let place = Place::of(&self.fim, case);
        let words = |op: crate::actor::Op, args: &[&str]| -> Vec<String> {
            std::iter::once(op.name().to_owned()).chain(args.iter().map(|a| place.resolve(a))).collect()
        };
        for (op, args) in case.prelude {
            let mut actor = spawn::start(&self.setting.actor, &words(*op, args), false)?;
            actor.acted()?;
            actor.finish()?;
        }
        let started = Instant::now();
        let linger = must_linger(&self.setting.expect_tier) && case.op != crate::actor::Op::Quick;
        let mut actor = spawn::start(&self.setting.actor, &words(case.op, case.args), linger)?;
        let touched = actor.acted()?;
        let me = actor.me.clone();
        let actor = if linger {
            Some(actor)
        } else {
            actor.finish()?;
            None
        };
        let outside = snapshot(&place.outside).map_err(|e| e.to_string())?;
        Ok(Acted { case, place, started, me, touched, outside, actor })
    }

    /// Waits until every row is as it must be, telling each as soon as it is; what never comes is told at the end.
    fn await_all<'c>(
        &self,
        mut waiting: Vec<Acted<'c>>,
        by_scan: bool,
        mut tell: impl FnMut(&Acted<'c>, Result<String, String>),
    ) -> Vec<Acted<'c>> {
        let mut done = Vec::new();
        if waiting.is_empty() {
            return done;
        }
        let result = wait::until(self.setting.patience, || {
            let records = self.fim.log_after(0)?;
            let mut still = Vec::new();
            let mut reasons = Vec::new();
            for acted in waiting.drain(..) {
                match self.judge(&acted, &records, by_scan) {
                    Ok(remark) => {
                        tell(&acted, Ok(remark));
                        done.push(acted);
                    }
                    Err(reason) => {
                        reasons.push(reason);
                        still.push(acted);
                    }
                }
            }
            waiting = still;
            if waiting.is_empty() { Ok(()) } else { Err(reasons.join("\n")) }
        });
        if let Err(last) = result {
            let records = self.fim.log_after(0).unwrap_or_default();
            for acted in waiting {
                let reason = self.judge(&acted, &records, by_scan).err().unwrap_or_else(|| last.clone());
                let about = self.told_about(&acted, &records);
                tell(&acted, Err(format!("{reason}; the ledger has {about}")));
                done.push(acted);
            }
        }
        done
    }

    fn told_about(&self, acted: &Acted, records: &[Record]) -> String {
        let below =
            |r: &&Record| r.path.as_deref().is_some_and(|p| Path::new(p).starts_with(&acted.place.inside));
        let lines: Vec<String> = records.iter().filter(below).take(8).map(Record::brief).collect();
        if lines.is_empty() { "nothing".into() } else { lines.join(" ") }
    }

    /// Whether ledger and files are what the row wants. The remark names what this tier cannot tell.
    fn judge(&self, acted: &Acted, records: &[Record], by_scan: bool) -> Result<String, String> {
        let wanted = |rows: &[Expect]| -> Result<(), String> {
            rows.iter().try_for_each(|e| self.wanted(acted, e, by_scan)?.find(records).map(drop))
        };
        let case = acted.case;
        let paired = wanted(case.expect);
        let unpaired_will_do = by_scan || renames_unpaired(&self.setting.expect_tier, self.kernel);
        match paired {
            Err(_) if unpaired_will_do && !case.unpaired.is_empty() => wanted(case.unpaired)?,
            other => other?,
        }
        for path in &acted.touched {
            self.wanted_touched(acted, path, by_scan).find(records)?;
        }
        self.final_state(acted)?;
        let kept_quiet = case.expect.iter().find_map(|e| {
            not_named(&self.setting.expect_tier, self.kernel, case, e.who)
                .filter(|_| e.who == Who::Exact && !by_scan)
        });
        Ok(kept_quiet.map_or(String::new(), |reason| format!("(actor not asserted: {reason})")))
    }

    fn wanted(&self, acted: &Acted, expect: &Expect, by_scan: bool) -> Result<Wanted, String> {
        let path = acted.place.resolve(expect.path);
        let below = Path::new(&path).strip_prefix(&self.fim.watched).map_err(|e| e.to_string())?;
        let old = expect.old_path.map(|p| acted.place.path(p));
        let approved_at = match &old {
            Some(old) => old.strip_prefix(&self.fim.watched).map_err(|e| e.to_string())?,
            None => below,
        };
        let before = self.approved.get(approved_at).cloned();
        // What the undoing policy saw can be an earlier moment of an operation of several steps.
        let tells_whole = self.policy == Policy::Alert || (expect.whole && !by_scan);
        let after = match self.policy {
            _ if !tells_whole || expect.kinds.len() > 1 => None,
            Policy::Alert => Some(node(Path::new(&path)).ok()),
            Policy::Restore => self.left_behind(acted, expect, before.as_ref()),
        };
        Ok(Wanted {
            kinds: expect.kinds,
            old_path: old.map(|p| p.display().to_string()),
            response: response(self.policy, expect.response),
            actor: (!by_scan).then(|| acted.me.clone()),
            exact: !by_scan
                && not_named(&self.setting.expect_tier, self.kernel, acted.case, expect.who).is_none(),
            tier: self.setting.expect_tier.clone(),
            before: Some(before),
            after,
            path,
        })
    }

    /// What the operation made of a path before it was undone, where that is certain.
    fn left_behind(&self, acted: &Acted, expect: &Expect, before: Option<&Node>) -> Option<Option<Node>> {
        if expect.kinds == ["deleted"] {
            return Some(None);
        }
        let mut node = before.filter(|_| expect.kinds == ["modified"])?.clone();
        if acted.case.op == crate::actor::Op::Replace {
            node.mode = libc::S_IFREG | 0o640;
        }
        let source = acted.case.make.iter().find_map(|m| match m {
            super::cases::Make::File(path) => Some(approved(path)),
            _ => None,
        })?;
        let content = effect(acted.case.op, &source)?;
        node.size = content.len() as u64;
        node.content = sha256(&content);
        Some(Some(node))
    }

    /// A path that a tree operation says it made or removed.
    fn wanted_touched(&self, acted: &Acted, path: &str, by_scan: bool) -> Wanted {
        let made = acted.case.op == crate::actor::Op::MkdirTree;
        let undone = if made { "quarantined" } else { "restored" };
        let named = not_named(&self.setting.expect_tier, self.kernel, acted.case, Who::Exact).is_none();
        Wanted {
            kinds: if made { &["created"] } else { &["deleted"] },
            path: path.to_owned(),
            old_path: None,
            response: response(self.policy, undone),
            actor: (!by_scan).then(|| acted.me.clone()),
            exact: !by_scan && named,
            tier: self.setting.expect_tier.clone(),
            before: None,
            after: None,
        }
    }

    /// Restored: as approved. Alert only: as the actor left it, which its own look at the tree has shown.
    fn final_state(&self, acted: &Acted) -> Result<(), String> {
        if self.policy == Policy::Alert {
            return Ok(());
        }
        let now = snapshot(&self.fim.watched).map_err(|e| e.to_string())?;
        let name = Path::new(acted.case.name);
        told("not as approved", &differences(&part(&self.approved, name), &part(&now, name), 4))
    }

    /// What could not be seen live: a check names it, and the scan at the next start deals with it.
    fn scan_finds<'c>(
        &self,
        daemon: Daemon,
        mut later: Vec<Acted<'c>>,
        tell: &mut dyn FnMut(&Acted<'c>, Result<String, String>),
    ) -> Result<(Daemon, Vec<Acted<'c>>), String> {
        if later.is_empty() {
            return Ok((daemon, later));
        }
        let records = self.fim.log_after(0)?;
        for actor in later.iter_mut().filter_map(|a| a.actor.take()) {
            actor.finish()?;
        }
        let early: Vec<&str> =
            later.iter().filter(|a| self.judge(a, &records, true).is_ok()).map(|a| a.case.name).collect();
        let (code, text) = self.fim.check()?;
        let named = named_changes(&text);
        daemon.stop(self.setting.patience)?;
        let daemon = self.fim.start()?;
        let done = self.await_all(later, true, |acted, outcome| {
            let outcome = outcome.and_then(|_| {
                let reason = not_live(&self.setting.expect_tier, self.kernel, acted.case).unwrap_or("?");
                if early.contains(&acted.case.name) {
                    return Ok(format!("(declared not live ({reason}), and yet seen before the next scan)"));
                }
                if code == 1 && named_by(acted, &named) {
                    return Ok(format!(
                        "not live: {} ({reason}), found by the next scan: ok",
                        acted.case.name
                    ));
                }
                Err(format!("fim check (exit code {code}) did not name it: {text}"))
            });
            tell(acted, outcome);
        });
        Ok((daemon, done))
    }

    /// What must hold for the run as a whole.
    fn closing(
        &self,
        acted: &[Acted],
        rows: &[&Case],
        daemon: Daemon,
    ) -> Vec<(&'static str, Result<String, String>)> {
        let records = self.fim.log_after(0);
        let clean = || "";
        vec![
            ("outside-untouched", self.outside_untouched(acted).map(|()| clean().into())),
            ("no-leftovers", self.no_leftovers().map(|()| clean().into())),
            (
                "nothing-else-told",
                records.clone().and_then(|r| self.nothing_else(rows, &r)).map(|()| clean().into()),
            ),
            ("skipped-calls-told", self.skipped_calls_told()),
            ("told-once", records.and_then(|r| told_once(&r)).map(|()| clean().into())),
            ("check", self.check_agrees(rows).map(|()| clean().into())),
            ("stop", daemon.stop(self.setting.patience).map(|()| clean().into())),
        ]
    }

    fn outside_untouched(&self, acted: &[Acted]) -> Result<(), String> {
        acted.iter().try_for_each(|a| {
            let now = snapshot(&a.place.outside).map_err(|e| e.to_string())?;
            told(a.case.name, &differences(&a.outside, &now, 4))
        })
    }

    fn no_leftovers(&self) -> Result<(), String> {
        for dir in [&self.fim.watched, &self.fim.outside] {
            let left = leftovers(&snapshot(dir).map_err(|e| e.to_string())?);
            if !left.is_empty() {
                return Err(format!("left behind in {}: {left:?}", dir.display()));
            }
        }
        Ok(())
    }

    /// Every record is about something a row did, and none of it went wrong.
    fn nothing_else(&self, rows: &[&Case], records: &[Record]) -> Result<(), String> {
        let explained = |path: &str| {
            rows.iter().any(|case| {
                let place = Place::of(&self.fim, case);
                Path::new(path)
                    .strip_prefix(&place.inside)
                    .is_ok_and(|rest| case.may_touch(&format!("in/{}", rest.display())))
            })
        };
        let gaps = records.iter().any(skipped::is_of_them);
        let odd = |r: &&Record| match r.is_change() {
            true => !r.path.as_deref().is_some_and(explained),
            // Where fanotify cannot serve, the daemon says so once.
            false if r.kind == "trouble" && !self.kernel.names => {
                !r.message.as_deref().unwrap_or_default().contains("not reported on by fanotify")
            }
            // How many there may be, `skipped_calls_told` says.
            false if self.setting.expect_tier == "fentry" && gaps => {
                !matches!(r.kind.as_str(), "started" | "stopped" | "rescanned") && !skipped::is_of_them(r)
            }
            false => !matches!(r.kind.as_str(), "started" | "stopped"),
        };
        let odd: Vec<String> = records
            .iter()
            .filter(odd)
            .take(5)
            .map(|r| format!("{} {}", r.brief(), r.message.as_deref().unwrap_or_default()))
            .collect();
        told("records that nobody's doing explains", &odd)
    }

    /// Each call that the kernel skipped is in a coverage gap, and each gap was followed by a scan.
    fn skipped_calls_told(&self) -> Result<String, String> {
        wait::until(self.setting.patience, || {
            let records = self.fim.log_after(0)?;
            let (told, counted) = skipped::told_and_counted(&records, &self.fim.status()?);
            match skipped::not_scanned(&records) {
                open if !open.is_empty() => Err(format!("no scan after the coverage gaps {open:?}")),
                _ if told != counted => Err(format!("{counted} calls were skipped, and {told} of them told")),
                _ if counted > 0 => Ok(format!("({counted} calls skipped by the kernel)")),
                _ => Ok(String::new()),
            }
        })
    }

    /// `fim check` sees nothing where all was undone, and something where it was only told.
    fn check_agrees(&self, rows: &[&Case]) -> Result<(), String> {
        let (code, text) = self.fim.check()?;
        let wanted = i32::from(self.policy == Policy::Alert && !rows.is_empty());
        if code == wanted {
            Ok(())
        } else {
            Err(format!("fim check ended with {code}, not {wanted}: {text}"))
        }
    }
}

/// Whether `fim check` has one of the expected changes.
fn named_by(acted: &Acted, named: &[(String, String)]) -> bool {
    acted.case.expect.iter().chain(acted.case.unpaired).any(|e| {
        let path = acted.place.resolve(e.path);
        named.iter().any(|(p, kind)| *p == path && e.kinds.contains(&kind.as_str()))
    })
}

/// No two records in a row that say the same about the same path.
fn told_once(records: &[Record]) -> Result<(), String> {
    let mut last: std::collections::BTreeMap<&str, &Record> = std::collections::BTreeMap::new();
    let mut twice = Vec::new();
    for record in records.iter().filter(|r| r.is_change()) {
        let Some(path) = record.path.as_deref() else {
            continue;
        };
        if let Some(earlier) = last.insert(path, record) {
            let actor = |r: &Record| r.actor.as_ref().and_then(|a| a.pid);
            if earlier.kind == record.kind
                && earlier.after == record.after
                && earlier.response == record.response
                && actor(earlier) == actor(record)
            {
                twice.push(format!("{} and {}", earlier.brief(), record.brief()));
            }
        }
    }
    twice.truncate(4);
    told("told twice", &twice)
}

fn told(what: &str, reasons: &[String]) -> Result<(), String> {
    if reasons.is_empty() { Ok(()) } else { Err(format!("{what}: {}", reasons.join("; "))) }
}
