//! The disks of a virtual machine: sparse files with a file system each, made here, mounted there.
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::sh;

/// In the order in which they become /dev/vda, vdb, …; PID 1 tells them apart by trying.
pub fn make(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut disks = Vec::new();
    for name in ["ext4", "xfs", "btrfs"] {
        let path = dir.join(format!("{name}.img"));
        // Always a new one: a test must not find what an earlier one left.
        if path.exists() {
            fs::remove_file(&path)?;
        }
        File::create(&path)
            .and_then(|file| file.set_len(1 << 30))
            .with_context(|| format!("cannot make the disk {}", path.display()))?;
        format(name, &path)?;
        disks.push(path);
    }
    Ok(disks)
}

fn format(name: &str, path: &Path) -> Result<()> {
    let command = |options: &[&str]| -> Result<()> {
        sh::quiet(sh::tool(&format!("mkfs.{name}"))?.args(options).arg(path))
    };
    match name {
        "ext4" => command(&["-q", "-F", "-N", "300000", "-O", "^metadata_csum_seed"]),
        // Since xfsprogs 6.5 the default is what kernels before 5.19 cannot mount; older ones may not know the option.
        "xfs" => command(&["-q", "-f", "-i", "nrext64=0"]).or_else(|_| command(&["-q", "-f"])),
        _ => command(&["-q", "-f"]),
    }
}
