//! Builds the approved version of a file under a private name, complete before anybody can take it for the real one.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType as Kind, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::act::Act;
use super::failure::Failure;
use super::object::{Built, Id};
use crate::core::entry::{Digest, Entry, FileType};
use crate::tree::attributes::{self, NotApplied};
use crate::tree::flags;
use crate::tree::hash::copy_at_most;
use crate::tree::inspect::open_content;
use crate::tree::private::PrivateName;
use crate::tree::root::{open_name, proc_path, reopen};

/// Names taken by others are tried this often; they cannot be guessed, so once would do.
const ATTEMPTS: u32 = 8;

impl Act<'_> {
    pub fn build(&mut self, approved: &Entry) -> Result<Built, Failure> {
        let mut attempt = 1;
        loop {
            let name = PrivateName::fresh();
            match self.build_as(name, approved) {
                Err(Failure::Io { source, .. })
                    if source.raw_os_error() == Some(Errno::EXIST.raw_os_error()) && attempt < ATTEMPTS =>
                {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    fn build_as(&mut self, name: PrivateName, approved: &Entry) -> Result<Built, Failure> {
        if approved.kind == FileType::Regular {
            return self.build_regular(name, approved);
        }
        self.make_special(&name, approved)?;
        let fd =
            open_name(self.dir(), name.bytes()).map_err(|e| Failure::io("opening the new version", e))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| Failure::io("fstat", e))?;
        if !may_be_ours(&stat, approved.kind) {
            return Err(Failure::Moved);
        }
        let mut built = Built { name: Arc::new(name), id: Id::of(&stat), held: fd, flagged: Ok(()) };
        match dress(built.held.as_fd(), approved) {
            Ok(flagged) => built.flagged = flagged,
            Err(e) => {
                self.discard(&built);
                return Err(Failure::attribute(e));
            }
        }
        Ok(built)
    }

    fn make_special(&self, name: &PrivateName, approved: &Entry) -> Result<(), Failure> {
        let (dir, owner_only) = (self.dir(), Mode::RUSR | Mode::WUSR);
        let node = |kind| rustix::fs::mknodat(dir, name.bytes(), kind, owner_only, approved.rdev);
        let made = match approved.kind {
            FileType::Directory => rustix::fs::mkdirat(dir, name.bytes(), Mode::RWXU),
            FileType::Symlink => {
                let target = approved.target.as_deref().unwrap_or_default();
                rustix::fs::symlinkat(target, dir, name.bytes())
            }
            FileType::Fifo => node(Kind::Fifo),
            FileType::CharDevice => node(Kind::CharacterDevice),
            FileType::BlockDevice => node(Kind::BlockDevice),
            FileType::Socket | FileType::Regular => {
                return Err(Failure::Other(
                    "a socket can only be made by the process that listens on it".into(),
                ));
            }
        };
        made.map_err(|e| Failure::io("making the approved version", e))
    }

    fn build_regular(&mut self, name: PrivateName, approved: &Entry) -> Result<Built, Failure> {
        let digest = approved.sha256.ok_or_else(|| {
            Failure::Other(
                "its approved content could not be read when it was approved; accept it again".into(),
            )
        })?;
        let fresh = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.dir(), name.bytes(), fresh, Mode::RUSR | Mode::WUSR)
            .map_err(|e| Failure::io("making the approved version", e))?;
        let fill = || -> Result<(OwnedFd, Id, Result<(), NotApplied>), Failure> {
            let prepared = flags::prepare(fd.as_fd(), approved);
            let mut out = Sparse::new(fd.into());
            self.content_of(approved, &digest, &mut out)?;
            let file = out.finish().map_err(|e| Failure::io("writing the approved version", e))?;
            let (id, bare) = dress_fresh(&file, approved).map_err(Failure::attribute)?;
            let flagged = match prepared {
                // Nothing that was done since touches any.
                Ok(true) if bare => Ok(()),
                Ok(_) => flags::apply_harmless(file.as_fd(), approved),
                Err(error) => Err(error),
            };
            if approved.mode & 0o111 == 0 {
                return Ok((file.into(), id, flagged));
            }
            // A program cannot be executed while a descriptor for writing is open on it (ETXTBSY).
            let path_only = OFlags::PATH | OFlags::CLOEXEC;
            let fd = rustix::fs::open(proc_path(file.as_fd()), path_only, Mode::empty())
                .map_err(|e| Failure::io("opening the new version", e))?;
            Ok((fd, id, flagged))
        };
        match fill() {
            Ok((fd, id, flagged)) => Ok(Built { name: Arc::new(name), id, held: fd, flagged }),
            Err(failure) => {
                // Half of a copy; the whole is in the vault, or was damaged there.
                let _ = rustix::fs::unlinkat(self.dir(), name.bytes(), AtFlags::empty());
                Err(failure)
            }
        }
    }
}

/// Puts the approved attributes on a file that was just made, and is open for writing. Most have nothing but owner, mode
/// and time; what a folder's default ACL or a security module has given the file is left to [`attributes::apply`]. Which file it
/// is, and whether it has nothing more.
fn dress_fresh(file: &File, approved: &Entry) -> Result<(Id, bool), NotApplied> {
    let failed = |what: &str| {
        let what = what.to_owned();
        |e: Errno| NotApplied { what, source: e.into() }
    };
    let now = rustix::fs::fstat(file).map_err(failed("its attributes"))?;
    let bare = approved.xattrs.0.is_empty()
        && approved.mode & 0o7000 == 0
        && matches!(rustix::fs::flistxattr(file, &mut [0u8; 0][..]), Ok(0) | Err(Errno::NOTSUP));
    if !bare {
        attributes::apply(file.as_fd(), approved)?;
        return Ok((Id::of(&now), false));
    }
    if (now.st_uid, now.st_gid) != (approved.uid, approved.gid) {
        let (uid, gid) = (Uid::from_raw(approved.uid), Gid::from_raw(approved.gid));
        rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(failed("owner and group"))?;
    }
    if now.st_mode & 0o7777 != approved.mode {
        let mode = Mode::from_raw_mode(approved.mode);
        rustix::fs::fchmod(file, mode).map_err(failed("mode"))?;
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: approved.mtime_ns.div_euclid(1_000_000_000),
            tv_nsec: approved.mtime_ns.rem_euclid(1_000_000_000),
        },
    };
    rustix::fs::futimens(file, &times).map_err(failed("modification time"))?;
    Ok((Id::of(&now), true))
}

