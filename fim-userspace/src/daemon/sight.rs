//! The sensors ignore what the daemon itself does, so it tells them of the directories that it put back.

use std::os::fd::AsFd;
use std::sync::Arc;

use crate::core::path::RelPath;
use crate::sensor::dirs::Directories;
use crate::sensor::marks::Marks;

use super::watch::Watch;

pub struct Sight {
    pub dirs: Arc<Directories>,
    pub marks: Option<Arc<dyn Marks>>,
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

    /// The object under `from` has its old name `to` again.
    pub fn moved_back(&self, watch: &Watch, from: &RelPath, to: &RelPath) {
        self.dirs.renamed(watch.id, from, to);
    }
}
