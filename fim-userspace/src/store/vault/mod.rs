//! The vault: approved content and evidence, each once, under the SHA-256 of what it holds.
//!
//! An object is one zstd frame in `objects/XX/YYYY…`, or the plain content in `objects/XX/YYYY….raw` where it shares its
//! blocks with the file that was approved. It is written under a temporary name, synced, renamed into place and its
//! folder synced, so that whatever stands under a digest is whole. It is hashed again on every read, because disks and
//! people alter files.

mod batch;
mod clone;
mod dirs;
mod inventory;
mod object;
mod room;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::core::entry::Digest;
use crate::core::path::display;
use batch::{Batch, Unpublished};
use dirs::Dirs;
use room::{NO_ROOM, Room, is_full};

pub use inventory::Object;
pub use room::{Limits, occupies};

#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("the vault {path} cannot be used: {what} failed ({source}); {}", advice(.source))]
    Unusable { path: String, what: &'static str, source: io::Error },
    #[error("the vault {path} is full: {why}")]
    Full { path: String, why: String },
    #[error(
        "the vault {path} was removed or replaced while fim used it; put the folder back, or restart fim"
    )]
    Gone { path: String },
    #[error(
        "the vault folder {path} belongs to user {owner}, not to the one fim runs as; chown it or name another state.dir"
    )]
    Foreign { path: String, owner: u32 },
    #[error(
        "the vault {path} does not hold {digest}; it was pruned or removed, accept or copy back the file by hand"
    )]
    Missing { path: String, digest: Digest },
    #[error(
        "the vault {path} holds {digest} damaged ({reason}); check the disk, then accept or copy back the file by hand"
    )]
    Corrupt { path: String, digest: Digest, reason: String },
    #[error("the content cannot be read ({0})")]
    Source(#[source] io::Error),
    #[error("the content cannot be written out of the vault ({error}); {advice}", error = .0, advice = target_advice(.0))]
    Target(#[source] io::Error),
}

fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ROFS) => "mount its file system writable",
        Some(Errno::ACCESS | Errno::PERM) => "run fim as root",
        Some(Errno::MFILE | Errno::NFILE) => "raise the limit on open files (LimitNOFILE=)",
        _ => "check its file system and the kernel log",
    }
}

/// The vault itself has no part in it: another file system is full, or fails.
fn target_advice(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT) => {
            "make room on the file system that it is written to (the watched file's, not the vault's)"
        }
        Some(Errno::ROFS) => "mount the file system that it is written to (the watched file's) writable",
        _ => {
            "check the file system that it is written to (the watched file's, not the vault's) and the kernel log"
        }
    }
}

/// How an object lies in the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    Zstd,
    /// As it is, sharing its blocks with the file it was taken from.
    Raw,
}

impl Form {
    const ALL: [Self; 2] = [Self::Zstd, Self::Raw];
    const RAW_SUFFIX: &str = ".raw";

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Raw => "raw",
        }
    }
}

/// Content of this length and below is compressed in one piece, in memory, and not at all when it is there already.
const SMALL: u64 = 1 << 20;

/// Room for what is read at first, bytes.
const START: usize = 16 * 1024;

/// An open vault. Several may be open on one folder, in one process or in many.
pub struct Vault {
    path: PathBuf,
    dirs: RwLock<Arc<Dirs>>,
    next: AtomicU64,
    batch: Mutex<Batch>,
    room: Room,
}

impl Vault {
    /// Opens the vault in `dir`, making it (mode 0700) where it is not. What a crash left unfinished is cleared away.
    pub fn open(dir: &Path) -> Result<Vault, VaultError> {
        Ok(Self::with_dirs(dir, make(dir)?))
    }

    /// Opens the vault for reading, and makes nothing.
    pub fn open_existing(dir: &Path) -> Result<Vault, VaultError> {
        let refused = |(what, e)| unusable(dir, what, e);
        let (top, _) = dirs::open_top(dir).map_err(refused)?;
        Ok(Self::with_dirs(dir, Dirs::open(top).map_err(refused)?))
    }

    fn with_dirs(dir: &Path, dirs: Dirs) -> Self {
        Self {
            path: dir.to_path_buf(),
            dirs: RwLock::new(Arc::new(dirs)),
            next: AtomicU64::new(0),
            batch: Mutex::default(),
            room: Room::default(),
        }
    }

