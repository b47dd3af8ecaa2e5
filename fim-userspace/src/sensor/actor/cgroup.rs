//! From the number of a control group to its path.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::core::path::escape;
use crate::sys::handle::{self, FileHandle};

/// Where systemd mounts the unified hierarchy: alone, or beside the old ones.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
/// include/linux/exportfs.h: a handle that is the group's number.
const FILEID_KERNFS: i32 = 0xfe;
/// Groups that are remembered, also when they are gone.
const REMEMBERED: usize = 4096;

/// The unified hierarchy of control groups.
#[derive(Default)]
pub struct ControlGroups {
    mount: Option<(&'static str, File)>,
    /// By number; the root has no path.
    known: Mutex<HashMap<u64, Option<String>>>,
}

impl ControlGroups {
    /// Without a unified hierarchy no number has a path.
    pub fn of_host() -> Self {
        let mount = MOUNTS.into_iter().find_map(|at| {
            let dir = File::open(at).ok()?;
            let unified = rustix::fs::fstatfs(&dir).is_ok_and(|fs| fs.f_type == CGROUP2_SUPER_MAGIC);
            unified.then_some((at, dir))
        });
        Self { mount, known: Mutex::default() }
    }

    /// Path below the hierarchy's root, `/` first, escaped; `None` for the root itself, and for what was removed before
    /// it was asked for.
    pub fn path(&self, number: u64) -> Option<String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = known.get(&number) {
            return path.clone();
        }
        let (at, mount) = self.mount.as_ref()?;
        let bytes = Box::new(number.to_ne_bytes());
        let handle = FileHandle { fsid: [0, 0], kind: FILEID_KERNFS, bytes };
        let dir = handle::open_directory(mount.as_fd(), &handle).ok()?;
        let path = std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd())).ok()?;
        let below = path.strip_prefix(Path::new(at)).ok()?.as_os_str();
        let path = (!below.is_empty()).then(|| format!("/{}", escape(below.as_bytes())));
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(number, path.clone());
        path
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_group_has_its_path_also_when_it_is_gone() {
        let groups = ControlGroups::of_host();
        let Some((at, _)) = groups.mount else {
            // Control groups of the old kind only: nothing to be had.
            assert_eq!(groups.path(1), None);
            return;
        };
        let dir = format!("{at}/fim-test-{}", std::process::id());
        std::fs::create_dir(&dir).expect("root may make control groups");
        let number = std::fs::metadata(&dir).expect("there").ino();
        let expected = format!("/fim-test-{}", std::process::id());
        assert_eq!(groups.path(number), Some(expected.clone()));
        std::fs::remove_dir(&dir).expect("removed");
        assert_eq!(groups.path(number), Some(expected));
        assert_eq!(ControlGroups::of_host().path(number), None);
    }
}
