//! What runs, against the baseline: its digest, and whether it is approved.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags};

use crate::core::actor::{ExeFile, ExePlace, Standing};
use crate::core::entry::{Digest, Found, Identity};
use crate::core::path::{RelPath, unescape};
use crate::sensor::actor::proc::is_still;
use crate::store::Store;
use crate::tree::attributes::identity;
use crate::tree::hash;
use crate::tree::root::reopen;

use super::Watch;

/// What is larger is not read for a record's sake, bytes.
const LARGEST: u64 = 256 << 20;
const REMEMBERED: usize = 4096;
/// How long an answer holds: a burst of records by the same programs asks once.
const FRESH: Duration = Duration::from_millis(500);

/// What was found out about one program.
struct Answer {
    at: Instant,
    file: ExeFile,
}

/// Digests of programs, remembered by the identity of their files.
pub struct Programs {
    watches: Vec<Arc<Watch>>,
    known: HashMap<(u64, u64, i64), Digest>,
    recent: HashMap<String, Vec<Answer>>,
}

impl Programs {
    pub fn new(watches: Vec<Arc<Watch>>) -> Self {
        Self { watches, known: HashMap::new(), recent: HashMap::new() }
    }

    /// Adds to `file`, which runs as `exe` (escaped), its digest and what the baseline says of it. `alive`: id and start of
    /// the process that ran it, which may be gone.
    pub fn examine(&mut self, exe: &str, file: &mut ExeFile, alive: Option<(u32, u64)>, store: &Store) {
        if let Some(answer) = self.recent(exe, file) {
            (file.sha256, file.baseline) = answer;
            return;
        }
        self.look(exe, file, alive, store);
        if self.recent.len() >= REMEMBERED {
            self.recent.clear();
        }
        let answers = self.recent.entry(exe.to_owned()).or_default();
        answers.retain(|answer| answer.at.elapsed() < FRESH);
        answers.push(Answer { at: Instant::now(), file: file.clone() });
    }

    fn recent(&self, exe: &str, file: &ExeFile) -> Option<(Option<Digest>, Option<Standing>)> {
        let same = |answer: &&Answer| {
            let about = &answer.file;
            (about.dev, about.ino, about.place) == (file.dev, file.ino, file.place)
                && answer.at.elapsed() < FRESH
        };
        self.recent.get(exe)?.iter().find(same).map(|answer| (answer.file.sha256, answer.file.baseline))
    }

    fn look(&mut self, exe: &str, file: &mut ExeFile, alive: Option<(u32, u64)>, store: &Store) {
        let path = unescape(exe).map(|bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes)));
        let path = path.filter(|path| path.is_absolute() && file.place != ExePlace::Memfd);
        let watch = path.as_ref().and_then(|path| self.place(path));
        let approved =
            watch.as_ref().and_then(|(watch, path)| store.baseline_get(watch.path(), path).ok().flatten());
        let opened = open(path, file, alive);
        file.sha256 = opened.and_then(|(fd, identity)| self.digest(&fd, identity, approved.as_ref()));
        file.baseline = watch.map(|_| match (&approved, file.sha256) {
            (None, _) => Standing::Unapproved,
            (Some(_), None) => Standing::Unverified,
            (Some(approved), digest) if approved.entry.sha256 == digest => Standing::Approved,
            (Some(_), Some(_)) => Standing::Altered,
        });
    }

    fn place(&self, path: &std::path::Path) -> Option<(Arc<Watch>, RelPath)> {
        use std::os::unix::ffi::OsStrExt;
        self.watches.iter().find_map(|watch| {
            let below = path.strip_prefix(watch.path()).ok()?;
            let below = RelPath::new(below.as_os_str().as_bytes())?;
            (!watch.policy.exclude.excludes(&below, false)).then(|| (watch.clone(), below))
        })
    }

    fn digest(&mut self, fd: &OwnedFd, identity: Identity, approved: Option<&Found>) -> Option<Digest> {
        // The baseline notes which file it last found equal: it need not be read again.
        let same = |found: &&Found| {
            (found.identity.dev, found.identity.ino, found.identity.ctime_ns)
                == (identity.dev, identity.ino, identity.ctime_ns)
        };
        if let Some(digest) = approved.filter(same).and_then(|found| found.entry.sha256) {
            return Some(digest);
        }
        let key = (identity.dev, identity.ino, identity.ctime_ns);
        if let Some(known) = self.known.get(&key) {
            return Some(*known);
        }
        let (digest, _) = hash::hash_at_most(fd.as_fd(), LARGEST).ok().flatten()?;
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(key, digest);
        Some(digest)
    }
}

/// The very file that ran, for reading: by its path where that is still its own, else through the living process.
fn open(path: Option<PathBuf>, file: &ExeFile, alive: Option<(u32, u64)>) -> Option<(OwnedFd, Identity)> {
    let checked = |at: OwnedFd| {
        let stat = rustix::fs::fstat(&at).ok()?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let same = regular && (stat.st_dev as u64, stat.st_ino as u64) == (file.dev, file.ino);
        let size = u64::try_from(stat.st_size).ok()?;
        (same && size <= LARGEST)
            .then(|| Some((reopen(at.as_fd(), OFlags::RDONLY).ok()?, identity(&stat))))?
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let by_path = || checked(rustix::fs::open(path?, flags | OFlags::NOFOLLOW, Mode::empty()).ok()?);
    let by_process = || {
        let (pid, start_ns) = alive?;
        let opened = rustix::fs::open(format!("/proc/{pid}/exe"), flags, Mode::empty()).ok()?;
        is_still(pid, start_ns).then(|| checked(opened))?
    };
    match file.place {
        ExePlace::Linked => by_path().or_else(by_process),
        ExePlace::Deleted | ExePlace::Memfd | ExePlace::Elsewhere => by_process(),
    }
}
