//! fim as a person installs it: the .deb on a Debian 12 with systemd, from its installation to its purge.
mod root;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::boot::{Boot, Limits, Outcome};
use super::cpio::Archive;
use super::initramfs::Base;
use super::kernels::Kernel;
use super::{Lane, Options, kernels};
use crate::dist::{self, Stage};
use crate::{setup, sh};

/// What the machine does, told line by line as the other suites do.
const STORY: &str = include_str!("story.sh");
/// Debian 12's own kernel, and Debian 13's.
const KERNELS: [&str; 2] = ["6.1", "6.12"];
/// Later than the workspace's version.
const UPGRADE: &str = "99.0-1";

pub fn kernels(options: &Options) -> Result<Vec<Kernel>> {
    let usual = KERNELS.map(str::to_owned);
    let names = if options.kernel.is_empty() { &usual[..] } else { &options.kernel };
    kernels::kernels(names, options.kernels.as_deref())
}

/// The files that the machine finds in /opt/fim-vm: the package, a later one, the story.
pub fn payload() -> Result<Vec<u8>> {
    setup::packagers()?;
    let stage = Stage::build()?;
    let mut archive = Archive::new();
    let work = sh::target_dir().join("vm/packages");
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    archive.file("/payload/fim.deb", 0o644, &fs::read(dist::deb(&stage, &work)?)?);
    // Another program: one byte more, which nothing reads.
    let program = fs::read(stage.program())?;
    fs::write(stage.program(), [&program[..], b"\n"].concat())?;
    archive.file(
        "/payload/fim-later.deb",
        0o644,
        &fs::read(dist::deb_of_version(&stage, &work, Some(UPGRADE))?)?,
    );
    fs::write(stage.program(), program)?;
    archive.file("/payload/story.sh", 0o755, STORY.as_bytes());
    Ok(archive.finish())
}

pub fn boot(kernel: &Kernel) -> Boot {
    Boot {
        name: format!("{} systemd", kernel.name),
        kernel: kernel.clone(),
        bpf_lsm: true,
        config: json!({ "bpf_lsm": true, "root": true, "runs": [] }).to_string(),
    }
}

impl Lane {
    pub fn installed(&self, kernel: &Kernel, payload: &[u8]) -> Result<Outcome> {
        let boot = boot(kernel);
        let dir = self.folder(&boot)?;
        let initrd = dir.join("initramfs.cpio");
        let image = [&self.base.with_kernel(&boot.kernel.modules, &boot.config)?, payload].concat();
        fs::write(&initrd, image).with_context(|| format!("cannot write {}", initrd.display()))?;
        let disk = dir.join("root.ext4");
        copy(&root::debian()?, &disk)?;
        let limits = Limits { silence: Duration::from_secs(600), overall: Duration::from_secs(40 * 60) };
        let outcome = boot.run(&initrd, std::slice::from_ref(&disk), dir.join("console.log"), &limits)?;
        fs::remove_file(&initrd)?;
        if outcome.failed == 0 {
            fs::remove_file(&disk)?;
        }
        Ok(outcome)
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    sh::quiet(sh::tool("cp")?.args(["--sparse=always"]).arg(from).arg(to))
}

/// The part of the initramfs that all share: PID 1 alone, which goes over to the disk.
pub fn base() -> Result<Base> {
    sh::run(sh::cargo().args(["build", "--package", "fim-tests", "--bin", "fim-vm-init"]))?;
    let init = sh::target_dir().join("debug/fim-vm-init");
    Base::new(&super::Programs { init, others: Vec::new() })
}
