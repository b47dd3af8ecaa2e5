//! A watch that cannot be written: mounted read-only, full; and a daemon that may open nothing.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use nix::mount::{MsFlags, mount, umount2};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{Scene, text};
use crate::fim::{Setting, make_open};
use crate::report::Outcome;

/// A mount that is gone when this is.
struct Mounted<'a>(&'a Path);

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
    scene.nothing_lost()?;
    scene.alive()?;
    fs::remove_file(&ballast).map_err(text)?;
    scene.recovers(setting)?;
    drop((mounted, tmpfs));
    scene.end(setting)?;
    Ok(format!("\"{said}\""))
}

fn fill(path: &Path) -> std::io::Result<()> {
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
