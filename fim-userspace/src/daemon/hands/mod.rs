//! What people decide: accept, restore, release, purge. The daemon does it in its own turn, being the only writer; the
//! commands do the same by themselves where no daemon runs.

mod alone;
mod approve;
mod judge;
mod perform;
mod person;
pub mod place;
mod prune;
mod purge;
mod restore;
#[cfg(test)]
mod tests;

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use crate::control::{AbsPath, Act, Answer};
use crate::core::event::Record;
use crate::core::observation::WatchId;
use crate::core::path::RelPath;
use crate::respond::{Pending, Responder};
use crate::store::vault::Vault;
use crate::store::{Store, StoreError};

pub use alone::Alone;
pub use approve::in_order;
pub use person::Person;
pub use purge::remains;

use super::journal::Entry;
use super::record::Stamp;
use super::sight::Sight;
use super::watch::Watch;

/// All that a decision needs, borrowed from the reconciler or from [`Alone`].
pub struct Desk<'a> {
    pub store: &'a mut Store,
    pub vault: &'a Vault,
    pub watches: &'a [Arc<Watch>],
    pub responder: &'a Responder,
    pub stamp: &'a Stamp,
    /// `None` where no sensors run.
    pub sight: Option<&'a Sight>,
    /// What was recorded, for those who wait for records.
    pub records: Vec<Record>,
    /// What should be looked at again; `true`: a directory that is new to the sensors.
    pub looks: Vec<(WatchId, RelPath, bool)>,
    /// What was done and could not be recorded: to be written as soon as anything can.
    pub unrecorded: Vec<Entry>,
    /// What may be removed only after that.
    pub unreleased: Vec<(WatchId, Vec<Pending>)>,
}

/// Why one decision was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// This one; others may go on.
    #[error("{0}")]
    One(String),
    /// Nothing can be done now.
    #[error(transparent)]
    All(#[from] StoreError),
}

impl Refused {
    fn one(sentence: impl Into<String>) -> Self {
        Self::One(sentence.into())
    }
}

/// Carries a request out, item by item. The last answer closes.
pub fn carry_out(desk: &mut Desk<'_>, act: &Act, person: &Person, tell: &mut dyn FnMut(Answer)) {
    let (mut done, mut refused) = (0, 0);
    let mut each = |path: &AbsPath, result: Result<Answer, Refused>| match result {
        Ok(answer) => {
            done += u64::from(matches!(answer, Answer::Item { .. }));
            tell(answer);
            true
        }
        Err(Refused::One(sentence)) => {
            refused += 1;
            tell(Answer::Refused { path: path.clone(), sentence });
            true
        }
        Err(Refused::All(error)) => {
            tell(Answer::Failed { sentence: error.to_string() });
            false
        }
    };
    let whole = match act {
        Act::Approve { items, way, reason } => {
            let said = person.says(way.command(), reason.as_deref());
            approve::in_order(items).into_iter().all(|item| {
                let result = approve::approve(desk, item, *way, &said);
                each(&item.path, result)
            })
        }
        Act::Restore { paths, reason } => {
            let said = person.says("fim restore", reason.as_deref());
            let mut paths: Vec<&AbsPath> = paths.iter().collect();
            // Folders before what is in them.
            paths.sort();
            paths.into_iter().all(|path| {
                let result = restore::restore(desk, path, &said);
                each(path, result)
            })
        }
        Act::Purge { evidence, reason } => {
            let said = person.says("fim quarantine purge", reason.as_deref());
            purge::purge(desk, evidence, &said, &mut each)
        }
        Act::Prune { max_age, max_size } => {
            let said = person.says("fim vault prune", None);
            return tell(prune::prune(desk, *max_age, *max_size, &said));
        }
        Act::Maintain(_) => {
            let sentence = "fim is not running, so nothing is put back that a window would have to allow; start it first";
            return tell(Answer::Failed { sentence: sentence.into() });
        }
    };
    if whole {
        tell(Answer::Done { done, refused });
    }
}

fn abs(watch: &Watch, path: &RelPath) -> AbsPath {
    AbsPath(path.below(watch.path()).as_os_str().as_bytes().to_vec())
}
