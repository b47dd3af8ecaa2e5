//! Telling the kernel what is watched, always before it is read, so that nothing slips between.

use std::os::fd::BorrowedFd;

use crate::core::observation::WatchId;
use crate::core::path::RelPath;

/// A kernel witness that has to be told about each watched directory.
pub trait Marks: Send + Sync {
    /// Marks a directory. `dir` is open for reading; nothing has been read from it yet. Marking again is harmless.
    fn directory(&self, dir: BorrowedFd<'_>, watch: WatchId, path: &RelPath) -> Result<(), MarkError>;

    /// Marks a regular file with more than one link, since another link may lie outside every watched directory.
    /// `file` is an `O_PATH` descriptor.
    fn hard_linked(&self, file: BorrowedFd<'_>, watch: WatchId, path: &RelPath) -> Result<(), MarkError>;
}

/// The kernel did not take a mark; live changes there go unseen and only scans find them.
#[derive(Debug, thiserror::Error)]
#[error("{what} of {path} cannot be watched live ({source}); {advice}")]
pub struct MarkError {
    pub what: &'static str,
    pub path: String,
    pub advice: &'static str,
    #[source]
    pub source: std::io::Error,
}

/// Several witnesses told of the same directories.
pub struct AllMarks(pub Vec<std::sync::Arc<dyn Marks>>);

impl Marks for AllMarks {
    fn directory(&self, dir: BorrowedFd<'_>, watch: WatchId, path: &RelPath) -> Result<(), MarkError> {
        first_error(self.0.iter().map(|m| m.directory(dir, watch, path)))
    }

    fn hard_linked(&self, file: BorrowedFd<'_>, watch: WatchId, path: &RelPath) -> Result<(), MarkError> {
        first_error(self.0.iter().map(|m| m.hard_linked(file, watch, path)))
    }
}

/// Every witness is told, whatever the others answered.
fn first_error(results: impl Iterator<Item = Result<(), MarkError>>) -> Result<(), MarkError> {
    let answers: Vec<_> = results.collect();
    answers.into_iter().collect()
}
