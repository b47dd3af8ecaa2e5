//! Many objects made durable with one sync: the first baseline would otherwise wait for the disk once a file.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{MutexGuard, PoisonError};

use rustix::fs::AtFlags;

use super::{Vault, VaultError};
use crate::core::entry::Digest;

/// Written, not yet synced: digest and temporary name.
#[derive(Default)]
pub struct Batch {
    pending: HashMap<Digest, String>,
}

impl Batch {
    pub fn add(&mut self, digest: Digest, name: String, tmp: &OwnedFd) {
        if let Some(twin) = self.pending.insert(digest, name) {
            // Stays until the next start where this fails; nothing is lost.
            let _ = rustix::fs::unlinkat(tmp, twin, AtFlags::empty());
        }
    }
}

impl Vault {
    /// Makes everything given to [`Vault::put_deferred`] durable and visible; returns how many objects that were.
    pub fn commit_batch(&self) -> Result<usize, VaultError> {
        let mut batch = self.lock_batch();
        if batch.pending.is_empty() {
            return Ok(0);
        }
        rustix::fs::syncfs(&self.tmp).map_err(self.unusable("syncing"))?;
        let count = batch.pending.len();
        for (digest, name) in batch.pending.drain() {
            self.publish(&name, &digest).map_err(self.unusable("renaming"))?;
        }
        rustix::fs::syncfs(&self.objects).map_err(self.unusable("syncing"))?;
        Ok(count)
    }

    pub(super) fn is_pending(&self, digest: &Digest) -> bool {
        self.lock_batch().pending.contains_key(digest)
    }

    /// A panic elsewhere leaves the map whole: each change of it is one call.
    pub(super) fn lock_batch(&self) -> MutexGuard<'_, Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
