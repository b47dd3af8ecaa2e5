//! The way to a watch, which may lead through folders of people who are not trusted.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open, openat, readlinkat};
use rustix::io::Errno;

/// Symbolic links on one way, as for the kernel (`MAXSYMLINKS`, include/linux/namei.h).
const MOST_LINKS: usize = 40;

enum Step {
    Top,
    Up,
    Down(OsString),
}

/// An `O_PATH` descriptor of what an absolute path names. A symbolic link is followed only where nobody but root, or whoever runs
/// this, can have put it: else the owner of a watched folder chooses what fim reads and restores. `ELOOP` where one is not.
pub fn reach(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut steps: VecDeque<Step> = steps(path).collect();
    let mut way = vec![open("/", flags | OFlags::DIRECTORY, Mode::empty())?];
    let mut links = 0;
    while let Some(step) = steps.pop_front() {
        let here = way.last().ok_or(Errno::INVAL)?;
        match step {
            Step::Top => way.truncate(1),
            Step::Up if way.len() > 1 => drop(way.pop()),
            Step::Up => {}
            Step::Down(name) => {
                let next = openat(here, &name, flags, Mode::empty())?;
                let found = fstat(&next)?;
                if FileType::from_raw_mode(found.st_mode) != FileType::Symlink {
                    way.push(next);
                    continue;
                }
                links += 1;
                if links > MOST_LINKS || !is_ours(&found) || !is_closed(&fstat(here)?) {
                    return Err(Errno::LOOP.into());
                }
                let target = OsString::from_vec(readlinkat(&next, "", Vec::new())?.into_bytes());
                for step in self::steps(Path::new(&target)).collect::<Vec<_>>().into_iter().rev() {
                    steps.push_front(step);
                }
            }
        }
    }
    way.pop().ok_or_else(|| Errno::INVAL.into())
}

fn steps(path: &Path) -> impl Iterator<Item = Step> {
    path.components().filter_map(|component| match component {
        Component::RootDir => Some(Step::Top),
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Down(OsString::from_vec(name.as_bytes().to_vec()))),
        Component::CurDir | Component::Prefix(_) => None,
    })
}

fn is_ours(found: &Stat) -> bool {
    found.st_uid == 0 || found.st_uid == rustix::process::geteuid().as_raw()
}

/// Nobody else can put anything into the folder.
fn is_closed(folder: &Stat) -> bool {
    const OTHERS_MAY_WRITE: u32 = 0o022;
    is_ours(folder) && folder.st_mode & OTHERS_MAY_WRITE == 0
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};

    use super::*;
    use crate::tree::Root;

    /// The owner of a watched folder put a link to /etc in its place before fim was started again: /etc became his.
    #[test]
    fn a_link_that_somebody_else_may_have_put_there_is_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        for name in ["ours/secret", "theirs", "open"] {
            fs::create_dir_all(at(name)).expect("made");
        }
        fs::set_permissions(at("ours"), Permissions::from_mode(0o755)).expect("set");
        chown(at("theirs"), Some(4711), Some(4712)).expect("needs root");
        fs::set_permissions(at("open"), Permissions::from_mode(0o1777)).expect("set");
        for (link, owner) in [
            ("ours/link", 0),
            ("ours/theirs", 4711),
            ("theirs/link", 4711),
            ("theirs/root", 0),
            ("open/link", 0),
        ] {
            symlink("../ours/secret", at(link)).expect("made");
            lchown(at(link), Some(owner), Some(owner)).expect("needs root");
        }
        let ino = |path: &Path| fs::metadata(path).expect("there").ino();
        let followed = fstat(reach(&at("ours/link")).expect("root's own")).expect("there").st_ino;
        assert_eq!(followed, ino(&at("ours/secret")));
        for link in ["ours/theirs", "theirs/link", "theirs/root", "open/link"] {
            assert_eq!(reach(&at(link)).expect_err("refused").raw_os_error(), Some(40), "{link}");
            let error = Root::open(&at(link)).expect_err("refused").to_string();
            assert!(error.contains("symbolic link"), "{error}");
        }
        // As it is.
        assert_eq!(fstat(reach(&at("theirs")).expect("a folder")).expect("there").st_uid, 4711);
        symlink("loop", at("ours/loop")).expect("made");
        assert_eq!(reach(&at("ours/loop")).expect_err("endless").raw_os_error(), Some(40));
        let up = at("ours/secret/../../theirs/.");
        assert_eq!(fstat(reach(&up).expect("up and down")).expect("there").st_ino, ino(&at("theirs")));
    }
}
