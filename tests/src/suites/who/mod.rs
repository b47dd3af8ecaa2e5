//! Who did it: every field of the actor, against what the acting process says of itself.

mod canary;
mod compare;
mod not_known;
mod storm;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::actor::who::Truth;
use crate::fim::{Fim, Policy, Setting};
use crate::kernel::Features;
use crate::report::{Outcome, Report, say};
use crate::wait;

/// Shapes of `fim-actor who`. Two processes write in the last.
const CASES: [&str; 23] = [
    "plain",
    "thread",
    "brief",
    "double-fork",
    "vfork",
    "script",
    "renamed",
    "deleted",
    "memfd",
    "setuid",
    "su",
    "sudo",
    "namespaces",
    "chroot",
    "uring",
    "uring-thread",
    "passed",
    "mapped",
    "two",
    "terminal",
    "service",
    "container",
    "over-ssh",
];

/// Shapes with processes that stay until their stdin is closed.
const LINGERING: [&str; 3] = ["over-ssh", "service", "container"];

/// What a file holds before: longer than what is written over it.
const APPROVED: [u8; 200] = [b'a'; 200];

pub fn run(setting: &Setting, report: &mut Report) {
    shapes(setting, report);
    report.case("who/self-test", || canary::self_test(setting));
}

/// A daemon that only tells, and what is known of the machine.
struct Stage<'a> {
    setting: &'a Setting,
    kernel: Features,
    fim: Fim,
}

fn shapes(setting: &Setting, report: &mut Report) {
    let wanted: Vec<&str> = CASES.into_iter().filter(|case| report.wants(&format!("who/{case}"))).collect();
    let storm = report.wants("who/storm");
    let Some(work) = setting.works.first().filter(|_| storm || !wanted.is_empty()) else { return };
    let begun = Features::of(work).map_err(|e| e.to_string()).and_then(|kernel| {
        let fim = Fim::new(setting, work, "who", Policy::Alert)?;
        let of_storm = (0..storm::CHANGES).map(storm::file);
        for name in wanted.iter().map(ToString::to_string).chain(of_storm) {
            let file = fim.watched.join(name);
            std::fs::write(&file, APPROVED).map_err(|e| e.to_string())?;
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).map_err(|e| e.to_string())?;
        }
        fim.init()?;
        let daemon = fim.start()?;
        Ok((Stage { setting, kernel, fim }, daemon))
    });
    let (stage, daemon) = match begun {
        Ok(begun) => begun,
        Err(e) => return report.case("who/start", || Err(e)),
    };
    say(&format!("who: {} on {}, Linux {}", work.display(), stage.kernel.file_system, stage.kernel.release));
    let mut fine = true;
    for case in wanted {
        report.case(&format!("who/{case}"), || {
            let outcome = one(&stage, case, &stage.fim.watched.join(case));
            fine &= outcome.is_ok();
            outcome
        });
    }
    report.case("who/storm", || {
        let outcome = storm::storm(&stage);
        fine &= outcome.is_ok();
        outcome
    });
    let stopped = daemon.stop(setting.patience);
    fine &= stopped.is_ok();
    if let Err(e) = stopped {
        report.case("who/stop", || Err(e));
    }
    if fine {
        stage.fim.remove();
    } else {
        say(&format!("  everything of this run is kept in {}", stage.fim.home.display()));
    }
}

/// Lets a shape act on a file, and holds what is recorded against what it says of itself.
fn one(stage: &Stage<'_>, case: &str, file: &Path) -> Outcome {
    let Stage { setting, kernel, fim } = stage;
    let (truths, actor) = match act(setting, fim, case, file)? {
        Some(acted) => acted,
        None => return Ok("(not asserted: this machine cannot have such a process)".into()),
    };
    let known = |field: &str| not_known::not_known(&setting.expect_tier, kernel, case, field);
    if let Some(why) = known("pid") {
        // What is not known may not be said wrongly either: nobody else is named for certain.
        recorded(setting, fim, file, |records| compare::nobody_else(records, &truths))?;
        return Ok(format!("(actor not asserted: {why})"));
    }
    let mut left_out = Vec::new();
    let fields = compare::FIELDS.iter().filter(|field| match known(field) {
        Some(why) => {
            left_out.push(format!("{field} not asserted: {why}"));
            false
        }
        None => true,
    });
    let fields: Vec<&str> = fields.copied().collect();
    recorded(setting, fim, file, |records| compare::all(records, &truths, &fields))?;
    drop(actor);
    let remark = left_out.join("; ");
    Ok(if remark.is_empty() { remark } else { format!("({remark})") })
}

/// Lets the shape act, and end unless it lingers. `None`: there is no such shape here.
fn act(
    setting: &Setting,
    fim: &Fim,
    case: &str,
    file: &Path,
) -> Result<Option<(Vec<Truth>, Acting)>, String> {
    let lingers = LINGERING.contains(&case);
    let mut child = Command::new(&setting.actor)
        .args(["who", case])
        .args([file, &fim.outside])
        .stdin(if lingers { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start {}: {e}", setting.actor.display()))?;
    let mut out = BufReader::new(child.stdout.take().ok_or("the actor has no stdout")?);
    let mut told = String::new();
    if lingers {
        out.read_line(&mut told).map_err(|e| e.to_string())?;
    } else {
        // Its descendants hold its stdout: it ends when all of them have.
        out.read_to_string(&mut told).map_err(|e| e.to_string())?;
    }
    let mut acting = Acting { child, _out: out };
    if told.trim() == "unsupported" {
        return Ok(None);
    }
    let truths: Vec<Truth> = told
        .lines()
        .map(|line| serde_json::from_str(line).map_err(|e| format!("{e}: {line}")))
        .collect::<Result<_, _>>()?;
    if truths.is_empty() || !lingers {
        acting.end()?;
    }
    if truths.is_empty() {
        return Err("the actor said nothing of itself".into());
    }
    Ok(Some((truths, acting)))
}

/// The processes of a shape.
struct Acting {
    child: Child,
    /// Open, so that nobody fails to write to it.
    _out: BufReader<ChildStdout>,
}

impl Acting {
    fn end(&mut self) -> Result<(), String> {
        drop(self.child.stdin.take());
        let mut said = String::new();
        let err = self.child.stderr.take();
        err.map_or(Ok(0), |mut err| err.read_to_string(&mut said)).map_err(|e| e.to_string())?;
        let status = self.child.wait().map_err(|e| e.to_string())?;
        match said.trim() {
            "" => Ok(()),
            said => Err(format!("the actor ended with {status} and said: {said}")),
        }
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Waits until what is recorded of `file` is as `judge` wants it.
fn recorded(
    setting: &Setting,
    fim: &Fim,
    file: &Path,
    judge: impl Fn(&[Value]) -> Result<(), String>,
) -> Result<(), String> {
    let path = file.display().to_string();
    wait::until(setting.patience, || {
        let log = fim.ok(&["log", "--json"])?;
        let records: Vec<Value> = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|record: &Value| record["path"] == path && record["kind"] == "modified")
            .collect();
        judge(&records)
    })
}
