//! The file system of the state directory is full.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use nix::mount::{MsFlags, mount, umount};

use super::{new, refused};
use crate::actor::spawn;
use crate::fim::{Fim, Setting};
use crate::report::Outcome;
use crate::suites::table::place::{approved, approved_file};
use crate::tree::{differences, snapshot};
use crate::wait;

/// A memory file system of its own for the state; unmounted when dropped.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(at: &'a Path, size: &str) -> Result<Self, String> {
        let options = format!("size={size},mode=0700");
        mount(Some("none"), at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .map_err(|e| e.to_string())?;
        Ok(Self(at))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        // What cannot be unmounted goes with this process's mount namespace.
        let _ = umount(self.0);
    }
}

pub fn at_init(setting: &Setting) -> Outcome {
    let fim = new(setting, "small-at-init")?;
    for index in 0..20 {
        let path = fim.watched.join(format!("file{index}"));
        std::fs::write(path, crate::actor::block(index, 50_000)).map_err(|e| e.to_string())?;
    }
    let small = Small::mount(&fim.state, "48k")?;
    let said = refused(fim.output(&["init"])?, &["is full", &fim.state.display().to_string()])?;
    drop(small);
    // With room, the same command does its work.
    fim.init()?;
    fim.remove();
    Ok(said)
}

pub fn running(setting: &Setting) -> Outcome {
    let fim = new(setting, "small-running")?;
    let small = Small::mount(&fim.state, "24m")?;
    let said = while_full(setting, &fim)?;
    drop(small);
    fim.remove();
    Ok(said)
}

fn while_full(setting: &Setting, fim: &Fim) -> Outcome {
    let file = fim.watched.join("file");
    approved_file(&file, &approved("file")).map_err(|e| e.to_string())?;
    let before = snapshot(&fim.watched).map_err(|e| e.to_string())?;
    fim.init()?;
    let mut daemon = fim.start()?;
    let ballast = fim.state.join("ballast");
    fill(&ballast).map_err(|e| e.to_string())?;
    let mut actor = spawn::start(&setting.actor, &["write".into(), file.display().to_string()], false)?;
    actor.acted()?;
    actor.finish()?;
    let complaint = wait::until(setting.patience, || {
        if !daemon.is_running() {
            return Ok(daemon.last_words());
        }
        let words = daemon.last_words();
        if words.contains("is full") {
            Ok(words)
        } else {
            Err(format!("nobody is told that the disk is full; {words}"))
        }
    })?;
    if !daemon.is_running() {
        return Err(format!("the daemon died of a full disk; {complaint}"));
    }
    if complaint.contains("panicked") {
        return Err(complaint);
    }
    std::fs::remove_file(&ballast).map_err(|e| e.to_string())?;
    wait::until(setting.patience, || {
        let records = fim.log_after(0)?;
        let about = |r: &&crate::record::Record| r.is_about(&file) && r.kind == "modified";
        let told: Vec<String> = records.iter().map(crate::record::Record::brief).collect();
        if !records.iter().any(|r| about(&r) && r.response == "restored") {
            return Err(format!("with room again, the change is not undone: {}", told.join(" ")));
        }
        if !records.iter().any(|r| r.kind == "trouble") {
            return Err(format!("no record of the trouble: {}", told.join(" ")));
        }
        let wrong = differences(&before, &snapshot(&fim.watched).map_err(|e| e.to_string())?, 4);
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    })?;
    daemon.stop(setting.patience)?;
    Ok(complaint)
}

/// Writes until nothing fits any more.
fn fill(path: &Path) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    for size in [65536, 4096, 1] {
        loop {
            match file.write(&vec![1; size]) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::StorageFull => break,
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}