impl Act<'_> {
    /// From the vault; or, where that holds none, from the file whose attributes alone are wrong.
    fn content_of(&self, approved: &Entry, digest: &Digest, out: &mut Sparse) -> Result<(), Failure> {
        let Some(standing) = &self.standing else {
            return self.vault().copy_to(digest, out).map(drop).map_err(Failure::Vault);
        };
        let copied = open_content(standing.as_fd()).and_then(|file| copy_at_most(file, approved.size, out));
        match copied.map_err(|e| Failure::io("copying what is there", e))? {
            Some(now) if now == *digest => Ok(()),
            _ => Err(Failure::Moved),
        }
    }
}

/// Everything but the flags that would stop it from being given its name; the inner result is that of the others.
fn dress(fd: BorrowedFd<'_>, approved: &Entry) -> Result<Result<(), NotApplied>, NotApplied> {
    if approved.kind != FileType::Directory {
        return attributes::apply(fd, approved).map(Ok);
    }
    let dir = reopen(fd, OFlags::RDONLY | OFlags::DIRECTORY).map_err(NotApplied::opening)?;
    let prepared = flags::prepare(dir.as_fd(), approved);
    attributes::apply(fd, approved)?;
    Ok(prepared.and_then(|_| flags::apply_harmless(dir.as_fd(), approved)))
}

/// Making what is no regular file gives no descriptor. Should somebody have put an object of his choice in the place of
/// ours, it must not get the approved owner and mode: a fresh one is of the kind asked for, root's own, closed to others,
/// and has one name. A second name is a link to something from elsewhere (`fs.protected_hardlinks` 0 lets anybody make it).
fn may_be_ours(stat: &Stat, kind: FileType) -> bool {
    let open_mode = kind != FileType::Symlink && stat.st_mode & 0o077 != 0;
    let linked = kind != FileType::Directory && stat.st_nlink != 1;
    attributes::file_type(stat) == kind
        && stat.st_uid == rustix::process::geteuid().as_raw()
        && !open_mode
        && !linked
}

/// Writes a file, leaving holes where the content is zero.
struct Sparse {
    file: File,
    length: u64,
    ends_in_hole: bool,
}

/// Block size of nearly all file systems.
const BLOCK: usize = 4096;

impl Sparse {
    fn new(file: File) -> Self {
        Self { file, length: 0, ends_in_hole: false }
    }

    /// A hole at the end exists only once the length is set.
    fn finish(self) -> io::Result<File> {
        if self.ends_in_hole {
            self.file.set_len(self.length)?;
        }
        Ok(self.file)
    }
}

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let zero = |block: &[u8]| block.iter().all(|b| *b == 0);
        let mut blocks = bytes.chunks(BLOCK).peekable();
        let mut at = 0;
        while let Some(first) = blocks.next() {
            let hole = zero(first);
            let mut end = at + first.len();
            while let Some(next) = blocks.next_if(|b| zero(b) == hole) {
                end += next.len();
            }
            self.ends_in_hole = hole;
            if hole {
                self.file.seek(SeekFrom::Current((end - at) as i64))?;
            } else {
                self.file.write_all(&bytes[at..end])?;
            }
            at = end;
        }
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_something_from_elsewhere_is_not_taken_for_what_was_just_made() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (own, linked) = (dir.path().join("own"), dir.path().join("linked"));
        let stat = |path: &std::path::Path| rustix::fs::lstat(path).expect("is there");
        let owner_only = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &own, Kind::Fifo, owner_only, 0).expect("made");
        assert!(may_be_ours(&stat(&own), FileType::Fifo));
        std::fs::hard_link(&own, &linked).expect("linked");
        assert!(!may_be_ours(&stat(&linked), FileType::Fifo));
        let (own, linked) = (dir.path().join("symlink"), dir.path().join("linked symlink"));
        std::os::unix::fs::symlink("target", &own).expect("made");
        assert!(may_be_ours(&stat(&own), FileType::Symlink));
        std::fs::hard_link(&own, &linked).expect("linked");
        assert!(!may_be_ours(&stat(&linked), FileType::Symlink));
        std::fs::create_dir(dir.path().join("folder")).expect("made");
        std::fs::create_dir(dir.path().join("folder/in it")).expect("made");
        rustix::fs::chmod(dir.path().join("folder"), Mode::RWXU).expect("chmod");
        assert!(may_be_ours(&stat(&dir.path().join("folder")), FileType::Directory));
    }
}
