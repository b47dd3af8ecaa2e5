//! A watch that cannot be written: mounted read-only, full; and a daemon that may open nothing.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::mount::{MsFlags, mount, umount2};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{Scene, text};
use crate::fim::{Setting, make_open};
use crate::record::Record;
use crate::report::Outcome;
use crate::suites::table::place::{approved, approved_file};
use crate::tree::{as_approved, node, snapshot};
use crate::wait;

/// A mount that is gone when this is.
pub struct Mounted<'a>(pub &'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // What cannot be unmounted goes with this process's mount namespace.
        let _ = umount2(self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

fn bind<'a>(from: &Path, at: &'a Path) -> Result<Mounted<'a>, String> {
    mount(Some(from), at, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(text)?;
    Ok(Mounted(at))
}

/// The watch is a read-only view of a folder that others can still write to.
pub fn read_only_watch(setting: &Setting) -> Outcome {
    let fim = Scene::fim(setting, "bind")?;
    let (real, watched) = (fim.home.join("real"), fim.watched.clone());
    make_open(&real).map_err(text)?;
    let mounted = bind(&real, &watched)?;
    let mut scene = Scene::begin(fim)?;
    let remount = |flags| {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags;
        mount(None::<&str>, &watched, None::<&str>, flags, None::<&str>).map_err(text)
    };
    remount(MsFlags::MS_RDONLY)?;
    Scene::write(setting, &real.join(super::NAME))?;
    let said = scene.told(setting, &["mounted read-only"])?;
    scene.nothing_lost()?;
    scene.alive()?;
    remount(MsFlags::empty())?;
    scene.recovers(setting)?;
    drop(mounted);
    scene.end(setting)?;
    Ok(format!("\"{said}\""))
}

/// The approved version has no room beside the altered one.
pub fn full_watch(setting: &Setting) -> Outcome {
    let fim = Scene::fim(setting, "small")?;
    let (small, watched) = (fim.home.join("small"), fim.watched.clone());
    make_open(&small).map_err(text)?;
    mount(Some("none"), &small, Some("tmpfs"), MsFlags::empty(), Some("size=1m,mode=0777")).map_err(text)?;
    let tmpfs = Mounted(&small);
    make_open(&small.join("tree")).map_err(text)?;
    let mounted = bind(&small.join("tree"), &watched)?;
    let mut scene = Scene::begin(fim)?;
    let ballast = small.join("ballast");
    fill(&ballast).map_err(text)?;
    Scene::write(setting, &scene.file)?;
    let said = scene.told(setting, &["No space left"])?;
    if !said
        .contains("make room on the file system that it is written to (the watched file's, not the vault's)")
    {
        return Err(format!("it does not say which file system is full: {said:?}"));
    }
    scene.nothing_lost()?;
    scene.alive()?;
    fs::remove_file(&ballast).map_err(text)?;
    scene.recovers(setting)?;
    drop((mounted, tmpfs));
    scene.end(setting)?;
    Ok(format!("\"{said}\""))
}

/// Somebody mounts a tree of his over a watched folder, and a file of his over a watched file.
pub fn mounted_over(setting: &Setting) -> Outcome {
    let fim = Scene::fim(setting, "over")?;
    let (folder, beside) = (fim.watched.join("folder"), fim.watched.join("beside"));
    let (theirs, their_file) = (fim.home.join("theirs"), fim.home.join("their-file"));
    for place in [&folder, &theirs, &theirs.join("inner")] {
        make_open(place).map_err(text)?;
    }
    for (path, content) in [
        (folder.join("kept"), "kept"),
        (folder.join("only here"), "only here"),
        (theirs.join("kept"), "another"),
        (theirs.join("inner/secret"), "secret"),
        (their_file.clone(), "their file"),
    ] {
        approved_file(&path, &approved(content)).map_err(text)?;
    }
    let before = (snapshot(&theirs).map_err(text)?, node(&their_file).map_err(text)?);
    let mut scene = Scene::begin(fim)?;
    let mounted = (bind(&theirs, &folder)?, bind(&their_file, &beside)?);
    let told = told_of_mounts(&scene, setting, &[&folder, &beside])?;
    // What goes on in there is nobody's business here, whether it is seen live or by a scan.
    Scene::write(setting, &theirs.join("inner/secret"))?;
    approved_file(&folder.join("new"), &approved("new")).map_err(text)?;
    let before = (snapshot(&theirs).map_err(text)?, before.1);
    scene.daemon.stop(setting.patience)?;
    scene.daemon = scene.fim.start()?;
    wait::until(setting.patience, || scene.fim.at_rest())?;
    let (_, differing) = scene.fim.check()?;
    if differing.lines().count() != 2 {
        return Err(format!("fim check does not name the two mounts alone: {differing}"));
    }
    if told_of_mounts(&scene, setting, &[&folder, &beside])? != told {
        return Err("a mount is told of again".into());
    }
    alone_it_is_refused(&scene, &folder)?;
    if before != (snapshot(&theirs).map_err(text)?, node(&their_file).map_err(text)?) {
        return Err("what was mounted was altered".into());
    }
    drop(mounted);
    wait::until(setting.patience, || {
        as_approved(&scene.fim.watched, &scene.approved)?;
        scene.fim.at_rest()?;
        match scene.fim.check()? {
            (0, _) => Ok(()),
            (_, differing) => Err(format!("after umount: {differing}")),
        }
    })?;
    told_of_mounts(&scene, setting, &[&folder, &beside])?;
    scene.alive()?;
    Scene::write(setting, &scene.file)?;
    scene.recovers(setting)?;
    scene.end(setting)?;
    Ok(format!("\"{}\"", told.join("\", \"")))
}

