//! Those who are no package manager, whatever they call themselves.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::root::{DPKG, MEDIA_TYPES, NETBASE, System, fetch, run, succeeded, watch_alone};
use crate::fim::{Fim, Policy, Setting};
use crate::record::Record;
use crate::wait;

fn preset(fim: &Fim) -> String {
    format!("{}[[trust]]\npreset = \"dpkg\"\nwatches = [{:?}]\n", watch_alone(Path::new(DPKG)), fim.watched)
}

/// Every change since was unauthorised and put right, and the root is what it was.
fn undone(system: &System<'_>, head: u64) -> Result<Vec<Record>, String> {
    system.equal()?;
    let changes = system.changes(head)?;
    if changes.is_empty() {
        return Err("nothing was recorded".into());
    }
    let inside =
        |r: &&Record| r.path.as_deref().is_some_and(|p| Path::new(p).starts_with(&system.fim.watched));
    for change in changes.iter().filter(inside) {
        if change.verdict.as_deref() != Some("unauthorised") {
            return Err(format!("this was authorised by {:?}: {}", change.authorised_by, change.brief()));
        }
    }
    Ok(changes)
}

/// A copy of dpkg under another path.
pub fn copy(setting: &Setting) -> Result<(), String> {
    let system = System::new(setting, "trust-copy", preset)?;
    let head = system.fim.log_head()?;
    let archive = fetch(MEDIA_TYPES, &system.fim.outside)?;
    let copy = system.fim.outside.join("dpkg");
    fs::copy(DPKG, &copy).map_err(|e| e.to_string())?;
    // Its files are taken away while it works: how it ends is its own affair.
    let args = [OsStr::new("--install"), archive.as_os_str()];
    system.dpkg(&copy, &args)?;
    wait::until(setting.patience, || {
        let seen = system.changes(head)?;
        seen.iter()
            .any(|r| r.actor.as_ref().and_then(|a| a.exe.as_deref()) == copy.to_str())
            .then_some(())
            .ok_or_else(|| "the copy is not told of".into())
    })?;
    undone(&system, head)?;
    if system.path("etc/mime.types").exists() {
        return Err("what the copy installed is still there".into());
    }
    system.settled()
}

/// A shell whose comm and argv[0] are dpkg's.
pub fn shell(setting: &Setting) -> Result<(), String> {
    let system = System::new(setting, "trust-shell", preset)?;
    let head = system.fim.log_head()?;
    let target = system.path("etc/mime.types");
    // comm is the last name of the path that was executed.
    let link = system.fim.outside.join("dpkg");
    symlink("/bin/sh", &link).map_err(|e| e.to_string())?;
    let script = "read name </proc/self/comm; test \"$name\" = dpkg || exit 7; echo evil >\"$1\"";
    let mut command = Command::new(&link);
    command.arg0(DPKG).args(["-c", script, "dpkg"]).arg(&target);
    succeeded(run(&mut command)?)?;
    let seen = wait::until(setting.patience, || {
        let changes = system.changes(head)?;
        changes
            .iter()
            .find(|r| r.is_about(&target))
            .cloned()
            .ok_or_else(|| "nothing about the shell's file".into())
    })?;
    if seen.response != "quarantined" {
        return Err(format!("not quarantined: {}", seen.brief()));
    }
    undone(&system, head)?;
    system.settled()
}

/// dpkg in a place of its own, so that it can be altered.
fn own_dpkg(fim: &Fim) -> PathBuf {
    fim.home.join("bin/dpkg")
}

fn own_rule(fim: &Fim) -> String {
    let dpkg = own_dpkg(fim);
    let made = fs::create_dir_all(fim.home.join("bin")).and_then(|()| fs::copy(DPKG, &dpkg));
    made.expect("dpkg can be copied");
    format!(
        "{}[[trust]]\nname = \"dpkg\"\nexe = {dpkg:?}\ndescendants = true\nwatches = [{:?}]\n",
        watch_alone(&dpkg),
        fim.watched
    )
}

