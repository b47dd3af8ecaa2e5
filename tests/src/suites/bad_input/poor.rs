//! Started with less than it needs.

use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use super::{new, refused};
use crate::actor::spawn::{self, GID, UID};
use crate::fim::{Fim, Policy, Setting};
use crate::report::Outcome;
use crate::suites::table::place::{approved, approved_file};
use crate::tree::{differences, snapshot};
use crate::wait;

/// The actor's launcher with `first`, then fim with `args`.
fn launched(setting: &Setting, fim: &Fim, first: &[&str], args: &[&str]) -> Command {
    let mut command = Command::new(&setting.actor);
    command.args(first).args(fim.words(args));
    command
}

/// Links that lead round in a circle, and a path through a file: not even root gets in there.
pub fn unreadable_watch(setting: &Setting) -> Outcome {
    let fim = new(setting, "unreadable-watch")?;
    fim.init()?;
    std::fs::remove_dir(&fim.watched).map_err(|e| e.to_string())?;
    std::os::unix::fs::symlink(&fim.watched, &fim.watched).map_err(|e| e.to_string())?;
    let watched = fim.watched.display().to_string();
    let mut said = refused(fim.output(&["run"])?, &[&watched])?;
    std::fs::remove_file(&fim.watched).map_err(|e| e.to_string())?;
    std::fs::write(&fim.watched, "no folder").map_err(|e| e.to_string())?;
    let below = fim.watched.join("below");
    let text = format!("[state]\ndir = {:?}\n\n[[watch]]\npath = {below:?}\n", fim.state);
    fim.write_config(&text).map_err(|e| e.to_string())?;
    said = format!("{said} {}", refused(fim.output(&["run"])?, &[&below.display().to_string()])?);
    fim.remove();
    Ok(said)
}

/// A root that file permissions bind, as a service with a narrow capability set is, and a folder closed to it.
pub fn bound_root(setting: &Setting) -> Outcome {
    let fim = new(setting, "bound-root")?;
    fim.init()?;
    chown(&fim.watched, Some(UID), Some(GID)).map_err(|e| e.to_string())?;
    std::fs::set_permissions(&fim.watched, std::fs::Permissions::from_mode(0o700))
        .map_err(|e| e.to_string())?;
    let output = launched(setting, &fim, &["without-dac"], &["run"]).output().map_err(|e| e.to_string())?;
    let said = refused(output, &["CAP_DAC_"])?;
    fim.remove();
    Ok(said)
}

/// An ordinary user runs it.
pub fn no_privilege(setting: &Setting) -> Outcome {
    let fim = new(setting, "no-privilege")?;
    fim.init()?;
    let (uid, gid) = (UID.to_string(), GID.to_string());
    let first = ["--uid", &uid, "--gid", &gid, "exec"];
    let output = launched(setting, &fim, &first, &["run"]).output().map_err(|e| e.to_string())?;
    let said = refused(output, &["root"])?;
    fim.remove();
    Ok(said)
}

/// No type information of the kernel: a lower tier, said aloud, and files are guarded all the same.
pub fn no_btf(setting: &Setting) -> Outcome {
    let work = setting.works.first().ok_or("no work directory")?;
    let fim = Fim::with_tier(setting, work, "no-btf", Policy::Restore, "auto")?;
    let file = fim.watched.join("file");
    approved_file(&file, &approved("file")).map_err(|e| e.to_string())?;
    let before = snapshot(&fim.watched).map_err(|e| e.to_string())?;
    fim.init()?;
    let mut daemon = fim.spawn(launched(setting, &fim, &["without-btf"], &["run"]))?;
    daemon.wait_ready(setting.patience)?;
    let status = fim.status()?;
    let tier = status.get("tier").and_then(|t| t.as_str()).unwrap_or("none").to_owned();
    if tier != "fanotify" {
        return Err(format!("without BTF the tier is {tier}, not fanotify: {status}"));
    }
    if !status.to_string().contains("BTF") && !status.to_string().contains("btf") {
        return Err(format!("fim status does not say that BTF is what is missing: {status}"));
    }
    let actor = spawn::start(&setting.actor, &["write".into(), file.display().to_string()], false)?;
    actor.finish()?;
    wait::until(setting.patience, || {
        let records = fim.log_after(0)?;
        if !records.iter().any(|r| r.is_about(&file) && r.kind == "modified" && r.response == "restored") {
            return Err("the write is not in the ledger".into());
        }
        let wrong = differences(&before, &snapshot(&fim.watched).map_err(|e| e.to_string())?, 4);
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    })?;
    daemon.stop(setting.patience)?;
    fim.remove();
    Ok(format!("(tier {tier})"))
}
