//! One scan under way.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType as Kind, RawDir};

use super::queue::Queue;
use super::{Job, ScanReport};
use crate::core::entry::{Entry, FileType, Found};
use crate::core::path::RelPath;
use crate::sensor::marks::MarkError;
use crate::tree::flags::System;
use crate::tree::private::is_in_flight;
use crate::tree::root::{is_absent, open_name};
use crate::tree::{TreeError, inspect};

/// Names of one directory are shared out in pieces of this size, so that a wide directory keeps all threads busy.
const PIECE: usize = 64;
/// Bytes of names that are asked for at once.
const LISTED: usize = 32 * 1024;
/// Of a whole tree that cannot be marked, a few reasons are enough.
const REASONS: usize = 10;

pub struct Walk<'a> {
    job: &'a Job<'a>,
    visit: &'a (dyn Fn(RelPath, Found) + Sync),
    files: AtomicU64,
    report: Mutex<ScanReport>,
}

enum Piece {
    Directory(RelPath),
    Names { dir: Arc<Folder>, names: Vec<Name> },
}

/// A directory that is being looked at.
struct Folder {
    fd: OwnedFd,
    path: RelPath,
    system: Option<System>,
}

struct Name {
    bytes: Box<[u8]>,
    ino: u64,
    /// As the directory says; some file systems do not say.
    kind: Kind,
}

impl<'a> Walk<'a> {
    pub fn new(job: &'a Job<'a>, visit: &'a (dyn Fn(RelPath, Found) + Sync)) -> Self {
        Self { job, visit, files: AtomicU64::new(0), report: Mutex::default() }
    }

    pub fn finish(self) -> ScanReport {
        let mut report = self.report.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.files = self.files.into_inner();
        report.stopped = self.job.progress.stop.load(Ordering::Relaxed);
        report.unreadable.sort();
        report
    }

    /// Looks at the start itself; its type, or `None` when nothing is there.
    pub fn start(&self) -> Result<Option<FileType>, TreeError> {
        let start = self.job.start;
        let here = inspect::inspect(self.job.root, start, (self.job.known)(start).as_ref())?;
        let Some(here) = here else { return Ok(None) };
        let directory = here.entry.kind == FileType::Directory;
        let above = start.parent().filter(|_| !directory);
        if self.job.marks.is_none() {
            return Ok(Some(self.seen(start.clone(), here)));
        }
        // The directory that tells of the start's own attributes is marked now, so look once more.
        self.mark_directory_at(above.as_ref().unwrap_or(start));
        let again = self.job.root.open_path(start).and_then(|fd| self.inspect(None, fd.as_fd(), start));
        match again {
            Ok(found) => Ok(Some(self.seen(start.clone(), found))),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => {
                self.unreadable(start.clone(), &e);
                Ok(None)
            }
        }
    }

    fn mark_directory_at(&self, path: &RelPath) {
        match self.job.root.open_dir(path) {
            Ok(dir) => self.mark_directory(dir.as_fd(), path),
            Err(e) if is_absent(&e) => {}
            Err(e) => self.unreadable(path.clone(), &e),
        }
    }

    pub fn below_start(&self) {
        let queue = Queue::new(Piece::Directory(self.job.start.clone()));
        std::thread::scope(|scope| {
            for _ in 1..self.job.threads.max(1) {
                scope.spawn(|| self.work(&queue));
            }
            self.work(&queue);
        });
    }

    fn work(&self, queue: &Queue<Piece>) {
        queue.work(|piece| {
            if self.job.progress.stop.load(Ordering::Relaxed) {
                return;
            }
            match piece {
                Piece::Directory(path) => self.directory(path, queue),
                Piece::Names { dir, names } => self.names(&dir, &names, queue),
            }
        });
    }

    fn directory(&self, path: RelPath, queue: &Queue<Piece>) {
        let names = self.job.root.open_dir(&path).and_then(|dir| {
            self.mark_directory(dir.as_fd(), &path);
            Ok((list(dir.as_fd())?, dir))
        });
        match names {
            Ok((names, fd)) => {
                self.job.progress.dirs.fetch_add(1, Ordering::Relaxed);
                let system = System::of(fd.as_fd()).ok();
                self.share_out(Folder { fd, path, system }, names, queue);
            }
            // Gone since it was listed, or something else took its name: another look or an event tells.
            Err(e) if is_absent(&e) => {}
            Err(e) => self.unreadable(path, &e),
        }
    }

