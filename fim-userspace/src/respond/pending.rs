//! What a response leaves for later, so that a file is right again before any disk has been waited for.
//!
//! Three moments, in this order: the place is right ([`Responder::begin`]); everything is durable, the new file and the
//! evidence ([`Responder::secure`]); what was there is removed ([`Responder::release`]). Until then it stands beside the
//! file under a private name, where the next start finds it after a crash. `docs/threat-model.md` says why that is safe.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::evidence::{Keeper, remove};
use super::failure::Failure;
use super::object::Id;
use super::rename::give_place_back;
use super::{Evidence, Responder, flags};
use crate::core::entry::FileType;
use crate::core::path::{RelPath, display};
use crate::tree::private::PrivateName;
use crate::tree::root::{Root, reopen};

/// Up to this many new files are synced one by one; beyond, the whole file system is, which also writes what others
/// have not written yet.
pub const ONE_BY_ONE: usize = 8;

/// What was taken out of its place and stands under a private name of the same folder.
pub(super) struct Aside {
    pub name: Arc<PrivateName>,
    /// Keeps its content for the vault, even if somebody unlinks the private name, and its inode number from being reused.
    pub object: Option<OwnedFd>,
    pub id: Id,
    /// Where it was found.
    pub path: RelPath,
    /// The name it gets back should the vault refuse it; `None` where the approved version has its place.
    pub back: Option<Vec<u8>>,
}

/// One step's unfinished work.
pub struct Pending {
    /// The place that was put right.
    path: RelPath,
    dir: Arc<OwnedFd>,
    /// There is a new file, not durable yet; held open where it may be synced by itself.
    unsynced: bool,
    fresh: Option<OwnedFd>,
    asides: Vec<Aside>,
    evidence: Vec<Evidence>,
    failure: Option<String>,
}

/// A private name that could not be removed: it is to be looked at again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leftover {
    pub path: RelPath,
}

impl Pending {
    /// `None` when nothing is left to do.
    pub(super) fn new(
        path: &RelPath,
        dir: Arc<OwnedFd>,
        fresh: Option<OwnedFd>,
        asides: Vec<Aside>,
    ) -> Option<Self> {
        if fresh.is_none() && asides.is_empty() {
            return None;
        }
        let (path, unsynced) = (path.clone(), fresh.is_some());
        Some(Self { path, dir, unsynced, fresh, asides, evidence: Vec::new(), failure: None })
    }

    /// Descriptors that it holds alone.
    pub fn descriptors(&self) -> usize {
        usize::from(self.fresh.is_some()) + self.asides.iter().filter(|a| a.object.is_some()).count()
    }

    /// It is one of so many that the whole file system will be synced: its new file need not be held.
    pub fn is_of_many(&mut self) {
        self.fresh = None;
    }

    /// Whether it works in the very same descriptor of a folder.
    pub fn shares_folder(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.dir, &other.dir)
    }

    /// What the vault holds durably now. To be recorded before [`Responder::release`].
    pub fn take_evidence(&mut self) -> Vec<Evidence> {
        std::mem::take(&mut self.evidence)
    }

    /// Why not everything could be made durable; what was there then stays where the sentence says.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn sync(&self) -> Result<(), Failure> {
        let failed = |e: Errno| Failure::io("syncing the approved version", e);
        if let Some(fresh) = &self.fresh {
            match rustix::fs::fsync(fresh) {
                // It was reopened to stand for the file and no more (`O_PATH`).
                Err(Errno::BADF) => {
                    let file = reopen(fresh.as_fd(), OFlags::RDONLY)
                        .map_err(|e| Failure::io("syncing the approved version", e))?;
                    rustix::fs::fsync(&file)
                }
                other => other,
            }
            .map_err(failed)?;
            rustix::fs::fsync(&self.dir).map_err(failed)?;
        }
        Ok(())
    }
}

