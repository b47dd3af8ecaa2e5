//! Who did it: every field of the actor, against what the acting process says of itself.

mod canary;
mod compare;
mod not_known;
mod storm;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::actor::who::Truth;
use crate::fim::{Fim, Policy, Setting};
use crate::kernel::Features;
use crate::report::{Outcome, Report, say};
use crate::wait;

/// Shapes of `fim-actor who`. Two processes write in the last.
const CASES: [&str; 19] = [
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
];

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
    let truths = match act(setting, fim, case, file)? {
        Some(truths) => truths,
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
    let remark = left_out.join("; ");
    Ok(if remark.is_empty() { remark } else { format!("({remark})") })
}

/// Lets the shape act and end. `None`: there is no such shape here.
fn act(setting: &Setting, fim: &Fim, case: &str, file: &Path) -> Result<Option<Vec<Truth>>, String> {
    let mut child = Command::new(&setting.actor)
        .args(["who", case])
        .args([file, &fim.outside])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start {}: {e}", setting.actor.display()))?;
    // Its descendants hold its stdout: it ends when all of them have.
    let mut told = String::new();
    let out = child.stdout.as_mut().ok_or("the actor has no stdout")?;
    std::io::Read::read_to_string(out, &mut told).map_err(|e| e.to_string())?;
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    if told.trim() == "unsupported" {
        return Ok(None);
    }
    let truths: Vec<Truth> = told
        .lines()
        .map(|line| serde_json::from_str(line).map_err(|e| format!("{e}: {line}")))
        .collect::<Result<_, _>>()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if truths.is_empty() || !said.trim().is_empty() {
        return Err(format!("the actor ended with {} and said: {}", output.status, said.trim()));
    }
    Ok(Some(truths))
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
