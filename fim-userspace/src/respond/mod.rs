//! Carries out response plans: restore, quarantine, delete.
//!
//! Somebody may be writing to the same folder at the same moment. So everything is done on descriptors, what is taken
//! out of its place is compared with what was expected by device and inode, and nothing is removed before the vault
//! holds it durably. The place is put right first, and the disk is waited for afterwards.

mod act;
mod build;
mod evidence;
mod failure;
mod flags;
mod folder;
mod in_place;
mod move_back;
mod object;
mod pending;
mod rename;
mod swap;
#[cfg(test)]
mod tests;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use crate::core::entry::{Digest, Found};
use crate::core::event::Response;
use crate::core::path::{RelPath, display};
use crate::core::plan::Step;
use crate::store::vault::Vault;
use crate::tree::Root;
use crate::tree::private::{is_in_flight, is_private_name};
use crate::tree::root::is_absent;
use act::{Act, Ended};
use evidence::Keeper;
use failure::Failure;
pub use folder::Folder;
use object::Id;
pub use pending::{Leftover, ONE_BY_ONE, Pending};

/// What was taken out of its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub path: RelPath,
    pub found: Found,
    /// The content's name in the vault; regular files whose content was taken out.
    pub digest: Option<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub response: Response,
    /// When the place was right again; storing the evidence came after.
    pub righted: Instant,
    /// Known already; what was taken out of its place follows from [`Pending::take_evidence`].
    pub evidence: Vec<Evidence>,
    /// How it was done where the usual way was not open.
    pub method: Option<&'static str>,
}

/// Why a step was not carried out to its end. What had become evidence by then is told all the same.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    #[error("{path} changed again before it could be put right; it is looked at again")]
    Moved { path: String, evidence: Vec<Evidence> },
    #[error("{path} cannot be reached, since a folder above it is missing or replaced by something else")]
    ParentMissing { path: String, evidence: Vec<Evidence> },
    #[error("the folder {path} is not empty; what is in it has to go first")]
    NotEmpty { path: String, evidence: Vec<Evidence> },
    #[error("{sentence}")]
    Failed { sentence: String, evidence: Vec<Evidence> },
}

impl ResponseError {
    fn with(mut self, more: Vec<Evidence>) -> Self {
        match &mut self {
            Self::Moved { evidence, .. }
            | Self::Failed { evidence, .. }
            | Self::ParentMissing { evidence, .. }
            | Self::NotEmpty { evidence, .. } => evidence.extend(more),
        }
        self
    }

    pub fn into_evidence(self) -> Vec<Evidence> {
        match self {
            Self::Moved { evidence, .. }
            | Self::Failed { evidence, .. }
            | Self::ParentMissing { evidence, .. }
            | Self::NotEmpty { evidence, .. } => evidence,
        }
    }
}

/// Puts files right and takes away what should not be there.
pub struct Responder {
    vault: Arc<Vault>,
}

impl Responder {
    pub fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    /// Carries out one step to its very end. It may be repeated after any error and after a crash at any point.
    pub fn carry_out(&self, root: &Root, step: &Step) -> Result<Outcome, ResponseError> {
        let mut pendings = Vec::new();
        let outcome = self.begin(root, step, &mut None, &mut pendings);
        self.finish(root, outcome, pendings)
    }

    /// Makes the place right; what remains to be done is added to `pendings`, also when it fails. They are to be given to
    /// [`secure`](Self::secure) and, once the evidence is recorded, to [`release`](Self::release). `folder` goes from step
    /// to step, and saves opening it again.
    pub fn begin(
        &self,
        root: &Root,
        step: &Step,
        folder: &mut Option<Folder>,
        pendings: &mut Vec<Pending>,
    ) -> Result<Outcome, ResponseError> {
        if !matches!(step, Step::Replace { .. }) {
            // Only many files that are put back one after the other are worth it.
            *folder = None;
        }
        let mut act = |path, response, work: &mut dyn FnMut(&mut Act<'_>) -> Result<(), Failure>| {
            self.act(root, path, response, (folder, pendings), work)
        };
        match step {
            Step::Replace { path, approved, expected } => {
                act(path, Response::Restored, &mut |act| act.replace(approved, expected.as_ref()))
            }
            Step::Reattribute { path, approved, expected } if path.is_root() => {
                self.reattribute_root(root, approved, expected)
            }
            Step::Reattribute { path, approved, expected } => {
                act(path, Response::Restored, &mut |act| act.reattribute(approved, expected))
            }
            Step::MoveBack { from, to, expected } => self.move_back(root, from, to, expected),
            Step::Quarantine { path, expected } => {
                act(path, Response::Quarantined, &mut |act| act.take_away(expected))
            }
            Step::Delete { path, expected } => {
                act(path, Response::Deleted, &mut |act| act.take_away(expected))
            }
        }
    }

