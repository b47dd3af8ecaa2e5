//! What the machine can do: the least that any such program has to do, without anything else.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxFlags, openat, statx};
use sha2::{Digest, Sha256};

pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes in a second that this many threads digest, each in a buffer of its own that stays in the cache.
pub fn sha256(threads: usize) -> f64 {
    const ROUNDS: usize = 2000;
    let buffer = vec![7; 256 * 1024];
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    std::hint::black_box(Sha256::digest(std::hint::black_box(&buffer)));
                }
            });
        }
    });
    (threads * ROUNDS * buffer.len()) as f64 / begun.elapsed().as_secs_f64()
}

#[derive(Clone, Copy, PartialEq)]
pub enum Pass {
    /// getdents and statx of every name.
    Sweep,
    /// As before, and every regular file is read.
    Read,
    /// As before, and digested.
    Digest,
}

#[derive(Clone, Copy, Default)]
pub struct Seen {
    pub objects: u64,
    pub bytes: u64,
    pub seconds: f64,
}

/// One pass over the tree with all processors.
pub fn pass(tree: &Path, pass: Pass) -> Result<Seen, String> {
    let walk = Walk {
        pass,
        state: Mutex::new((vec![tree.to_path_buf().into_os_string()], 0)),
        changed: Condvar::new(),
        objects: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        failed: AtomicUsize::new(0),
    };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..processors() {
            scope.spawn(|| walk.work());
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Seen { objects: walk.objects.into_inner(), bytes: walk.bytes.into_inner(), seconds })
}

struct Walk {
    pass: Pass,
    /// Folders that nobody has read yet, and how many threads are busy.
    state: Mutex<(Vec<std::ffi::OsString>, usize)>,
    changed: Condvar,
    objects: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicUsize,
}

impl Walk {
    fn work(&self) {
        let mut buffer = vec![0; 256 * 1024];
        let mut names = Vec::with_capacity(32 * 1024);
        while let Some(dir) = self.take() {
            let mut found = Vec::new();
            if self.folder(&dir, &mut names, &mut buffer, &mut found).is_err() {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.0.append(&mut found);
            state.1 -= 1;
            self.changed.notify_all();
        }
    }

    fn take(&self) -> Option<std::ffi::OsString> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(dir) = state.0.pop() {
                state.1 += 1;
                return Some(dir);
            }
            if state.1 == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn folder(
        &self,
        path: &OsStr,
        names: &mut Vec<u8>,
        buffer: &mut [u8],
        found: &mut Vec<std::ffi::OsString>,
    ) -> rustix::io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(CWD, Path::new(path), flags, Mode::empty())?;
        let mut entries = RawDir::new(&dir, names.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = statx(&dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
            self.objects.fetch_add(1, Ordering::Relaxed);
            match FileType::from_raw_mode(stat.stx_mode.into()) {
                FileType::Directory => {
                    let mut below = path.to_os_string();
                    below.push("/");
                    below.push(OsStr::from_bytes(name.to_bytes()));
                    found.push(below);
                }
                FileType::RegularFile => self.file(&dir, name, stat.stx_size, buffer)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn file(
        &self,
        dir: &OwnedFd,
        name: &std::ffi::CStr,
        size: u64,
        buffer: &mut [u8],
    ) -> rustix::io::Result<()> {
        self.bytes.fetch_add(size, Ordering::Relaxed);
        if self.pass == Pass::Sweep {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NOATIME | OFlags::CLOEXEC;
        let mut file = File::from(openat(dir.as_fd(), name, flags, Mode::empty())?);
        let mut hash = Sha256::new();
        let mut total = 0;
        loop {
            let n = file.read(buffer).unwrap_or(0);
            if self.pass == Pass::Digest {
                hash.update(&buffer[..n]);
            }
            total += n as u64;
            if n == 0 || (n < buffer.len() && total >= size) {
                break;
            }
        }
        std::hint::black_box(hash.finalize());
        Ok(())
    }
}
