//! A file system of its own, in a file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fim::make_open;
use crate::sys::stop_file_system;

/// Mounted over a folder; dropped, it is unmounted.
pub struct Disk {
    kind: &'static str,
    pub image: PathBuf,
    pub at: PathBuf,
}

impl Disk {
    /// `size` in bytes: the image takes up only what is written to it.
    pub fn new(kind: &'static str, size: u64, image: PathBuf, at: &Path) -> Result<Self, String> {
        let text = |e: std::io::Error| e.to_string();
        File::create(&image).and_then(|file| file.set_len(size)).map_err(text)?;
        tool(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image))?;
        let disk = Self { kind, image, at: at.to_owned() };
        disk.mount()?;
        make_open(at).map_err(text)?;
        Ok(disk)
    }

    pub fn mount(&self) -> Result<(), String> {
        tool(Command::new("mount").args(["-t", self.kind, "-o", "loop"]).arg(&self.image).arg(&self.at))
    }

    /// From now on everything fails with an I/O error.
    pub fn stop(&self) -> Result<(), String> {
        File::open(&self.at).and_then(|top| stop_file_system(&top)).map_err(|e| e.to_string())
    }

    pub fn unmount(&self) -> Result<(), String> {
        tool(Command::new("umount").arg(&self.at))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}

/// Runs a program of the system that says on its standard error what is wrong.
pub fn tool(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim_end()))
}
