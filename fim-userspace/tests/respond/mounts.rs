//! File systems made for one test.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::Command;

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn run(program: &str, args: &[&OsStr]) {
    let output = Command::new(program).args(args).output();
    let output =
        output.unwrap_or_else(|e| panic!("{program} cannot be run ({e}); `cargo xtask setup` installs it"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?} failed: {complaint}");
}

/// Only root can mount; anybody else tests on the temporary folder alone, and reads here that it was so.
fn may_mount(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("NOT TESTED: {what} can only be mounted by root");
    }
    root
}

pub fn with_image(kind: &str, mkfs: &[&str], size: u64, test: impl FnOnce(&Path)) {
    if !may_mount(kind) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (image, target) = (dir.path().join("image"), dir.path().join("mnt"));
    fs::File::create(&image).and_then(|f| f.set_len(size)).expect("an image");
    fs::create_dir(&target).expect("made");
    let mut args: Vec<&OsStr> = mkfs[1..].iter().map(OsStr::new).collect();
    args.push(image.as_os_str());
    run(mkfs[0], &args);
    let options = ["-t", kind, "-o", "loop"].map(OsStr::new);
    run("mount", &[&options[..], &[image.as_os_str(), target.as_os_str()]].concat());
    let mounted = Mounted(&target);
    test(mounted.0);
}

pub fn with_tmpfs(test: impl FnOnce(&Path)) {
    if !may_mount("tmpfs") {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    run("mount", &["-t".as_ref(), "tmpfs".as_ref(), "tmpfs".as_ref(), dir.path().as_os_str()]);
    let mounted = Mounted(dir.path());
    test(mounted.0);
}

/// Overlay of two tmpfs folders, so that neither is itself an overlay, as in a container.
pub fn with_overlay(test: impl FnOnce(&Path)) {
    if !may_mount("overlay") {
        return;
    }
    with_tmpfs(|base| {
        for name in ["lower", "upper", "work", "mnt"] {
            fs::create_dir(base.join(name)).expect("made");
        }
        let mut options = OsString::new();
        for (key, name) in [("lowerdir=", "lower"), (",upperdir=", "upper"), (",workdir=", "work")] {
            options.push(key);
            options.push(base.join(name));
        }
        let target = base.join("mnt");
        let args = ["-t", "overlay", "-o"].map(OsStr::new);
        run("mount", &[&args[..], &[&options, "overlay".as_ref(), target.as_os_str()]].concat());
        let mounted = Mounted(&target);
        test(mounted.0);
    });
}