/// A user mounts a file system of his own over a folder that he may write to, as fusermount(1) lets him: one that even root
/// may not look at.
pub fn closed_to_root(setting: &Setting) -> Outcome {
    let fim = Scene::fim(setting, "fuse")?;
    let folder = fim.watched.join("folder");
    make_open(&folder).map_err(text)?;
    approved_file(&folder.join("kept"), &approved("kept")).map_err(text)?;
    let mut scene = Scene::begin(fim)?;
    let device = fs::File::options().read(true).write(true).open("/dev/fuse").map_err(text)?;
    let options = format!("fd={},rootmode=40000,user_id=4711,group_id=815", device.as_raw_fd());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("nobody"), &folder, Some("fuse"), flags, Some(options.as_str())).map_err(text)?;
    let mounted = Mounted(&folder);
    scene.daemon.stop(setting.patience)?;
    scene.daemon = scene.fim.start()?;
    let told = told_of_mounts(&scene, setting, &[&folder])?;
    // The rest of the watch is guarded as ever.
    Scene::write(setting, &scene.file)?;
    wait::until(setting.patience, || match scene.fim.check()? {
        (1, differing) if differing.lines().count() == 1 => Ok(()),
        (_, differing) => Err(format!("not the mount alone: {differing}")),
    })?;
    scene.alive()?;
    drop(mounted);
    scene.recovers(setting)?;
    scene.end(setting)?;
    Ok(format!("\"{}\"", told.join("\", \"")))
}

/// To accept the mount point without what is in it would mix the two trees.
fn alone_it_is_refused(scene: &Scene, folder: &Path) -> Result<(), String> {
    let output = scene.fim.command(&["accept", "--yes"]).arg(folder).output().map_err(text)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let named =
        ["is mounted there", " from ", "--recursive", "unmount it"].iter().all(|word| said.contains(word));
    match output.status.code() {
        Some(2) if named => Ok(()),
        code => Err(format!("a mount point is accepted alone ({code:?}): {said}")),
    }
}

/// One record of each mount, and no other but what became of it; their sentences.
fn told_of_mounts(scene: &Scene, setting: &Setting, at: &[&Path]) -> Result<Vec<String>, String> {
    wait::until(setting.patience, || {
        let mut records = scene.fim.log_after(0)?;
        let all = || records.iter().map(Record::brief).collect::<Vec<_>>().join(" ");
        if let Some(other) = records.iter().find(|r| r.is_change() && !at.iter().any(|at| r.is_about(at))) {
            return Ok(Err(format!("nothing but the mounts changed: {}", other.brief())));
        }
        let all = all();
        records.retain(|r| r.kind == "type");
        let sentences: Vec<String> = records.iter().filter_map(|r| r.error.clone()).collect();
        let named =
            sentences.iter().all(|s| s.contains("something is mounted over it (") && s.contains(" from "));
        let each = at.iter().all(|at| records.iter().filter(|r| r.is_about(at)).count() == 1);
        match each && named && sentences.len() == at.len() {
            true => Ok(Ok(sentences)),
            false => Err(format!("not one record of each mount: {all}")),
        }
    })?
}

pub fn fill(path: &Path) -> std::io::Result<()> {
    let mut file = fs::File::create(path)?;
    loop {
        match file.write(&[1; 4096]) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

/// proc(5): `Max open files  SOFT  HARD  files`.
fn hard_limit(pid: u32) -> Result<u64, String> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).map_err(text)?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    line.split_whitespace().nth(4).and_then(|n| n.parse().ok()).ok_or(format!("no limit in {line:?}"))
}

/// The limit on open files is met by what is open already.
pub fn no_descriptors(setting: &Setting) -> Outcome {
    let mut scene = Scene::begin(Scene::fim(setting, "limit")?)?;
    let pid = i32::try_from(scene.daemon.pid()).ok().and_then(Pid::from_raw).ok_or("not a pid")?;
    let maximum = hard_limit(scene.daemon.pid())?;
    let limit = Rlimit { current: Some(3), maximum: Some(maximum) };
    let usual = prlimit(Some(pid), Resource::Nofile, limit).map_err(text)?;
    Scene::write(setting, &scene.file)?;
    let said = scene.told(setting, &["open files", "LimitNOFILE"])?;
    scene.nothing_lost()?;
    scene.alive()?;
    prlimit(Some(pid), Resource::Nofile, usual).map_err(text)?;
    scene.recovers(setting)?;
    scene.end(setting)?;
    Ok(format!("\"{said}\""))
}
