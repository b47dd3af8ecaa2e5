//! Carries out response plans: restore, quarantine, delete.
//!
//! Somebody may be writing to the same folder at the same moment. So everything is done on descriptors, what is taken
//! out of its place is compared with what was expected by device and inode, and nothing is removed before the vault
//! holds it durably.

mod act;
mod build;
mod evidence;
mod flags;
mod move_back;
mod object;
mod swap;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use crate::core::entry::{Digest, Found};
use crate::core::event::Response;
use crate::core::path::{RelPath, display};
use crate::core::plan::Step;
use crate::store::vault::Vault;
use crate::tree::Root;
use act::{Act, Failure};

use crate::tree::private::{is_in_flight, is_private_name};

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
    pub evidence: Vec<Evidence>,
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

    /// Carries out one step. It may be repeated after any error and after a crash at any point.
    pub fn carry_out(&self, root: &Root, step: &Step) -> Result<Outcome, ResponseError> {
        match step {
            Step::Replace { path, approved, expected } => {
                self.act(root, path, Response::Restored, |act| act.replace(approved, expected.as_ref()))
            }
            Step::Reattribute { path, approved, expected } if path.is_root() => {
                self.reattribute_root(root, approved, expected)
            }
            Step::Reattribute { path, approved, expected } => {
                self.act(root, path, Response::Restored, |act| act.reattribute(approved, expected))
            }
            Step::MoveBack { from, to, expected } => self.move_back(root, from, to, expected),
            Step::Quarantine { path, expected } => {
                self.act(root, path, Response::Quarantined, |act| act.take_away(expected))
            }
            Step::Delete { path, expected } => {
                self.act(root, path, Response::Deleted, |act| act.take_away(expected))
            }
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
        let outcome = self.act(root, &path, Response::Quarantined, |act| act.clear_private(name));
        outcome.map(|o| o.evidence)
    }

    fn act(
        &self,
        root: &Root,
        path: &RelPath,
        response: Response,
        work: impl FnOnce(&mut Act<'_>) -> Result<(), Failure>,
    ) -> Result<Outcome, ResponseError> {
        let mut act = Act::begin(&self.vault, root, path).map_err(|f| explain(root, path, f, Vec::new()))?;
        // The folder may have been removed while it was held open: nothing can be made in it any more.
        let result =
            work(&mut act).map_err(|f| if act.folder_is_gone() { Failure::ParentMissing } else { f });
        let (evidence, righted) = act.end();
        match result {
            Ok(()) => Ok(Outcome { response, righted, evidence }),
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
                Ok(Outcome { response, righted, evidence: vec![evidence] })
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
        Failure::Kept { name, why } => format!(
            "{path} is right again, but what was there is not in the vault yet and lies beside it as {name}: {}",
            why.reason()
        ),
        other => format!("{path} could not be put right: {}", other.reason()),
    };
    ResponseError::Failed { sentence, evidence }
}
