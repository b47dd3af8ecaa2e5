//! A small Debian 12 with systemd, made once and kept beside the kernels.
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::sh;
use crate::vm::kernels::cache;
use crate::vm::mirror::Mirror;

const SUITE: &str = "bookworm";
const PACKAGES: &str =
    "systemd-sysv,udev,dbus,kmod,cron,procps,ca-certificates,logrotate,passwd,openssh-client";
const SIZE: u64 = 2 << 30;

/// Starts the story once the machine is up, and ends it.
const UNIT: &str = "[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/bash /opt/fim-vm/story.sh
ExecStopPost=systemctl --no-block poweroff
StandardOutput=file:/dev/ttyS0
StandardError=file:/dev/ttyS0
TimeoutStartSec=infinity
";

/// An image of its file system, which nobody may write to.
pub fn debian() -> Result<PathBuf> {
    let dir = cache("roots")?;
    let image = dir.join(format!("{SUITE}.ext4"));
    if image.is_file() {
        return Ok(image);
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let work = dir.join(format!(".{}", std::process::id()));
    let made = make(&work, &image);
    // Only a helper's leftovers, root's own; the image itself was moved away.
    let _ = sh::quiet(sh::as_root("rm").arg("-rf").arg(&work));
    made.context("cannot make a Debian 12 for the machine; it needs root or sudo, and a Debian mirror in apt's sources")?;
    Ok(image)
}

fn make(work: &Path, image: &Path) -> Result<()> {
    fs::create_dir(work)?;
    let tree = work.join("tree");
    println!("making a Debian 12 with systemd (mmdebstrap, takes a minute)");
    let mut bootstrap = sh::as_root(sh::tool("mmdebstrap")?.get_program());
    bootstrap.args(["--mode=root", "--variant=minbase", "--format=directory", "--quiet"]);
    bootstrap.arg(format!("--include={PACKAGES}")).arg(SUITE).arg(&tree);
    sh::quiet(bootstrap.arg(Mirror::of_this_machine()?.source_line(SUITE)?.trim()))?;
    let unit = work.join("fim-vm.service");
    fs::write(&unit, UNIT)?;
    let units = tree.join("etc/systemd/system");
    sh::quiet(sh::as_root("install").args(["-m", "644"]).arg(&unit).arg(units.join("fim-vm.service")))?;
    let wants = units.join("multi-user.target.wants");
    sh::quiet(sh::as_root("mkdir").arg("-p").arg(&wants))?;
    sh::quiet(sh::as_root("ln").args(["-sf", "../fim-vm.service"]).arg(wants.join("fim-vm.service")))?;
    // The console is the story's.
    sh::quiet(sh::as_root("ln").args(["-sf", "/dev/null"]).arg(units.join("serial-getty@ttyS0.service")))?;
    let new = work.join("image");
    File::create(&new)?.set_len(SIZE)?;
    let mkfs = sh::tool("mkfs.ext4")?;
    let mut mkfs = sh::as_root(mkfs.get_program());
    sh::quiet(mkfs.args(["-q", "-F", "-O", "^metadata_csum_seed", "-d"]).arg(&tree).arg(&new))?;
    fs::rename(&new, image).with_context(|| format!("cannot make {}", image.display()))
}
