//! Taking an object out of the vault, for good.

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::{Vault, VaultError, object_name};
use crate::core::entry::Digest;

impl Vault {
    /// Removes the object, durably; whether it was there. The caller knows that nothing refers to it any more.
    pub fn remove(&self, digest: &Digest) -> Result<bool, VaultError> {
        match rustix::fs::unlinkat(&self.objects, object_name(digest), AtFlags::empty()) {
            Ok(()) => {
                self.durable_name(*digest)?;
                Ok(true)
            }
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(self.unusable("removing an object")(e)),
        }
    }
}
