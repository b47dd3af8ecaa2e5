//! Many objects made durable with one sync: the first baseline would otherwise wait for the disk once a file.

use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};

use rustix::fs::AtFlags;

use super::{Form, Vault, VaultError};
use crate::core::entry::Digest;

/// Written, not yet synced.
#[derive(Default)]
pub struct Batch {
    pending: HashMap<Digest, Unpublished>,
}

/// A finished temporary file.
pub struct Unpublished {
    pub name: String,
    pub form: Form,
    pub length: u64,
}

impl Vault {
    /// Makes everything given to [`Vault::put_deferred`] durable and visible; returns how many objects that were.
    pub fn commit_batch(&self) -> Result<usize, VaultError> {
        let mut batch = self.lock_batch();
        if batch.pending.is_empty() {
            return Ok(0);
        }
        let dirs = self.dirs();
        rustix::fs::syncfs(&dirs.tmp).map_err(self.unusable("syncing"))?;
        let count = batch.pending.len();
        for (digest, new) in batch.pending.drain() {
            self.publish(&dirs, &new, &digest)?;
        }
        rustix::fs::syncfs(&dirs.objects).map_err(self.unusable("syncing"))?;
        Ok(count)
    }

    pub(super) fn defer(&self, digest: Digest, new: Unpublished) {
        if let Some(twin) = self.lock_batch().pending.insert(digest, new) {
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
