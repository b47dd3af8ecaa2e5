//! The vault: approved content and evidence, each once, under the SHA-256 of what it holds.
//!
//! An object is one zstd frame in `objects/XX/YYYY…`. It is written under a temporary name, synced, renamed into place
//! and its folder synced, so that whatever stands under a digest is whole. It is hashed again on every read, because
//! disks and people alter files.

mod batch;
mod object;
mod remove;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::core::entry::Digest;
use crate::core::path::display;
use batch::Batch;

#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("the vault {path} cannot be used: {what} failed ({source}); {}", advice(.source))]
    Unusable { path: String, what: &'static str, source: io::Error },
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
    #[error("the content cannot be written out ({0})")]
    Target(#[source] io::Error),
}

fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT) => "make room on its file system",
        Some(Errno::ROFS) => "mount its file system writable",
        Some(Errno::ACCESS | Errno::PERM) => "run fim as root",
        Some(Errno::MFILE | Errno::NFILE) => "raise the limit on open files (LimitNOFILE=)",
        _ => "check its file system and the kernel log",
    }
}

/// Content of this length and below is compressed in one piece, in memory, and not at all when it is there already.
const SMALL: u64 = 1 << 20;

/// An open vault. Several may be open on one folder, in one process or in many.
pub struct Vault {
    path: PathBuf,
    objects: OwnedFd,
    tmp: OwnedFd,
    next: AtomicU64,
    batch: Mutex<Batch>,
}

impl Vault {
    /// Opens the vault in `dir`, making it (mode 0700) where it is not. What a crash left unfinished is cleared away.
    pub fn open(dir: &Path) -> Result<Vault, VaultError> {
        let unusable =
            |what| move |e: Errno| VaultError::Unusable { path: display(dir), what, source: e.into() };
        std::fs::create_dir_all(dir).map_err(|source| VaultError::Unusable {
            path: display(dir),
            what: "making the folder",
            source,
        })?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top = rustix::fs::open(dir, flags, Mode::empty()).map_err(unusable("opening it"))?;
        let owner = rustix::fs::fstat(&top).map_err(unusable("fstat"))?.st_uid;
        if owner != rustix::process::geteuid().as_raw() {
            return Err(VaultError::Foreign { path: display(dir), owner });
        }
        rustix::fs::fchmod(&top, Mode::RWXU).map_err(unusable("chmod"))?;
        let sub = |name: &str| -> Result<OwnedFd, Errno> {
            match rustix::fs::mkdirat(&top, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e),
            }
            rustix::fs::openat(&top, name, flags, Mode::empty())
        };
        let objects = sub("objects").map_err(unusable("making objects/"))?;
        let tmp = sub("tmp").map_err(unusable("making tmp/"))?;
        make_fan(&objects).map_err(unusable("making objects/"))?;
        clear_unfinished(&tmp).map_err(unusable("clearing tmp/"))?;
        Ok(Vault { path: dir.to_path_buf(), objects, tmp, next: AtomicU64::new(0), batch: Mutex::default() })
    }

    /// Bytes that the objects take on the disk.
    pub fn bytes(&self) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        let mut total = 0;
        for shelf in std::fs::read_dir(self.path.join("objects"))? {
            for object in std::fs::read_dir(shelf?.path())? {
                total += object?.metadata().map_or(0, |m| m.blocks() * 512);
            }
        }
        Ok(total)
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
        rustix::fs::statat(&self.objects, object_name(digest), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Writes the content of `digest` to `out` and returns its length. On an error, part of it may have been written:
    /// the caller throws that away.
    pub fn copy_to(&self, digest: &Digest, out: &mut impl Write) -> Result<u64, VaultError> {
        object::read(self.open_object(digest)?, digest, out, &|reason| self.corrupt(digest, reason))
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

    fn open_object(&self, digest: &Digest) -> Result<std::fs::File, VaultError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.objects, object_name(digest), flags, Mode::empty()) {
            Ok(fd) => Ok(fd.into()),
            Err(Errno::NOENT) => Err(VaultError::Missing { path: display(&self.path), digest: *digest }),
            Err(e) => Err(self.unusable("opening an object")(e)),
        }
    }

    fn put_content(&self, content: &mut impl Read, durable: bool) -> Result<Digest, VaultError> {
        let mut start = Vec::new();
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
            let _ = rustix::fs::unlinkat(&self.tmp, &name, AtFlags::empty());
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
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.tmp, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(self.unusable("making a temporary file"))?;
        let mut file = std::fs::File::from(fd);
        let write = |source| VaultError::Unusable { path: display(&self.path), what: "writing", source };
        let digest = if small {
            object::write_small(start, &mut file).map_err(write)?
        } else {
            object::write_stream(start, rest, &mut file, write)?
        };
        if !durable {
            self.lock_batch().add(digest, name.to_owned(), &self.tmp);
            return Ok(digest);
        }
        rustix::fs::fdatasync(&file).map_err(self.unusable("syncing"))?;
        if !small && self.is_sound(&digest)? {
            rustix::fs::unlinkat(&self.tmp, name, AtFlags::empty()).map_err(self.unusable("removing"))?;
        } else {
            self.publish(name, &digest).map_err(self.unusable("renaming"))?;
        }
        self.durable_name(digest)
    }

    /// Syncs the folder an object is in, also when somebody else put it there just now.
    fn durable_name(&self, digest: Digest) -> Result<Digest, VaultError> {
        let fan = self.fan_dir(&digest).map_err(self.unusable("opening objects/"))?;
        rustix::fs::fsync(&fan).map_err(self.unusable("syncing objects/"))?;
        Ok(digest)
    }

    /// Gives a finished temporary file its place; one already there, the same or damaged, goes.
    fn publish(&self, name: &str, digest: &Digest) -> Result<(), Errno> {
        rustix::fs::renameat(&self.tmp, name, &self.objects, object_name(digest))
    }

    fn fan_dir(&self, digest: &Digest) -> Result<OwnedFd, Errno> {
        let name = format!("{:02x}", digest.0[0]);
        rustix::fs::openat(
            &self.objects,
            name,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
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

    fn unusable(&self, what: &'static str) -> impl Fn(Errno) -> VaultError {
        let path = display(&self.path);
        move |e| VaultError::Unusable { path: path.clone(), what, source: e.into() }
    }

    fn corrupt(&self, digest: &Digest, reason: String) -> VaultError {
        VaultError::Corrupt { path: display(&self.path), digest: *digest, reason }
    }
}

fn object_name(digest: &Digest) -> String {
    let hex = digest.to_string();
    format!("{}/{}", &hex[..2], &hex[2..])
}

/// All folders are made at once, so that storing never has to.
fn make_fan(objects: &OwnedFd) -> Result<(), Errno> {
    if rustix::fs::statat(objects, "ff", AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(());
    }
    for i in 0..=255 {
        match rustix::fs::mkdirat(objects, format!("{i:02x}"), Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
    }
    rustix::fs::fsync(objects)
}

/// Removes leftovers, unless another vault is open on the same folder: then they may be its work in hand.
fn clear_unfinished(tmp: &OwnedFd) -> Result<(), Errno> {
    if rustix::fs::flock(tmp, FlockOperation::NonBlockingLockExclusive).is_ok() {
        let mut names = Vec::new();
        for item in rustix::fs::Dir::read_from(tmp)? {
            let name = item?.file_name().to_owned();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name);
            }
        }
        for name in names {
            rustix::fs::unlinkat(tmp.as_fd(), &*name, AtFlags::empty())?;
        }
    }
    rustix::fs::flock(tmp, FlockOperation::LockShared)
}