impl Responder {
    /// Syncs the new files of many steps, which are secured one part after the other. What fails is tried again then.
    pub fn sync<'a>(&self, pendings: impl Iterator<Item = &'a mut Pending>) {
        let mut synced = BTreeMap::new();
        for pending in pendings.filter(|p| p.unsynced) {
            pending.unsynced = sync_whole(pending, &mut synced).is_err();
        }
    }

    /// Makes durable what was put in place and what was taken out of it. What fails stays under its private name, or gets
    /// its place back, and [`Pending::failure`] says so.
    pub fn secure(&self, root: &Root, pendings: &mut [Pending]) {
        let synced = sync_all(pendings);
        // Stored content that becomes durable with the whole batch.
        let regular = |aside: &Aside| aside.id.kind() == FileType::Regular;
        let batch = pendings.iter().flat_map(|p| &p.asides).filter(|a| regular(a)).count() > 1;
        let mut results: Vec<Result<Vec<Evidence>, Failure>> = pendings
            .iter()
            .zip(synced)
            .map(|(pending, synced)| synced.and_then(|()| self.keep(pending, batch)))
            .collect();
        if batch && let Err(error) = self.vault.commit_batch() {
            let why = error.to_string();
            for result in results.iter_mut().filter(|r| matches!(r, Ok(e) if !e.is_empty())) {
                *result = Err(Failure::Other(why.clone()));
            }
        }
        for result in results.iter_mut().filter(|_| batch) {
            let lost =
                |evidence: &Evidence| evidence.digest.is_some_and(|digest| self.vault.is_lost(&digest));
            if result.as_ref().is_ok_and(|all| all.iter().any(lost)) {
                *result = Err(Failure::Other("the vault's folder was taken away while it was stored".into()));
            }
        }
        for (pending, result) in pendings.iter_mut().zip(results) {
            match result {
                Ok(evidence) => pending.evidence = evidence,
                Err(failure) => pending.failure = Some(pending.give_up(root, &failure)),
            }
        }
        let mut dirs: BTreeMap<(u64, u64), Arc<OwnedFd>> = BTreeMap::new();
        for pending in pendings {
            pending.let_go(&mut dirs);
        }
    }

    /// Stores what a step took out of its place.
    fn keep(&self, pending: &Pending, batch: bool) -> Result<Vec<Evidence>, Failure> {
        let mut keeper = Keeper::new(&self.vault, pending.dir.as_fd(), batch);
        for aside in &pending.asides {
            let Some(object) = &aside.object else { continue };
            match aside.id.kind() {
                FileType::Directory => {
                    // Its place is locked again, if the approved folder is.
                    let _unlocked = flags::unlock_dir(pending.dir.as_fd())
                        .map_err(|e| Failure::io("clearing the immutable flag of its folder", e))?;
                    keeper.empty(&aside.name, object.as_fd(), aside.id, &aside.path)?;
                }
                _ => keeper.store(object.as_fd(), &aside.path)?,
            }
        }
        Ok(keeper.evidence)
    }

    /// Removes what was secured. Returns what stays under its private name and has to be looked at again.
    pub fn release(&self, pendings: Vec<Pending>) -> Vec<Leftover> {
        let mut left = Vec::new();
        for pending in pendings {
            for aside in &pending.asides {
                let gone = match &pending.failure {
                    Some(_) => Err(Failure::Other(String::new())),
                    None => remove_unlocked(pending.dir.as_fd(), aside),
                };
                let Err(failure) = gone else { continue };
                if pending.failure.is_none() {
                    tracing::warn!(name = %aside.name, ?failure, "left behind; it is looked at again");
                }
                let folder = aside.path.parent().or_else(|| pending.path.parent()).unwrap_or_default();
                left.extend(folder.join(aside.name.bytes()).map(|path| Leftover { path }));
            }
        }
        left
    }
}

impl Pending {
    /// The place is right, the rest is not: what was there keeps its private name, or gets its place back. Returns the
    /// sentence to tell.
    fn give_up(&self, root: &Root, failure: &Failure) -> String {
        let path = display(&self.path.below(root.path()));
        let reason = failure.reason();
        let mut first = None;
        for aside in &self.asides {
            let name = &aside.name;
            let returned = aside.back.as_deref().map(|back| {
                let _unlocked = flags::unlock_dir(self.dir.as_fd());
                give_place_back(self.dir.as_fd(), name.bytes(), back)
            });
            let told = match returned {
                Some(Ok(())) => format!("{path} could not be put right: {reason}"),
                Some(Err(_)) => format!(
                    "{path} was taken out of its place, but is not in the vault yet and lies there as {name}: {reason}"
                ),
                None => format!(
                    "{path} is right again, but what was there is not in the vault yet and lies beside it as {name}: \
                     {reason}"
                ),
            };
            first.get_or_insert(told);
        }
        first.unwrap_or_else(|| format!("{path} is right again, but not durably: {reason}"))
    }

    /// Drops every descriptor that is not needed any more; folders are shared.
    fn let_go(&mut self, dirs: &mut BTreeMap<(u64, u64), Arc<OwnedFd>>) {
        (self.fresh, self.unsynced) = (None, false);
        self.asides.iter_mut().for_each(|aside| aside.object = None);
        if let Ok(stat) = rustix::fs::fstat(&self.dir) {
            self.dir = dirs.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| self.dir.clone()).clone();
        }
    }
}

fn remove_unlocked(dir: BorrowedFd<'_>, aside: &Aside) -> Result<(), Failure> {
    match remove(dir, aside.name.bytes(), aside.id) {
        Err(Failure::Io { source, .. }) if source.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
            let _unlocked = flags::unlock_dir(dir);
            remove(dir, aside.name.bytes(), aside.id)
        }
        other => other,
    }
}

/// New files are made durable, before anything that they replaced may go.
fn sync_all(pendings: &[Pending]) -> Vec<Result<(), Failure>> {
    let unsynced = pendings.iter().filter(|p| p.unsynced);
    if unsynced.clone().count() <= ONE_BY_ONE && unsynced.clone().all(|p| p.fresh.is_some()) {
        return pendings.iter().map(Pending::sync).collect();
    }
    let mut synced = BTreeMap::new();
    let failed = |e| Failure::io("syncing the approved versions", e);
    let mut sync = |p: &Pending| sync_whole(p, &mut synced).map_err(failed);
    pendings.iter().map(|p| if p.unsynced { sync(p) } else { Ok(()) }).collect()
}

/// Syncs the file system that a step worked on, once for all of them.
fn sync_whole(pending: &Pending, synced: &mut BTreeMap<u64, Result<(), Errno>>) -> Result<(), Errno> {
    let device = rustix::fs::fstat(&pending.dir)?.st_dev;
    *synced.entry(device).or_insert_with(|| rustix::fs::syncfs(&pending.dir))
}
