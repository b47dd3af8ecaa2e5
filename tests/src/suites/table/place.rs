//! A row's two folders, and making what it needs there.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};

use super::cases::{Case, Make};
use crate::actor::spawn::{GID, UID};
use crate::fim::{Fim, make_open};

/// Where one row happens.
#[derive(Clone, Debug)]
pub struct Place {
    pub inside: PathBuf,
    pub outside: PathBuf,
}

impl Place {
    pub fn of(fim: &Fim, case: &Case) -> Self {
        Self { inside: fim.watched.join(case.name), outside: fim.outside.join(case.name) }
    }

    /// `in/…` and `out/…` as real paths; anything else as it stands.
    pub fn resolve(&self, text: &str) -> String {
        let (top, rest) = match text.split_once('/') {
            Some(("in", rest)) => (&self.inside, rest),
            Some(("out", rest)) => (&self.outside, rest),
            _ => return text.to_owned(),
        };
        top.join(rest).display().to_string()
    }

    pub fn path(&self, text: &str) -> PathBuf {
        PathBuf::from(self.resolve(text))
    }

    /// Both folders and what the row wants in them, all of it the actor's own.
    pub fn make(&self, case: &Case) -> Result<(), String> {
        make_open(&self.inside)
            .and_then(|()| make_open(&self.outside))
            .map_err(|e| format!("{}: {e}", case.name))?;
        for make in case.make {
            self.one(make).map_err(|e| format!("{}: {make:?}: {e}", case.name))?;
        }
        Ok(())
    }

    fn one(&self, make: &Make) -> io::Result<()> {
        match make {
            Make::Dir(path) => {
                let path = self.path(path);
                make_open(&path)?;
                chown(path, Some(UID), Some(GID))
            }
            Make::File(path) => approved_file(&self.path(path), &approved(path)),
            Make::Link(from, to) => fs::hard_link(self.path(from), self.path(to)),
        }
    }
}

/// What a file holds when the baseline is taken: longer than what the actor writes, no two alike.
pub fn approved(path: &str) -> Vec<u8> {
    format!("approved content of {path}\n").repeat(8).into_bytes()
}

/// A file of the actor's with a mode, a time and an attribute that no default gives.
pub fn approved_file(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, content)?;
    chown(path, Some(UID), Some(GID))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o651))?;
    match rustix::fs::setxattr(path, "user.fim_approved", b"yes\xff", XattrFlags::CREATE) {
        Err(rustix::io::Errno::OPNOTSUPP) | Ok(()) => {}
        Err(e) => return Err(e.into()),
    }
    let time = |tv_sec| Timespec { tv_sec, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: time(1_333_333_333), last_modification: time(1_444_444_444) };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::empty())?)
}
