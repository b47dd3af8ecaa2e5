//! Many objects made durable with one sync: the first baseline would otherwise wait for the disk once a file.

use std::collections::{HashMap, HashSet};
use std::sync::{MutexGuard, PoisonError};

use rustix::fs::AtFlags;

use super::{Form, Vault, VaultError};
use crate::core::entry::Digest;

/// Written, not yet synced.
#[derive(Default)]
pub struct Batch {
    pending: HashMap<Digest, Unpublished>,
    /// Could not be made visible. Several threads give to one batch, and whoever commits it tells only himself.
    lost: HashSet<Digest>,
    /// Visible, and not known to be durable.
    unsynced: bool,
}

/// A finished temporary file.
pub struct Unpublished {
    pub name: String,
    pub form: Form,
    pub length: u64,
}

impl Vault {
    /// Makes everything given to [`Vault::put_deferred`] durable and visible; returns how many objects that were. What could
    /// not be is [lost](Vault::is_lost), whoever gave it.
    pub fn commit_batch(&self) -> Result<usize, VaultError> {
        let mut guard = self.lock_batch();
        let batch = &mut *guard;
        if batch.pending.is_empty() && !batch.unsynced {
            return Ok(0);
        }
        let dirs = self.dirs();
        rustix::fs::syncfs(&dirs.tmp).map_err(self.unusable("syncing"))?;
        let (mut count, mut failure) = (0, None);
        for (digest, new) in batch.pending.drain() {
            match self.publish(&dirs, &new, &digest) {
                Ok(_) => count += 1,
                Err(error) => {
                    batch.lost.insert(digest);
                    failure.get_or_insert(error);
                }
            }
        }
        batch.unsynced |= count > 0;
        if batch.unsynced {
            rustix::fs::syncfs(&dirs.objects).map_err(self.unusable("syncing"))?;
            batch.unsynced = false;
        }
        failure.map_or(Ok(count), Err)
    }

    /// Whether the object was given to [`Vault::put_deferred`] last and could not be made visible.
    pub fn is_lost(&self, digest: &Digest) -> bool {
        self.lock_batch().lost.contains(digest)
    }

    pub(super) fn defer(&self, digest: Digest, new: Unpublished) {
        let twin = {
            let mut batch = self.lock_batch();
            batch.lost.remove(&digest);
            batch.pending.insert(digest, new)
        };
        if let Some(twin) = twin {
            self.room.remove(twin.length);
            // Stays until the next start where this fails; nothing is lost.
            let _ = rustix::fs::unlinkat(&self.dirs().tmp, twin.name, AtFlags::empty());
        }
    }

    pub(super) fn is_pending(&self, digest: &Digest) -> bool {
        self.lock_batch().pending.contains_key(digest)
    }

    /// A panic elsewhere leaves the map whole: each change of it is one call.
    fn lock_batch(&self) -> MutexGuard<'_, Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
