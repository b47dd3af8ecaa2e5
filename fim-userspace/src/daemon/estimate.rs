//! How much there is to read, found by looking at names and sizes only: for a progress bar.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Dir, FileType};

use super::watch::Watch;
use crate::core::path::RelPath;

/// The sizes of all regular files of a watch, in bytes; what cannot be read is passed over. `None` when told to stop.
pub fn bytes(watch: &Watch, stop: &AtomicBool) -> Option<u64> {
    let mut total = 0u64;
    let mut folders = vec![watch.start.clone()];
    while let Some(folder) = folders.pop() {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        match watch.root.open_dir(&folder).and_then(|dir| Ok((Dir::read_from(&dir)?, dir))) {
            Ok((names, dir)) => {
                for name in names.flatten() {
                    let Ok(stat) = rustix::fs::statat(&dir, name.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                    else {
                        continue;
                    };
                    let kind = FileType::from_raw_mode(stat.st_mode);
                    let bytes = name.file_name().to_bytes();
                    let Some(path) = folder.join(bytes).filter(|_| !matches!(bytes, b"." | b"..")) else {
                        continue;
                    };
                    if watch.policy.exclude.excludes(&path, kind == FileType::Directory) {
                        continue;
                    }
                    match kind {
                        FileType::Directory => folders.push(path),
                        FileType::RegularFile => total = total.saturating_add(stat.st_size as u64),
                        _ => {}
                    }
                }
            }
            // A single file is watched.
            Err(_) => total = total.saturating_add(size(watch, &folder)),
        }
    }
    Some(total)
}

fn size(watch: &Watch, path: &RelPath) -> u64 {
    let found = watch.root.open_path(path).and_then(|fd| Ok(rustix::fs::fstat(fd)?));
    found.map_or(0, |stat| if is_file(stat.st_mode) { stat.st_size as u64 } else { 0 })
}

fn is_file(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::RegularFile
}

/// Of all watches of a configuration; `None` where one cannot be opened, which the caller is about to say.
pub fn all(watches: &[crate::config::WatchConfig], stop: &AtomicBool) -> Option<u64> {
    let watches = (0..).zip(watches).map(|(id, watch)| Watch::open(id, watch).ok());
    watches.map(|watch| bytes(&watch?, stop)).try_fold(0u64, |sum, bytes| Some(sum.saturating_add(bytes?)))
}