    fn share_out(&self, dir: Folder, mut names: Vec<Name>, queue: &Queue<Piece>) {
        let dir = Arc::new(dir);
        let mut pieces = Vec::new();
        while names.len() > PIECE {
            let rest = names.split_off(names.len() - PIECE);
            pieces.push(Piece::Names { dir: dir.clone(), names: rest });
        }
        queue.push(pieces);
        self.names(&dir, &names, queue);
    }

    fn names(&self, dir: &Folder, names: &[Name], queue: &Queue<Piece>) {
        for name in names {
            let Some(path) = dir.path.join(&name.bytes) else { continue };
            let excluded = self.job.exclude.excludes(&path, name.kind == Kind::Directory);
            if excluded || is_in_flight(&name.bytes) {
                continue;
            }
            if let Some(kind) = self.settled(dir, &name.bytes, &path) {
                if kind == FileType::Directory {
                    queue.push([Piece::Directory(path)]);
                }
                continue;
            }
            match self.look(dir, &name.bytes, &path) {
                Ok(Some(found)) => {
                    let foreign = !self.job.all_mounts && self.job.root.is_mounted_over(&path, &found.entry);
                    if foreign {
                        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
                        report.mounted_over.push(path.clone());
                    }
                    if self.seen(path.clone(), found) == FileType::Directory && !foreign {
                        queue.push([Piece::Directory(path)]);
                    }
                }
                Ok(None) => {}
                Err(e) => self.unreadable(path, &e),
            }
            if self.job.progress.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// The type of what needs no further look, which is counted. Files that have to be marked do.
    fn settled(&self, dir: &Folder, name: &[u8], path: &RelPath) -> Option<FileType> {
        let settled = self.job.settled?;
        let system = dir.system.filter(|system| system.times_xattrs())?;
        let (entry, identity) = inspect::glance(dir.fd.as_fd(), name).ok()?;
        let linked = entry.kind == FileType::Regular && identity.nlink > 1 && self.job.marks.is_some();
        if linked || !system.holds(identity.dev) || !settled(path, &entry, &identity) {
            return None;
        }
        self.count(&entry);
        Some(entry.kind)
    }

    fn look(&self, dir: &Folder, name: &[u8], path: &RelPath) -> io::Result<Option<Found>> {
        let fd = open_name(dir.fd.as_fd(), name);
        match fd.and_then(|fd| self.inspect(dir.system, fd.as_fd(), path)) {
            Ok(found) => Ok(Some(found)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A file with several links is marked before its content is read.
    fn inspect(&self, system: Option<System>, file: BorrowedFd<'_>, path: &RelPath) -> io::Result<Found> {
        if let Some(marks) = self.job.marks {
            let stat = rustix::fs::fstat(file)?;
            if stat.st_nlink > 1 && Kind::from_raw_mode(stat.st_mode) == Kind::RegularFile {
                self.marked(path, marks.hard_linked(file, self.job.watch, path));
            }
        }
        inspect::inspect_on(system, file, (self.job.known)(path).as_ref())
    }

    fn mark_directory(&self, dir: BorrowedFd<'_>, path: &RelPath) {
        if let Some(marks) = self.job.marks {
            self.marked(path, marks.directory(dir, self.job.watch, path));
        }
    }

    fn marked(&self, path: &RelPath, result: Result<(), MarkError>) {
        let Err(e) = result else { return };
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.unmarked += 1;
        if report.unmarked_why.len() < REASONS {
            report.unmarked_why.push((path.clone(), e.to_string()));
        }
    }

    fn seen(&self, path: RelPath, found: Found) -> FileType {
        let kind = found.entry.kind;
        self.count(&found.entry);
        (self.visit)(path, found);
        kind
    }

    fn count(&self, entry: &Entry) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.job.progress.files.fetch_add(1, Ordering::Relaxed);
        if entry.kind == FileType::Regular {
            self.job.progress.bytes.fetch_add(entry.size, Ordering::Relaxed);
        }
    }

    fn unreadable(&self, path: RelPath, error: &io::Error) {
        let why = format!("cannot be read ({error}); check the file system and the kernel log");
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.unreadable.push((path, why));
    }
}

/// In the order of their inodes, which is about that of the disk.
fn list(dir: BorrowedFd<'_>) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(LISTED);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            Kind::Unknown => kind_of(dir, name),
            kind => kind,
        };
        names.push(Name { bytes: name.to_bytes().into(), ino: entry.ino(), kind });
    }
    names.sort_unstable_by_key(|name| name.ino);
    Ok(names)
}

fn kind_of(dir: BorrowedFd<'_>, name: &CStr) -> Kind {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_or(Kind::Unknown, |stat| Kind::from_raw_mode(stat.st_mode))
}
