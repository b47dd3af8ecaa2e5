//! The sensors ignore what the daemon itself does, so it tells them of the directories that it put back.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use crate::core::path::RelPath;
use crate::sensor::dirs::Directories;
use crate::sensor::ebpf::Ebpf;
use crate::sensor::marks::Marks;

use super::watch::Watch;

/// How long a new directory may wait for the kernel's reports about what is in it.
const SETTLE: Duration = Duration::from_millis(200);

pub struct Sight {
    pub dirs: Arc<Directories>,
    pub marks: Option<Arc<dyn Marks>>,
    pub ebpf: Option<Arc<Ebpf>>,
}

impl Sight {
    /// A directory stands again under `path`: it is marked before anything is put into it. What came into it before the
    /// mark is found by the look that follows.
    pub fn directory_restored(&self, watch: &Watch, path: &RelPath) {
        let Some(marks) = &self.marks else { return };
        let told = match watch.root.open_dir(path) {
            Ok(dir) => marks.directory(dir.as_fd(), watch.id, path).map_err(|e| e.to_string()),
            Err(error) => Err(format!("{path} cannot be opened ({error})")),
        };
        if let Err(sentence) = told {
            tracing::warn!("a restored directory is not watched live: {sentence}");
        }
    }

    /// Another name for a watched file is being made, perhaps where nothing is watched: the file itself is marked.
    pub fn linked(&self, watch: &Watch, path: &RelPath) {
        let Some(marks) = &self.marks else { return };
        let told = match watch.root.open_path(path) {
            Ok(file) => marks.hard_linked(file.as_fd(), watch.id, path).map_err(|e| e.to_string()),
            Err(_) => return,
        };
        if let Err(sentence) = told {
            tracing::warn!("a file with another name is not watched live under that name: {sentence}");
        }
    }

    /// Waits until the kernel's own reports are in: fanotify tells of a new directory before anybody could mark it, and
    /// only they know who made what in it.
    pub fn settle(&self) -> bool {
        let reports = self.ebpf.as_ref().filter(|ebpf| ebpf.tier().hooks_files());
        if let Some(ebpf) = reports {
            ebpf.settle(SETTLE);
        }
        reports.is_some()
    }

    /// The object under `from` has its old name `to` again.
    pub fn moved_back(&self, watch: &Watch, from: &RelPath, to: &RelPath) {
        self.dirs.renamed(watch.id, from, to);
    }
}
