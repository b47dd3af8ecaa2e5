//! What lies outside the watch: root's secrets, and files that an attacker may link. Nothing of it may change, and the
//! secrets may turn up nowhere.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};

use crate::actor::race::{CLOSED, EMPTY, FIFO, FILES, LINK, OPEN, OWN, PARENT, SHARED};
use crate::actor::{Random, spawn};
use crate::fim::Fim;
use crate::state;

/// Ids of a third user.
const OTHER: (u32, u32) = (3456, 5678);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: (i64, i64),
    /// Older than `mtime` at first, so that `relatime` notes the first reading.
    atime: (i64, i64),
    /// None where a second name may have been made and removed.
    ctime: Option<(i64, i64)>,
}

#[derive(Debug)]
pub struct Outside {
    secret: String,
    facts: Vec<(PathBuf, Facts)>,
}

impl Outside {
    pub fn make(outside: &Path, seed: u64) -> Result<Self, String> {
        let mut random = Random::new(seed ^ 0x5ec2e7);
        let secret = format!("root's secret {:016x}{:016x}", random.below(u64::MAX), random.below(u64::MAX));
        let paths = make(outside, &secret).map_err(|e| format!("{}: {e}", outside.display()))?;
        let facts = |path: PathBuf| match facts(&path) {
            Ok(facts) => Ok((path, facts)),
            Err(e) => Err(format!("{}: {e}", path.display())),
        };
        Ok(Self { secret, facts: paths.into_iter().map(facts).collect::<Result<_, _>>()? })
    }

    /// Everything is as it was, nothing came in, and nobody has read or copied what is closed.
    pub fn untouched(&self, fim: &Fim) -> Result<(), String> {
        // First of all, before anything here reads.
        self.unchanged()?;
        for side in [CLOSED, OPEN] {
            self.nothing_new(&fim.outside.join(side)).map_err(|e| e.to_string())??;
        }
        let shared = facts(&fim.outside.join(OWN).join(SHARED)).map_err(|e| e.to_string())?;
        if (shared.mode & 0o7777, shared.uid, shared.gid) != (0o666, OTHER.0, OTHER.1) {
            return Err(format!("another user's file, linked into the watch, is now {shared:?}"));
        }
        self.nowhere(fim)
    }

    /// Nothing was written, chowned, chmodded or, of what is closed, read. Reads nothing itself.
    pub fn unchanged(&self) -> Result<(), String> {
        for (path, before) in &self.facts {
            let now = facts(path).map_err(|e| format!("{}: {e}", path.display()))?;
            if now != *before {
                return Err(format!("outside, {} was {before:?} and is {now:?}", path.display()));
            }
        }
        Ok(())
    }

    fn nothing_new(&self, top: &Path) -> io::Result<Result<(), String>> {
        for dir in [top.to_owned(), top.join(PARENT), top.join(PARENT).join(EMPTY)] {
            for entry in fs::read_dir(dir)? {
                let path = entry?.path();
                if !self.facts.iter().any(|(known, _)| *known == path) {
                    return Ok(Err(format!("outside, {} was made", path.display())));
                }
                let owner = if path.starts_with(top.with_file_name(CLOSED)) { &self.secret } else { "open" };
                if path.is_file() && !path.is_symlink() && fs::read(&path)? != content(owner, &path) {
                    return Ok(Err(format!("outside, the content of {} was altered", path.display())));
                }
            }
        }
        Ok(Ok(()))
    }

    fn nowhere(&self, fim: &Fim) -> Result<(), String> {
        let mut found = state::occurrences(&fim.state, self.secret.as_bytes())?;
        for top in [&fim.watched, &fim.outside.join(OWN)] {
            for path in state::files(top)? {
                if fs::read(&path).is_ok_and(|bytes| state::contains(&bytes, self.secret.as_bytes())) {
                    found.push(path);
                }
            }
        }
        if found.is_empty() { Ok(()) } else { Err(format!("the secret was copied to {found:?}")) }
    }
}

fn content(owner: &str, path: &Path) -> Vec<u8> {
    let name = path.file_name().unwrap_or_default().display();
    format!("{owner} in {name}\n").repeat(3).into_bytes()
}

fn make(outside: &Path, secret: &str) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for (side, owner, mode) in [(CLOSED, secret, 0o700), (OPEN, "open", 0o755)] {
        let top = outside.join(side);
        let parent = top.join(PARENT);
        fs::create_dir_all(parent.join(EMPTY))?;
        for name in FILES {
            let path = parent.join(name);
            fs::write(&path, content(owner, &path))?;
            // The last one is what an attacker would like best to have written by root.
            let mode = if name == FILES[3] { 0o4755 } else { mode & 0o666 };
            fs::set_permissions(&path, Permissions::from_mode(mode))?;
            paths.push(path);
        }
        mknodat(CWD, parent.join(FIFO), FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        symlink("of/root", parent.join(LINK))?;
        for dir in [&top, &parent, &parent.join(EMPTY)] {
            fs::set_permissions(dir, Permissions::from_mode(mode))?;
        }
        paths.extend([FIFO, LINK, EMPTY].map(|name| parent.join(name)));
        paths.extend([parent, top]);
    }
    let time = |tv_sec| Timespec { tv_sec, tv_nsec: 987_654_321 };
    let times = Timestamps { last_access: time(1_222_222_222), last_modification: time(1_555_555_555) };
    for path in &paths {
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    let shared = outside.join(OWN).join(SHARED);
    fs::write(&shared, "a third user's\n")?;
    chown(&shared, Some(OTHER.0), Some(OTHER.1))?;
    fs::set_permissions(&shared, Permissions::from_mode(0o666))?;
    debug_assert_ne!(OTHER, (spawn::UID, spawn::GID));
    Ok(paths)
}

fn facts(path: &Path) -> io::Result<Facts> {
    let meta = fs::symlink_metadata(path)?;
    // An attacker may link, and then the daemon may read, what lies in the open folder; nothing that is closed.
    let closed = path.components().any(|c| c.as_os_str() == CLOSED);
    let folder = meta.is_dir();
    Ok(Facts {
        mode: meta.mode(),
        uid: meta.uid(),
        gid: meta.gid(),
        size: meta.size(),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        atime: if closed { (meta.atime(), meta.atime_nsec()) } else { (0, 0) },
        ctime: (closed || folder).then(|| (meta.ctime(), meta.ctime_nsec())),
    })
}