/// The trusted program itself, altered.
pub fn altered(setting: &Setting) -> Result<(), String> {
    let mut system = System::new(setting, "trust-altered", own_rule)?;
    let dpkg = own_dpkg(&system.fim);
    let (netbase, media) = (fetch(NETBASE, &system.fim.outside)?, fetch(MEDIA_TYPES, &system.fim.outside)?);
    let mut head = system.fim.log_head()?;
    succeeded(system.dpkg(&dpkg, &[OsStr::new("--install"), netbase.as_os_str()])?)?;
    system.quiet(head)?;

    head = system.fim.log_head()?;
    let add = || fs::File::options().append(true).open(&dpkg)?.write_all(b"\0");
    add().map_err(|e| format!("dpkg cannot be altered: {e}"))?;
    let args = [OsStr::new("--install"), media.as_os_str()];
    system.dpkg(&dpkg, &args)?;
    let void = |r: &Record| {
        r.kind == "trouble"
            && r.severity.as_deref() == Some("high")
            && r.message.as_deref().is_some_and(|m| m.contains("is not trusted"))
    };
    wait::until(setting.patience, || {
        let told = system.fim.log_after(head)?.iter().filter(|r| void(r)).count();
        (told == 1).then_some(()).ok_or_else(|| format!("{told} records that the trust is void"))
    })?;
    system.at_rest()?;
    let inside: Vec<Record> = system
        .changes(head)?
        .into_iter()
        .filter(|r| r.path.as_deref().is_some_and(|p| Path::new(p).starts_with(&system.fim.watched)))
        .collect();
    if inside.is_empty() {
        return Err("nothing that the altered dpkg did was recorded".into());
    }
    if let Some(allowed) = inside.iter().find(|r| r.verdict.as_deref() != Some("unauthorised")) {
        return Err(format!("the altered dpkg was trusted: {}", allowed.brief()));
    }
    let installed = system.path("etc/mime.types");
    wait::until(setting.patience, || {
        let there = installed.exists() || system.path("etc/mime.types.dpkg-new").exists();
        if there { Err("what the altered dpkg installed is still there".into()) } else { Ok(()) }
    })?;
    // Told once, and trusted again once it is what it was.
    fs::copy(DPKG, &dpkg).map_err(|e| e.to_string())?;
    let (from, to) = (fs::metadata(DPKG), fs::File::options().write(true).open(&dpkg));
    let times =
        fs::FileTimes::new().set_modified(from.and_then(|m| m.modified()).map_err(|e| e.to_string())?);
    to.and_then(|file| file.set_times(times)).map_err(|e| e.to_string())?;
    // What the altered one did is all told of by the end of this daemon.
    system.daemon.take().ok_or("no daemon")?.stop(setting.patience)?;
    system.daemon = Some(system.fim.start()?);
    head = system.fim.log_head()?;
    succeeded(system.dpkg(&dpkg, &args)?)?;
    wait::until(setting.patience, || {
        let there = system.changes(head)?.iter().any(|r| r.is_about(&installed));
        if there { Ok(()) } else { Err("the package is not told of".into()) }
    })?;
    system.at_rest()?;
    let changes = system.changes(head)?;
    let inside =
        |r: &Record| r.path.as_deref().is_some_and(|p| Path::new(p).starts_with(&system.fim.watched));
    let other =
        changes.iter().filter(|r| inside(r)).find(|r| r.authorised_by.as_deref() != Some("trust:dpkg"));
    match other {
        Some(other) => Err(format!("not trusted again: {} {:?}", other.brief(), other.message)),
        None if !installed.is_file() => Err("the package was not installed".into()),
        None => Ok(()),
    }?;
    system.fim.remove();
    Ok(())
}