    /// Puts a copy of the regular file at `path` into the vault and leaves it alone. `None` when another object than
    /// `expected` stands there. With `batch` the copy is there once the vault's batch is committed.
    pub fn copy(
        &self,
        root: &Root,
        path: &RelPath,
        expected: &Found,
        batch: bool,
    ) -> Result<Option<Evidence>, String> {
        let fd = match root.open_path(path) {
            Ok(fd) => fd,
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(format!("it cannot be opened ({e})")),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|e| format!("it cannot be looked at ({e})"))?;
        if Id::of(&stat) != Id::expected(expected) {
            return Ok(None);
        }
        let mut keeper = Keeper::new(&self.vault, fd.as_fd(), batch);
        keeper.store(fd.as_fd(), path).map_err(|failure| failure.reason())?;
        Ok(keeper.evidence.pop())
    }

    /// Secures and removes what one step left, and adds its evidence to the step's own.
    fn finish(
        &self,
        root: &Root,
        outcome: Result<Outcome, ResponseError>,
        mut pendings: Vec<Pending>,
    ) -> Result<Outcome, ResponseError> {
        self.secure(root, &mut pendings);
        let evidence: Vec<Evidence> = pendings.iter_mut().flat_map(Pending::take_evidence).collect();
        let failed = pendings.iter().find_map(|p| p.failure().map(str::to_owned));
        self.release(pendings);
        match (outcome, failed) {
            (Ok(mut outcome), None) => {
                outcome.evidence.extend(evidence);
                Ok(outcome)
            }
            (Ok(outcome), Some(sentence)) => {
                let evidence = outcome.evidence.into_iter().chain(evidence).collect();
                Err(ResponseError::Failed { sentence, evidence })
            }
            (Err(error), _) => Err(error.with(evidence)),
        }
    }

    fn move_back(
        &self,
        root: &Root,
        from: &RelPath,
        to: &RelPath,
        expected: &Found,
    ) -> Result<Outcome, ResponseError> {
        match move_back::move_back(root, from, to, expected) {
            Ok(evidence) => Ok(Outcome {
                response: Response::Restored,
                evidence: vec![evidence],
                righted: Instant::now(),
                method: None,
            }),
            Err(failure) => Err(explain(root, to, failure, Vec::new())),
        }
    }

    /// Takes what a crash left under a private name into the vault and away. Anybody can make such names, so nothing is
    /// believed about them. Names in flight are left alone.
    pub fn recover(&self, root: &Root, dir: &RelPath, name: &[u8]) -> Result<Vec<Evidence>, ResponseError> {
        let path = dir.join(name).filter(|_| is_private_name(name)).ok_or_else(|| ResponseError::Failed {
            sentence: format!("{} is not one of fim's own names", crate::core::path::escape(name)),
            evidence: Vec::new(),
        })?;
        if is_in_flight(name) {
            return Ok(Vec::new());
        }
        let mut pendings = Vec::new();
        let (folder, left) = (&mut None, &mut pendings);
        let outcome =
            self.act(root, &path, Response::Quarantined, (folder, left), &mut |act| act.clear_private(name));
        self.finish(root, outcome, pendings).map(|o| o.evidence)
    }

    fn act(
        &self,
        root: &Root,
        path: &RelPath,
        response: Response,
        (folder, pendings): (&mut Option<Folder>, &mut Vec<Pending>),
        work: &mut dyn FnMut(&mut Act<'_>) -> Result<(), Failure>,
    ) -> Result<Outcome, ResponseError> {
        let mut act =
            Act::begin(&self.vault, root, path, folder).map_err(|f| explain(root, path, f, Vec::new()))?;
        // The folder may have been removed while it was held open: nothing can be made in it any more.
        let result =
            work(&mut act).map_err(|f| if act.folder_is_gone() { Failure::ParentMissing } else { f });
        let Ended { evidence, righted, method, pending } = act.end(folder);
        pendings.extend(pending);
        if result.is_err() {
            *folder = None;
        }
        match result {
            Ok(()) => Ok(Outcome { response, righted, evidence, method }),
            Err(failure) => Err(explain(root, path, failure, evidence)),
        }
    }

    fn reattribute_root(
        &self,
        root: &Root,
        approved: &crate::core::entry::Entry,
        expected: &Found,
    ) -> Result<Outcome, ResponseError> {
        let path = RelPath::root();
        let work = || -> Result<Evidence, Failure> {
            let fd = root.open_path(&path).map_err(|e| Failure::io("opening it", e))?;
            act::put_attributes(&fd, approved, expected, &path)
        };
        match work() {
            Ok(evidence) => {
                let (response, righted) = (Response::Restored, Instant::now());
                Ok(Outcome { response, righted, evidence: vec![evidence], method: None })
            }
            Err(failure) => Err(explain(root, &path, failure, Vec::new())),
        }
    }
}

fn explain(root: &Root, path: &RelPath, failure: Failure, evidence: Vec<Evidence>) -> ResponseError {
    let path = display(&path.below(root.path()));
    let sentence = match failure {
        Failure::Moved => return ResponseError::Moved { path, evidence },
        Failure::ParentMissing => return ResponseError::ParentMissing { path, evidence },
        Failure::NotEmpty => return ResponseError::NotEmpty { path, evidence },
        other => format!("{path} could not be put right: {}", other.reason()),
    };
    ResponseError::Failed { sentence, evidence }
}