    /// Makes sure that the folder which is open is the one that the path names. Where it was removed, moved or replaced,
    /// the one at the path is opened, or a new one made; returns whether that was so.
    pub fn ensure(&self) -> Result<bool, VaultError> {
        if self.dirs().stand_at(&self.path) {
            return Ok(false);
        }
        let dirs = make(&self.path)?;
        *self.dirs.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(dirs);
        Ok(true)
    }

    fn dirs(&self) -> Arc<Dirs> {
        self.dirs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stores all that `content` gives. When this returns, it is on the disk. Content that is there already and sound
    /// is not written again; an object found damaged is replaced.
    pub fn put(&self, content: &mut impl Read) -> Result<Digest, VaultError> {
        self.put_content(content, true)
    }

    /// As [`Vault::put`], but neither durable nor to be found before [`Vault::commit_batch`].
    pub fn put_deferred(&self, content: &mut impl Read) -> Result<Digest, VaultError> {
        self.put_content(content, false)
    }

    /// Whether there is an object for this digest. Only reading it tells whether it is sound.
    pub fn contains(&self, digest: &Digest) -> bool {
        let dirs = self.dirs();
        let there = |form| {
            rustix::fs::statat(&dirs.objects, object_name(digest, form), AtFlags::SYMLINK_NOFOLLOW).is_ok()
        };
        Form::ALL.into_iter().any(there)
    }

    /// Writes the content of `digest` to `out` and returns its length. On an error, part of it may have been written:
    /// the caller throws that away.
    pub fn copy_to(&self, digest: &Digest, out: &mut impl Write) -> Result<u64, VaultError> {
        let (object, form) = self.open_object(digest)?;
        object::read(object, form, digest, out, &|reason| self.corrupt(digest, reason))
    }

    /// The content of `digest`, for what is known to be small.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, VaultError> {
        let mut out = Vec::new();
        self.copy_to(digest, &mut out)?;
        Ok(out)
    }

    /// Reads the object through without keeping anything.
    pub fn verify(&self, digest: &Digest) -> Result<u64, VaultError> {
        self.copy_to(digest, &mut io::sink())
    }