/// A trusted program that writes the file while somebody else does.
pub fn together(setting: &Setting) -> Result<(), String> {
    let target = |fim: &Fim| fim.watched.join("etc/shared");
    let more = |fim: &Fim| {
        let tee = fim.home.join("bin/deploy");
        let made =
            fs::create_dir_all(fim.home.join("bin")).and_then(|()| fs::copy("/usr/bin/tee", tee.clone()));
        made.expect("tee can be copied");
        fs::write(target(fim), "approved\n").expect("written");
        format!("{}[[trust]]\nexe = {tee:?}\n", watch_alone(&tee))
    };
    let system = System::new(setting, "trust-together", more)?;
    let (file, deploy) = (target(&system.fim), system.fim.home.join("bin/deploy"));
    let deployed = |text: &str| {
        let script = "printf %s \"$1\" | \"$2\" -a \"$3\" >/dev/null";
        run(Command::new("sh").args(["-c", script, "x", text]).arg(&deploy).arg(&file)).and_then(succeeded)
    };
    let head = system.fim.log_head()?;
    deployed("first\n")?;
    system.quiet(head)?;

    // The stranger holds it open for writing from before the trusted change until after it, and writes in between: both
    // are reported within the moment that an unfinished write is given.
    let head = system.fim.log_head()?;
    let mut held = fs::File::options().append(true).open(&file).map_err(|e| e.to_string())?;
    held.write_all(b"stranger\n").map_err(|e| e.to_string())?;
    deployed("second\n")?;
    drop(held);
    system.equal()?;
    let text = fs::read_to_string(&file).map_err(|e| e.to_string())?;
    if text.contains("stranger") {
        return Err(format!("what a stranger wrote was approved: {text:?}"));
    }
    if !system.changes(head)?.iter().any(|r| r.verdict.as_deref() == Some("unauthorised")) {
        return Err("nothing was unauthorised".into());
    }
    system.settled()
}

/// Only told of, then touched by a trusted program: that does not make it right.
pub fn touched(setting: &Setting) -> Result<(), String> {
    let more = |fim: &Fim| {
        let chmod = fim.home.join("bin/deploy");
        let made =
            fs::create_dir_all(fim.home.join("bin")).and_then(|()| fs::copy("/usr/bin/chmod", chmod.clone()));
        made.expect("chmod can be copied");
        for name in ["etc/told", "etc/other"] {
            fs::write(fim.watched.join(name), "approved\n").expect("written");
            fs::set_permissions(fim.watched.join(name), fs::Permissions::from_mode(0o644)).expect("set");
        }
        format!("{}[[trust]]\nexe = {chmod:?}\n", watch_alone(&chmod))
    };
    let system = System::with_policy(setting, "trust-touched", Policy::Alert, more)?;
    let (told, other, deploy) =
        (system.path("etc/told"), system.path("etc/other"), system.fim.home.join("bin/deploy"));
    let head = system.fim.log_head()?;
    fs::write(&told, "altered\n").map_err(|e| e.to_string())?;
    let about = |path: &Path, kind: &str| {
        wait::until(setting.patience, || {
            let changes = system.changes(head)?;
            let found = changes.iter().rev().find(|r| r.is_about(path) && r.kind == kind).cloned();
            found.ok_or_else(|| format!("no {kind} of {} is recorded", path.display()))
        })
    };
    about(&told, "modified")?;
    system.at_rest()?;
    succeeded(run(Command::new(&deploy).arg("600").args([&told, &other]))?)?;
    let allowed = about(&other, "attributes")?;
    if allowed.authorised_by.as_deref() != Some("trust:deploy") {
        return Err(format!("not trusted: {} {:?}", allowed.brief(), allowed.message));
    }
    system.at_rest()?;
    let last = about(&told, "modified")?;
    let why = last.message.as_deref().unwrap_or_default();
    if last.verdict.as_deref() != Some("unauthorised") || !why.contains("altered without authority before") {
        return Err(format!("a stranger's content became right by a chmod: {} {why}", last.brief()));
    }
    let (code, text) = system.fim.check()?;
    if code != 1 || !text.contains("etc/told") || text.contains("etc/other") {
        return Err(format!("only {} should differ: {text}", told.display()));
    }
    system.fim.remove();
    Ok(())
}
