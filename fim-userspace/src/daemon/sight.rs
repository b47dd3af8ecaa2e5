//! The sensors ignore what the daemon itself does, so it tells them of the directories that it put back.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use crate::core::path::RelPath;
use crate::sensor::dirs::DirKey;
use crate::sensor::marks::Marks;

use super::sensors::Sensors;
use super::watch::Watch;

/// How long a directory may wait for the kernel's reports about what is in it.
const SETTLE: Duration = Duration::from_secs(1);

pub struct Sight {
    pub marks: Option<Arc<dyn Marks>>,
    pub sensors: Arc<Sensors>,
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
            tracing::debug!("a directory is not watched live by all sensors: {sentence}");
        }
    }

    /// As [`directory_restored`](Self::directory_restored), for one that fanotify did not tell of.
    pub fn adopt(&self, watch: &Watch, path: &RelPath) {
        if self.sensors.dirs.key_of(watch.id, path).is_none() {
            self.directory_restored(watch, path);
        }
    }

    /// Which directory is known under `path`.
    pub fn known(&self, watch: &Watch, path: &RelPath) -> Option<DirKey> {
        self.sensors.dirs.key_of(watch.id, path)
    }

    /// The directory that was known under `path` is gone, with everything in it. Another one that has come there since
    /// stays known. Its mark in the kernel's map is left: the number may be another's by now, and an event from a folder
    /// nobody knows clears it.
    pub fn directory_removed(&self, watch: &Watch, path: &RelPath, was: Option<DirKey>) {
        if self.known(watch, path) == was {
            self.sensors.dirs.removed(watch.id, path);
        }
    }

    /// Whether eBPF reports on files by itself.
    pub fn hooks_files(&self) -> bool {
        self.sensors.tier.hooks_files()
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

    /// Waits until what the kernel has reported so far is handed on: only that tells who made or removed what. False
    /// when a sensor is too far behind.
    pub fn settle(&self) -> bool {
        let fanotify = self.sensors.fanotify.as_ref().is_none_or(|fanotify| fanotify.settle(SETTLE));
        let ebpf = self.sensors.ebpf.as_ref().is_none_or(|ebpf| ebpf.settle(SETTLE));
        fanotify && ebpf
    }

    /// The same, and what was lost by then is told of as gaps.
    pub fn settle_with_losses(&self) -> bool {
        if let Some(ebpf) = &self.sensors.ebpf {
            ebpf.count_losses();
        }
        self.settle()
    }

    /// The object under `from` has its old name `to` again.
    pub fn moved_back(&self, watch: &Watch, from: &RelPath, to: &RelPath) {
        self.sensors.dirs.renamed(watch.id, from, to);
    }
}
