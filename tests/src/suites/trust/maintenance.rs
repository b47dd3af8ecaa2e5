//! Windows: what is changed in them is right, what is changed after them is not.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::root::System;
use crate::fim::{Fim, Setting};
use crate::record::Record;
use crate::wait;

fn plain(_: &Fim) -> String {
    String::new()
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

impl System<'_> {
    /// Waits for a record about the path and wants it authorised by that, or by nobody.
    fn judged(&self, after: u64, path: &Path, by: Option<&str>) -> Result<Record, String> {
        let found = wait::until(self.setting.patience, || {
            let changes = self.changes(after)?;
            changes
                .iter()
                .find(|r| r.is_about(path))
                .cloned()
                .ok_or_else(|| format!("nothing about {}", path.display()))
        })?;
        let verdict = if by.is_some() { "authorised" } else { "unauthorised" };
        if found.authorised_by.as_deref() != by || found.verdict.as_deref() != Some(verdict) {
            return Err(format!("not authorised by {by:?} but {:?}: {}", found.authorised_by, found.brief()));
        }
        Ok(found)
    }

    fn told(&self, after: u64, kind: &str) -> Result<Record, String> {
        wait::until(self.setting.patience, || {
            let records = self.fim.log_after(after)?;
            records.into_iter().find(|r| r.kind == kind).ok_or_else(|| format!("no record {kind}"))
        })
    }

    fn window(&self) -> Result<Value, String> {
        let text = self.fim.ok(&["maintenance", "status", "--json"])?;
        let status: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
        Ok(status["window"].clone())
    }

    /// A change now is put right again.
    fn guarded(&self, name: &str) -> Result<(), String> {
        let (head, path) = (self.fim.log_head()?, self.path(name));
        write(&path, "a stranger's\n")?;
        let change = self.judged(head, &path, None)?;
        if change.response != "quarantined" {
            return Err(format!("not quarantined: {}", change.brief()));
        }
        self.equal()
    }
}

/// Opened, used, the daemon killed in it and started again, closed by hand.
pub fn window(setting: &Setting) -> Result<(), String> {
    let mut system = System::new(setting, "maintenance", plain)?;
    system.guarded("etc/before")?;
    let head = system.fim.log_head()?;
    let said = system.fim.ok(&["maintenance", "start", "--for", "20m", "--reason", "new\nrelease"])?;
    if !said.contains("maintenance window 1 is open until") || said.lines().count() != 1 {
        return Err(format!("fim maintenance start said {said:?}"));
    }
    let opened = system.told(head, "maintenance_started")?;
    let by = opened.authorised_by.unwrap_or_default();
    if !by.starts_with("person: ") || !by.contains("fim maintenance start: new") {
        return Err(format!("the window was opened by {by:?}"));
    }

    let by = Some("maintenance:1");
    let (new, status) = (system.path("etc/new"), system.path("var/lib/dpkg/status"));
    write(&new, "in the window\n")?;
    system.judged(head, &new, by)?;
    write(&status, "in the window, too\n")?;
    system.judged(head, &status, by)?;

    // Killed, changed while nobody looks, and started again.
    system.at_rest()?;
    system.daemon.take().ok_or("no daemon")?.kill()?;
    let (unseen, after) = (system.path("etc/unseen"), system.path("etc/after"));
    write(&unseen, "while it was down\n")?;
    fs::remove_file(&new).map_err(|e| e.to_string())?;
    system.daemon = Some(system.fim.start()?);
    system.judged(head, &unseen, by)?;
    if system.window()?["id"] != 1 {
        return Err("the window did not outlive the daemon".into());
    }
    write(&after, "after the restart\n")?;
    system.judged(head, &after, by)?;
    system.equal()?;

    let kept = fs::read_to_string(&unseen).map_err(|e| e.to_string())?;
    if kept != "while it was down\n" || new.exists() {
        return Err("what was done in the window was undone".into());
    }
    system.fim.ok(&["maintenance", "stop", "--reason", "done"])?;
    let ended = system.told(head, "maintenance_ended")?;
    let message = ended.message.unwrap_or_default();
    for part in [
        "maintenance window 1 is over, closed by person: ",
        "changes were recorded under it",
        "created",
        "deleted",
        "modified",
        "/etc (",
    ] {
        if !message.contains(part) {
            return Err(format!("{part:?} is not in the summary: {message}"));
        }
    }
    system.guarded("etc/stranger")?;
    system.settled()
}

/// It ends without anybody closing it.
pub fn ends(setting: &Setting) -> Result<(), String> {
    let system = System::new(setting, "maintenance-ends", plain)?;
    let head = system.fim.log_head()?;
    system.fim.ok(&["maintenance", "start", "--for", "2s", "--reason", "short"])?;
    let new = system.path("etc/new");
    write(&new, "in the window\n")?;
    system.judged(head, &new, Some("maintenance:1"))?;
    let ended = system.told(head, "maintenance_ended")?;
    if !ended.message.as_deref().unwrap_or_default().contains("its time was up") {
        return Err(format!("ended with {:?}", ended.message));
    }
    if !system.window()?.is_null() {
        return Err("it is still shown as open".into());
    }
    system.guarded("etc/stranger")?;
    system.settled()
}

/// What is refused, and that a window holds for its watch only.
pub fn refused(setting: &Setting) -> Result<(), String> {
    let more = |fim: &Fim| {
        let other = fim.home.join("other");
        fs::create_dir_all(&other).expect("made");
        format!("[[watch]]\npath = {other:?}\n")
    };
    let mut system = System::new(setting, "maintenance-refused", more)?;
    let refuse = |args: &[&str], says: &str| {
        let output = system.fim.output(args)?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() == Some(2) && text.contains(says) {
            true => Ok(()),
            false => Err(format!("fim {} ended with {}: {text}", args.join(" "), output.status)),
        }
    };
    let start = ["maintenance", "start", "--reason", "r", "--for"];
    refuse(&[&start[..], &["8d"]].concat(), "7 days")?;
    refuse(&[&start[..], &["soon"]].concat(), "write for example 30m")?;
    refuse(&[&start[..], &["1m", "--watch", "/nowhere"]].concat(), "is no watch; these are")?;
    refuse(&["maintenance", "stop"], "no maintenance window is open")?;

    let watched = system.fim.watched.display().to_string();
    system.fim.ok(&[&start[..], &["1m", "--watch", &watched]].concat())?;
    refuse(&[&start[..], &["1m"]].concat(), "close it first")?;
    let (inside, outside) = (system.path("etc/inside"), system.fim.home.join("other/outside"));
    let head = system.fim.log_head()?;
    write(&inside, "allowed\n")?;
    write(&outside, "not allowed\n")?;
    system.judged(head, &inside, Some("maintenance:1"))?;
    system.judged(head, &outside, None)?;
    system.fim.ok(&["maintenance", "stop"])?;
    system.told(head, "maintenance_ended")?;
    system.equal()?;
    let daemon = system.daemon.take().ok_or("no daemon")?;
    daemon.stop(setting.patience)?;
    let output = system.fim.output(&[&start[..], &["1m"]].concat())?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() != Some(2) || !text.contains("start it first") {
        return Err(format!("without a daemon: {} {text}", output.status));
    }
    system.settled()
}
