//! Which file a process runs, and whether it still has its name.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::core::actor::{ExeFile, ExePlace};
use crate::core::path::unescape;

/// How /proc/PID/exe marks a file without a name.
const DELETED: &str = " (deleted)";
const MEMFD: &str = "/memfd:";

/// The file that a living process runs; `link` is what /proc/PID/exe says, escaped.
pub fn running(pid: u32, link: &str) -> Option<ExeFile> {
    let of = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    let place = match (at_its_path(link, of.dev(), of.ino()), link.strip_suffix(DELETED)) {
        (true, _) => ExePlace::Linked,
        (false, Some(link)) if link.starts_with(MEMFD) => ExePlace::Memfd,
        (false, Some(_)) => ExePlace::Deleted,
        (false, None) => ExePlace::Elsewhere,
    };
    Some(ExeFile { dev: of.dev(), ino: of.ino(), sha256: None, place, baseline: None })
}

/// Whether that very file is at the path, as the daemon sees it. Nothing is opened.
pub fn at_its_path(escaped: &str, dev: u64, ino: u64) -> bool {
    let path = unescape(escaped).map(|bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes)));
    let found = path.filter(|path| path.is_absolute()).and_then(|path| fs::symlink_metadata(path).ok());
    found.is_some_and(|found| (found.dev(), found.ino()) == (dev, ino))
}
