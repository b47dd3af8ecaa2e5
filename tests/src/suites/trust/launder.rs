//! What nobody allowed does not become right by passing through a trusted program's hands.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::root::{System, run, succeeded, watch_alone};
use crate::fim::{Fim, Policy, Setting};
use crate::wait;

/// Copies of mv, ln and sed, so that they can be trusted without the machine's own.
const PROGRAMS: [&str; 3] = ["mv", "ln", "sed"];
const FILES: [&str; 5] = ["moved", "linked", "rewritten", "untouched", "plain"];

fn program(fim: &Fim, name: &str) -> PathBuf {
    fim.home.join("bin").join(name)
}

fn rules(fim: &Fim) -> String {
    fs::create_dir_all(fim.home.join("bin")).expect("made");
    for file in FILES {
        let path = fim.watched.join("etc").join(file);
        fs::write(&path, format!("approved {file}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
    }
    let rule = |name: &&str| {
        let copy = program(fim, name);
        fs::copy(Path::new("/usr/bin").join(name), &copy).expect("the program can be copied");
        format!("{}[[trust]]\nname = {name:?}\nexe = {copy:?}\n", watch_alone(&copy))
    };
    PROGRAMS.iter().map(rule).collect()
}

/// Only told of, then moved, linked or written anew by a trusted program; or made elsewhere and moved in by one.
pub fn laundered(setting: &Setting) -> Result<(), String> {
    let system = System::with_policy(setting, "trust-laundered", Policy::Alert, rules)?;
    let at = |name: &str| system.path("etc").join(name);
    let by = |name: &str, args: &[&Path]| {
        let mut command = Command::new(program(&system.fim, name));
        if name == "sed" {
            command.args(["-i", "s/approved/Approved/"]);
        }
        run(command.args(args)).and_then(succeeded)
    };
    let head = system.fim.log_head()?;
    let about = |path: &Path| {
        wait::until(setting.patience, || {
            let changes = system.changes(head)?;
            let found = changes.iter().rev().find(|r| r.is_about(path)).cloned();
            found.ok_or_else(|| format!("nothing about {} is recorded", path.display()))
        })
    };
    for name in ["moved", "linked", "rewritten"] {
        fs::write(at(name), format!("a stranger's {name}\n")).map_err(|e| e.to_string())?;
        about(&at(name))?;
    }
    let outside = |name: &str, uid: u32| -> Result<PathBuf, String> {
        let file = system.fim.outside.join(name);
        let made = fs::write(&file, format!("{name}\n"))
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o644)))
            .and_then(|()| chown(&file, Some(uid), Some(uid + 1)));
        made.map(|()| file).map_err(|e| e.to_string())
    };
    let (theirs, ours) = (outside("theirs", 4711)?, outside("ours", 0)?);
    system.at_rest()?;

    by("mv", &[&at("moved"), &at("moved-on")])?;
    by("ln", &[&at("linked"), &at("linked-too")])?;
    by("sed", &[&at("rewritten"), &at("plain")])?;
    by("mv", &[&theirs, &at("theirs")])?;
    by("mv", &[&ours, &at("ours")])?;
    by("mv", &[&at("untouched"), &at("still-untouched")])?;
    for name in ["moved-on", "linked-too", "theirs"] {
        let seen = about(&at(name))?;
        if seen.verdict.as_deref() != Some("unauthorised") {
            return Err(format!("{name} was made right by {:?}: {}", seen.authorised_by, seen.brief()));
        }
    }
    for (name, rule) in [("plain", "trust:sed"), ("ours", "trust:mv"), ("still-untouched", "trust:mv")] {
        let seen = about(&at(name))?;
        if seen.authorised_by.as_deref() != Some(rule) {
            return Err(format!("{name} is not trusted: {} {:?}", seen.brief(), seen.message));
        }
    }
    system.at_rest()?;
    let rewritten = about(&at("rewritten"))?;
    let why = rewritten.message.as_deref().unwrap_or_default();
    if rewritten.verdict.as_deref() != Some("unauthorised") || !why.contains("may hold that, too") {
        return Err(format!("what a stranger wrote passed through sed: {} {why}", rewritten.brief()));
    }
    let (code, text) = system.fim.check()?;
    let named = |name: &str| text.contains(&format!("etc/{name}"));
    if code != 1 || ["moved-on", "linked-too", "rewritten", "theirs"].iter().any(|name| !named(name)) {
        return Err(format!("check exits {code} and does not name all of it: {text}"));
    }
    system.fim.remove();
    Ok(())
}
