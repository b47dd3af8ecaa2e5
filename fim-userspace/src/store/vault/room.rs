//! How much the vault may hold, how much it holds, and what is said when it is full.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use super::{Vault, VaultError};
use crate::core::path::display;
use crate::core::size::show;

/// Blocks of nearly all file systems: what an object takes is counted in these, so that counting is the same everywhere.
const BLOCK: u64 = 4096;

/// Unless the configuration says otherwise, this much is left on the vault's file system, or a twentieth of a small one.
pub const MIN_FREE: u64 = 256 << 20;

/// What a file system says that takes no more.
pub const NO_ROOM: &str = "its file system has no room left; make room there";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that all objects together may take.
    pub max_size: Option<u64>,
    /// Bytes always left on the vault's file system; `None`: [`MIN_FREE`].
    pub min_free: Option<u64>,
}

/// The account: objects that are there or being written.
#[derive(Default)]
pub struct Room {
    limits: RwLock<Limits>,
    used: AtomicU64,
    measured: AtomicBool,
    /// Somebody was told that there is no room, since this was last asked.
    refused: AtomicBool,
}

/// What an object of this length takes.
pub fn occupies(length: u64) -> u64 {
    length.div_ceil(BLOCK) * BLOCK
}

impl Room {
    pub fn add(&self, length: u64) {
        self.used.fetch_add(occupies(length), Ordering::Relaxed);
    }

    pub fn remove(&self, length: u64) {
        let less = |used: u64| Some(used.saturating_sub(occupies(length)));
        // Never fails: there is always a next value.
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    pub fn measured(&self, used: u64) {
        self.used.store(used, Ordering::Relaxed);
        self.measured.store(true, Ordering::Relaxed);
    }
}

/// What may still be written, and what is in the way of more.
struct Allowance {
    bytes: u64,
    why: String,
}

impl Vault {
    /// Sets what the vault may hold. Before this there is only the room that is left free by default.
    pub fn with_limits(self, limits: Limits) -> Self {
        self.set_limits(limits);
        self
    }

    pub fn set_limits(&self, limits: Limits) {
        *self.room.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    pub fn limits(&self) -> Limits {
        *self.room.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that the objects take, by the account; `None` before they were measured.
    pub fn used(&self) -> Option<u64> {
        self.room.measured.load(Ordering::Relaxed).then(|| self.room.used.load(Ordering::Relaxed))
    }

    /// Looks at every object once; from then on the account is kept up to date.
    pub fn measure(&self) -> Result<u64, VaultError> {
        self.objects()?;
        Ok(self.room.used.load(Ordering::Relaxed))
    }

    /// Whether somebody has met [`VaultError::Full`] since this was last asked.
    pub fn take_refused(&self) -> bool {
        self.room.refused.swap(false, Ordering::Relaxed)
    }

    /// Whether `bytes` more, which do not compress, would fit. [`VaultError::Full`] says what is in the way.
    pub fn room_for(&self, bytes: u64) -> Result<(), VaultError> {
        let allowance = self.allowance()?;
        if occupies(bytes) > allowance.bytes {
            return Err(self.full(allowance.why));
        }
        Ok(())
    }

    /// Bytes that may still be written.
    pub fn room_left(&self) -> Result<u64, VaultError> {
        self.allowance().map(|allowance| allowance.bytes)
    }

    fn allowance(&self) -> Result<Allowance, VaultError> {
        let stat = rustix::fs::fstatvfs(&self.dirs().top).map_err(self.unusable("statvfs"))?;
        let (free, size) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
        let limits = self.limits();
        let keep = limits.min_free.unwrap_or_else(|| MIN_FREE.min(size / 20));
        let by_disk = free.saturating_sub(keep);
        if let Some(max) = limits.max_size {
            let used = self.room.used.load(Ordering::Relaxed);
            let by_size = max.saturating_sub(used);
            if by_size <= by_disk {
                let why = format!(
                    "it holds {} of the {} that [vault] max_size allows; raise it, or remove old evidence with \
                     `fim vault prune --older-than 30d`",
                    show(used),
                    show(max)
                );
                return Ok(Allowance { bytes: by_size, why });
            }
        }
        let why = format!(
            "{} are free on its file system, of which [vault] min_free keeps {}; make room there, or remove old \
             evidence with `fim vault prune --older-than 30d`",
            show(free),
            show(keep)
        );
        Ok(Allowance { bytes: by_disk, why })
    }

    /// A file that takes no more than there is room for now.
    pub(super) fn meter(&self, file: File) -> Result<Metered, VaultError> {
        let Allowance { bytes, why } = self.allowance()?;
        Ok(Metered { file, written: 0, allowed: bytes, why, overflown: false })
    }

    pub(super) fn full(&self, why: String) -> VaultError {
        self.room.refused.store(true, Ordering::Relaxed);
        VaultError::Full { path: display(self.path()), why }
    }

    /// Tells a full disk from other errors.
    pub(super) fn failed(&self, what: &'static str, source: io::Error) -> VaultError {
        match is_full(&source) {
            true => self.full(NO_ROOM.into()),
            false => VaultError::Unusable { path: display(self.path()), what, source },
        }
    }
}

pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A file that does not grow beyond what there was room for when it was begun. What is written after that is thrown
/// away, so that its digest can still be had: the same content may be there already.
pub struct Metered {
    pub file: File,
    pub written: u64,
    allowed: u64,
    why: String,
    overflown: bool,
}

impl Metered {
    /// What was in the way, if not all could be written.
    pub fn overflow(&self) -> Option<&str> {
        self.overflown.then_some(&*self.why)
    }

    fn give_up(&mut self) -> io::Result<()> {
        self.overflown = true;
        // Others may need the room meanwhile.
        self.file.set_len(0)
    }
}

impl Write for Metered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.overflown {
            return Ok(bytes.len());
        }
        if occupies(self.written + bytes.len() as u64) > self.allowed {
            self.give_up()?;
            return Ok(bytes.len());
        }
        match self.file.write(bytes) {
            Ok(n) => {
                self.written += n as u64;
                Ok(n)
            }
            Err(e) if is_full(&e) => {
                self.why = NO_ROOM.into();
                self.give_up()?;
                Ok(bytes.len())
            }
            Err(e) => Err(e),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