    fn open_object(&self, digest: &Digest) -> Result<(std::fs::File, Form), VaultError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let dirs = self.dirs();
        for form in Form::ALL {
            match rustix::fs::openat(&dirs.objects, object_name(digest, form), flags, Mode::empty()) {
                Ok(fd) => return Ok((fd.into(), form)),
                Err(Errno::NOENT) => {}
                Err(e) => return Err(self.unusable("opening an object")(e)),
            }
        }
        Err(VaultError::Missing { path: display(&self.path), digest: *digest })
    }

    fn put_content(&self, content: &mut impl Read, durable: bool) -> Result<Digest, VaultError> {
        // From an empty one it would be read in ever larger pieces.
        let mut start = Vec::with_capacity(START);
        content.by_ref().take(SMALL + 1).read_to_end(&mut start).map_err(VaultError::Source)?;
        let small = start.len() as u64 <= SMALL;
        if small {
            let digest = object::digest(&start);
            if !durable && self.is_pending(&digest) {
                return Ok(digest);
            }
            if self.is_sound(&digest)? {
                return self.durable_name(digest);
            }
        }
        let name = self.temporary_name();
        let result = self.write_new(&name, &start, small, content, durable);
        if result.is_err() {
            let _ = rustix::fs::unlinkat(&self.dirs().tmp, &name, AtFlags::empty());
        }
        result
    }

    fn write_new(
        &self,
        name: &str,
        start: &[u8],
        small: bool,
        rest: &mut impl Read,
        durable: bool,
    ) -> Result<Digest, VaultError> {
        let dirs = self.dirs();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&dirs.tmp, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => fd,
            // Nothing can be made in a folder that was removed.
            Err(Errno::NOENT) => return Err(VaultError::Gone { path: display(&self.path) }),
            Err(e) => return Err(self.unusable("making a temporary file")(e)),
        };
        let mut file = self.meter(fd.into())?;
        let write = |source| self.failed("writing", source);
        let digest = if small {
            object::write_small(start, &mut file).map_err(write)?
        } else {
            object::write_stream(start, rest, &mut file, write)?
        };
        if let Some(why) = file.overflow() {
            if small || !self.is_sound(&digest)? {
                return Err(self.full(why.to_owned()));
            }
            rustix::fs::unlinkat(&dirs.tmp, name, AtFlags::empty()).map_err(self.unusable("removing"))?;
            return self.durable_name(digest);
        }
        let new = Unpublished { name: name.to_owned(), form: Form::Zstd, length: file.written };
        if !durable {
            self.room.add(new.length);
            self.defer(digest, new);
            return Ok(digest);
        }
        rustix::fs::fdatasync(&file.file).map_err(self.unusable("syncing"))?;
        if !small && self.is_sound(&digest)? {
            rustix::fs::unlinkat(&dirs.tmp, name, AtFlags::empty()).map_err(self.unusable("removing"))?;
        } else {
            self.room.add(new.length);
            self.publish(&dirs, &new, &digest).inspect_err(|_| self.room.remove(new.length))?;
        }
        self.durable_name(digest)
    }

    /// Syncs the folder an object is in, also when somebody else put it there just now.
    fn durable_name(&self, digest: Digest) -> Result<Digest, VaultError> {
        let shelf = self.dirs().shelf(digest.0[0]).map_err(self.unusable("opening objects/"))?;
        rustix::fs::fsync(&shelf).map_err(self.unusable("syncing objects/"))?;
        Ok(digest)
    }

    /// Gives a finished temporary file its place; what is there already, the same or damaged, goes.
    fn publish(&self, dirs: &Dirs, new: &Unpublished, digest: &Digest) -> Result<(), VaultError> {
        let length = |form| {
            let name = object_name(digest, form);
            rustix::fs::statat(&dirs.objects, name, AtFlags::SYMLINK_NOFOLLOW).map(|s| s.st_size as u64).ok()
        };
        let before = Form::ALL.map(|form| (form, length(form)));
        match dirs.publish(&new.name, &object_name(digest, new.form), digest.0[0]) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Err(VaultError::Gone { path: display(&self.path) }),
            Err(e) => return Err(self.unusable("renaming")(e)),
        }
        for (form, length) in before {
            let Some(length) = length else { continue };
            if form != new.form {
                rustix::fs::unlinkat(&dirs.objects, object_name(digest, form), AtFlags::empty())
                    .map_err(self.unusable("removing a damaged object"))?;
            }
            self.room.remove(length);
        }
        Ok(())
    }

    /// Whether the object is there and reads back whole.
    fn is_sound(&self, digest: &Digest) -> Result<bool, VaultError> {
        match self.verify(digest) {
            Ok(_) => Ok(true),
            Err(VaultError::Missing { .. } | VaultError::Corrupt { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn temporary_name(&self) -> String {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        // Two vaults open in one process share a pid; the address tells them apart.
        format!("{}-{:x}-{n}", std::process::id(), std::ptr::from_ref(self).addr())
    }

    fn unusable(&self, what: &'static str) -> impl Fn(Errno) -> VaultError + use<'_> {
        move |e| self.failed(what, e.into())
    }

    fn corrupt(&self, digest: &Digest, reason: String) -> VaultError {
        VaultError::Corrupt { path: display(&self.path), digest: *digest, reason }
    }
}

/// Opens the vault's folder, or makes it.
fn make(dir: &Path) -> Result<Dirs, VaultError> {
    let failed = |what, source| VaultError::Unusable { path: display(dir), what, source };
    std::fs::create_dir_all(dir).map_err(|source| match is_full(&source) {
        true => full(dir),
        false => failed("making the folder", source),
    })?;
    let (top, owner) = dirs::open_top(dir).map_err(|(what, e)| unusable(dir, what, e))?;
    if owner != rustix::process::geteuid().as_raw() {
        return Err(VaultError::Foreign { path: display(dir), owner });
    }
    Dirs::make(top).map_err(|(what, e)| unusable(dir, what, e))
}

fn unusable(dir: &Path, what: &'static str, error: Errno) -> VaultError {
    let source = io::Error::from(error);
    if is_full(&source) { full(dir) } else { VaultError::Unusable { path: display(dir), what, source } }
}

fn full(dir: &Path) -> VaultError {
    VaultError::Full { path: display(dir), why: NO_ROOM.into() }
}

fn object_name(digest: &Digest, form: Form) -> String {
    let hex = digest.to_string();
    let suffix = if form == Form::Raw { Form::RAW_SUFFIX } else { "" };
    format!("{}/{}{suffix}", &hex[..2], &hex[2..])
}
