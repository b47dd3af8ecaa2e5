//! All that the vault holds, and removing it.

use std::os::fd::OwnedFd;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::dirs::names;
use super::room::occupies;
use super::{Form, Vault, VaultError, object_name};
use crate::core::entry::Digest;

/// One object, as the folder lists it. Only reading it tells whether it is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    pub digest: Digest,
    pub form: Form,
    /// Bytes that it takes on the disk.
    pub size: u64,
    /// When it was stored, nanoseconds since the epoch.
    pub stored_ns: i64,
}

impl Vault {
    /// Every object, by digest. Brings the account up to date.
    pub fn objects(&self) -> Result<Vec<Object>, VaultError> {
        let dirs = self.dirs();
        let mut all = Vec::new();
        for first_byte in 0..=255 {
            crate::pulse::beat();
            match dirs.shelf(first_byte) {
                Ok(shelf) => list(&shelf, first_byte, &mut all),
                Err(Errno::NOENT) => Ok(()),
                Err(e) => Err(e),
            }
            .map_err(self.unusable("listing objects/"))?;
        }
        all.sort_by_key(|object| (object.digest, object.form));
        self.room.measured(all.iter().map(|object| object.size).sum());
        Ok(all)
    }

    /// The objects whose digest begins with these hexadecimal digits, two at least.
    pub fn find(&self, prefix: &str) -> Result<Vec<Object>, VaultError> {
        let Some(first_byte) = prefix.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        match self.dirs().shelf(first_byte) {
            Ok(shelf) => list(&shelf, first_byte, &mut found),
            Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e),
        }
        .map_err(self.unusable("listing objects/"))?;
        found.retain(|object| object.digest.to_string().starts_with(prefix));
        Ok(found)
    }

    /// Removes an object, whichever form it has; returns the bytes that it took. The caller knows that nobody needs it,
    /// and that nobody stores the same content meanwhile: [`Vault::put`] relies on what it finds.
    pub fn remove(&self, digest: &Digest) -> Result<u64, VaultError> {
        let dirs = self.dirs();
        let mut freed = 0;
        for form in Form::ALL {
            let name = object_name(digest, form);
            let Ok(stat) = rustix::fs::statat(&dirs.objects, &name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            match rustix::fs::unlinkat(&dirs.objects, &name, AtFlags::empty()) {
                Ok(()) => {
                    self.room.remove(stat.st_size as u64);
                    freed += occupies(stat.st_size as u64);
                }
                Err(Errno::NOENT) => {}
                Err(e) => return Err(self.unusable("removing an object")(e)),
            }
        }
        Ok(freed)
    }
}

fn list(shelf: &OwnedFd, first_byte: u8, all: &mut Vec<Object>) -> Result<(), Errno> {
    for name in names(shelf)? {
        // Whatever else lies there is not the vault's.
        let Some((digest, form)) = name.to_str().ok().and_then(|name| parse(first_byte, name)) else {
            continue;
        };
        match rustix::fs::statat(shelf, &*name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => all.push(Object {
                digest,
                form,
                size: occupies(stat.st_size as u64),
                stored_ns: stat.st_mtime.saturating_mul(1_000_000_000),
            }),
            Err(Errno::NOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn parse(first_byte: u8, name: &str) -> Option<(Digest, Form)> {
    let (hex, form) = match name.strip_suffix(Form::RAW_SUFFIX) {
        Some(hex) => (hex, Form::Raw),
        None => (name, Form::Zstd),
    };
    let digest = Digest::from_hex(&format!("{first_byte:02x}{hex}"))?;
    // Other spellings of the same number are not what is opened for it.
    (object_name(&digest, form).as_bytes().get(3..) == Some(name.as_bytes())).then_some((digest, form))
}
