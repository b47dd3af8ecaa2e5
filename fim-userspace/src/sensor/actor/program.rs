//! Which file a process runs, and whether it still has its name.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::dir::ProcessDir;
use crate::core::actor::{ExeFile, ExePlace};
use crate::core::path::unescape;

/// How /proc/PID/exe marks a file without a name.
const DELETED: &str = " (deleted)";
const MEMFD: &str = "/memfd:";

/// The file that a process runs, by what the kernel noted at its exec; `exe` is its path, escaped. `same_mounts`: the
/// process has the daemon's mounts, so that paths mean the same to both.
pub fn noted(exe: &str, dev: u64, ino: u64, unlinked: bool, same_mounts: bool) -> ExeFile {
    let place = match (at_its_path(exe, dev, ino), unlinked) {
        (_, true) if exe.starts_with(MEMFD) => ExePlace::Memfd,
        (true, _) => ExePlace::Linked,
        // A path that was cut leads nowhere.
        (false, _) if unlinked || (same_mounts && exe.starts_with('/')) => ExePlace::Deleted,
        (false, _) => ExePlace::Elsewhere,
    };
    ExeFile { dev, ino, sha256: None, place, baseline: None }
}

/// The path and the file that a living process runs.
pub fn running(process: &ProcessDir) -> (Option<String>, Option<ExeFile>) {
    let link = process.link("exe");
    // A kernel thread runs none, and whoever may not read the link may not follow it.
    let file = link.as_ref().and_then(|_| process.stat("exe"));
    let (Some(link), Some(of)) = (&link, file) else { return (link, None) };
    let (path, place) = match (at_its_path(link, of.st_dev, of.st_ino), link.strip_suffix(DELETED)) {
        (true, _) => (link.as_str(), ExePlace::Linked),
        (false, Some(path)) if path.starts_with(MEMFD) => (link.as_str(), ExePlace::Memfd),
        (false, Some(path)) => (path, ExePlace::Deleted),
        (false, None) => (link.as_str(), ExePlace::Elsewhere),
    };
    let file = ExeFile { dev: of.st_dev, ino: of.st_ino, sha256: None, place, baseline: None };
    (Some(path.to_owned()), Some(file))
}

/// Whether that very file is at the path, as the daemon sees it. Nothing is opened.
pub fn at_its_path(escaped: &str, dev: u64, ino: u64) -> bool {
    let path = unescape(escaped).map(|bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes)));
    let found = path.filter(|path| path.is_absolute()).and_then(|path| fs::symlink_metadata(path).ok());
    found.is_some_and(|found| (found.dev(), found.ino()) == (dev, ino))
}
