//! Whether the package database says that a file holds what it should: writer and content are then both right.
//!
//! dpkg keeps for each package a list of MD5 digests, `PACKAGE.md5sums` (dpkg(1), FILES), and while it unpacks one the list
//! of that one in `tmp.ci`. Only lists that are about as new as the change are read: an older one says nothing about it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use md5::Md5;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

use crate::core::change::{Change, ChangeKind};
use crate::core::entry::{Digest, FileType};
use crate::core::path::{RelPath, escape};
use crate::tree::hash::each_chunk;
use crate::tree::inspect::open_content;

use super::act::Act;
use super::clock::realtime_ns;
use super::reconcile::Reconciler;
use super::watch::Watch;

/// Where dpkg keeps what it knows, below the root of its system.
const DATABASE: &str = "var/lib/dpkg";
/// Names that files have until they are complete, or until they are removed.
const PASSING: [&[u8]; 2] = [b".dpkg-new", b".dpkg-tmp"];
/// Nanoseconds: lists that were written longer ago are of packages that are not being installed.
const RECENT_NS: i64 = 3_600 * 1_000_000_000;
/// Bytes of the longest list that is read; the kernel's modules are about 1 MiB.
const LONGEST: u64 = 16 << 20;
/// Lists that are remembered.
const LISTS: usize = 1024;

type Sum = [u8; 16];
/// Change time and inode of a list.
type Stamp = (i64, u64);

/// What the databases say, as far as they were read. One for each root.
#[derive(Default)]
pub struct Voucher {
    systems: HashMap<PathBuf, System>,
}

#[derive(Default)]
struct System {
    /// By package.
    lists: HashMap<String, List>,
    /// When the folder of lists was read.
    read: Option<Stamp>,
}

struct List {
    stamp: Stamp,
    sums: HashMap<Vec<u8>, Sum>,
}

impl Voucher {
    /// Whether there is a database.
    pub fn knows(&self, root: &Path) -> bool {
        root.join(DATABASE).is_dir()
    }

    /// The package that owns the absolute path, and the digest it lists.
    pub fn listed(&mut self, root: &Path, path: &[u8], now_ns: i64) -> Option<(String, Sum)> {
        let below =
            Path::new(std::ffi::OsStr::from_bytes(path)).strip_prefix(root).ok()?.as_os_str().as_bytes();
        let system = self.systems.entry(root.to_path_buf()).or_default();
        system.refresh(&root.join(DATABASE), now_ns);
        // Packages may still list /bin/x where /bin is a link to /usr/bin.
        let names = [Some(below), below.strip_prefix(b"usr/")];
        names.into_iter().flatten().find_map(|name| {
            let listed = |(package, list): (&String, &List)| Some((package.clone(), *list.sums.get(name)?));
            system.lists.iter().find_map(listed)
        })
    }
}

impl System {
    /// What cannot be read vouches for nothing.
    fn refresh(&mut self, database: &Path, now_ns: i64) {
        let unpacked = database.join("tmp.ci");
        if let (Some(package), Ok((file, stamp, _))) =
            (package_of(&unpacked), open(&unpacked.join("md5sums")))
        {
            self.take(package, file, stamp);
        }
        let info = database.join("info");
        let Ok(written) = std::fs::metadata(&info).map(|folder| stamp_of(&folder)) else { return };
        if self.read == Some(written) {
            return;
        }
        let Ok(entries) = std::fs::read_dir(&info) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".md5sums")) else { continue };
            // `libc6:amd64.md5sums` is of `libc6`.
            let package = stem.split(':').next().unwrap_or(stem).to_owned();
            if let Ok((file, stamp, _)) = open(&entry.path())
                && stamp.0.saturating_add(RECENT_NS) > now_ns
            {
                self.take(package, file, stamp);
            }
        }
        self.read = Some(written);
    }

    fn take(&mut self, package: String, file: File, stamp: Stamp) {
        if self.lists.get(&package).is_some_and(|list| list.stamp == stamp) {
            return;
        }
        if self.lists.len() >= LISTS
            && let Some(oldest) =
                self.lists.iter().min_by_key(|(_, list)| list.stamp).map(|(package, _)| package.clone())
        {
            self.lists.remove(&oldest);
        }
        let mut text = Vec::new();
        if file.take(LONGEST).read_to_end(&mut text).is_ok() {
            self.lists.insert(package, List { stamp, sums: sums(&text) });
        }
    }
}

/// A regular file, without following a link at its end.
fn open(path: &Path) -> io::Result<(File, Stamp, u64)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let found = file.metadata()?;
    match found.is_file() && found.len() <= LONGEST {
        true => Ok((file, stamp_of(&found), found.len())),
        false => Err(io::Error::other("no list")),
    }
}

fn stamp_of(found: &std::fs::Metadata) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    (found.ctime().saturating_mul(1_000_000_000).saturating_add(found.ctime_nsec()), found.ino())
}

/// The name in a control file: `Package: netbase`.
fn package_of(unpacked: &Path) -> Option<String> {
    let (file, ..) = open(&unpacked.join("control")).ok()?;
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("Package:"))?;
    Some(name.trim().to_owned())
}

/// `DIGEST  path/from/the/root`, one a line.
fn sums(text: &[u8]) -> HashMap<Vec<u8>, Sum> {
    let one = |line: &[u8]| {
        let (hex, path) = (line.get(..32)?, line.get(34..)?);
        let hex = std::str::from_utf8(hex).ok().filter(|hex| hex.is_ascii())?;
        let mut sum = [0; 16];
        for (at, byte) in sum.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
        }
        Some((path.to_vec(), sum))
    };
    text.split(|b| *b == b'\n').filter_map(one).collect()
}

impl Reconciler {
    /// Notes which acts a package database may vouch for.
    pub(super) fn mark_vouched(&self, acts: &mut [Act]) {
        for act in acts {
            let rule = act.grant.as_ref().and_then(|grant| grant.rule);
            let root = rule.and_then(|rule| self.trust.root(rule));
            act.vouch = root.is_some_and(|root| has_new_content(act) && self.voucher.knows(root));
        }
    }

    /// Compares what was authorised with what its package lists.
    pub(super) fn vouch(&mut self, watch: &Watch, acts: &mut [Act]) {
        for act in acts.iter_mut().filter(|act| act.vouch && !act.again) {
            let Some(rule) = act.grant.as_ref().and_then(|grant| grant.rule) else { continue };
            let Some((package, same)) = self.listed(watch, &act.finding.change, rule) else { continue };
            act.event.vouched = Some(same);
            let package = escape(package.as_bytes());
            if !same {
                act.event.message =
                    Some(format!("its content is not what the package {package} lists for it"));
            }
            act.event.package = Some(package);
        }
    }

    /// The package that lists the file, and whether it holds what that says; `None` where no list can tell.
    pub(super) fn listed(&mut self, watch: &Watch, change: &Change, rule: usize) -> Option<(String, bool)> {
        let root = self.trust.root(rule)?.to_path_buf();
        let path = watch.absolute(&change.path);
        let (package, listed) = self.voucher.listed(&root, &path, realtime_ns())?;
        let now = &change.after.as_ref()?.entry;
        let sum = md5_of(watch, &change.path, now.sha256?, now.size)?;
        Some((package, sum == listed))
    }
}

fn has_new_content(act: &Act) -> bool {
    let change = &act.finding.change;
    let Some(now) = change.after.as_ref().map(|found| &found.entry) else { return false };
    let passing = change.path.name().is_some_and(|name| PASSING.iter().any(|end| name.ends_with(end)));
    now.kind == FileType::Regular && now.sha256.is_some() && !passing && change.kind != ChangeKind::Attributes
}

/// The MD5 digest of the file, if it still holds what was recorded.
fn md5_of(watch: &Watch, path: &RelPath, recorded: Digest, size: u64) -> Option<Sum> {
    let object: OwnedFd = watch.root.open_path(path).ok()?;
    let (now, _) = crate::tree::attributes::read_unopened(object.as_fd()).ok()?;
    if now.kind != FileType::Regular {
        return None;
    }
    let content = open_content(object.as_fd()).ok()?;
    let (mut md5, mut sha256) = (Md5::new(), Sha256::new());
    let read = each_chunk(&content, size, |chunk| {
        md5.update(chunk);
        sha256.update(chunk);
        Ok(())
    });
    (read.ok()? == size && Digest(sha256.finalize().into()) == recorded).then(|| md5.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// md5sum(1) of `hello\n`.
    const HELLO: &str = "b1946ac92492d2347c6235b4d2611184";

    #[test]
    fn the_list_that_is_being_unpacked_and_the_recent_ones_vouch() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        let put = |name: &str, text: String| {
            let path = root.join(DATABASE).join(name);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        let mut voucher = Voucher::default();
        assert!(!voucher.knows(root));
        put("info/libc6:amd64.md5sums", format!("{HELLO}  lib/x86_64/libc.so.6\nrubbish\n"));
        put("info/libc6:amd64.list", "/lib\n".into());
        put("tmp.ci/control", "Source: x\nPackage: netbase\n".into());
        put("tmp.ci/md5sums", format!("{HELLO}  etc/a b\n"));
        assert!(voucher.knows(root));
        let absolute = |name: &str| root.join(name).as_os_str().as_bytes().to_vec();
        let now = realtime_ns();
        let mut package = |name: &str| voucher.listed(root, &absolute(name), now).map(|(package, _)| package);
        assert_eq!(package("etc/a b").as_deref(), Some("netbase"));
        assert_eq!(package("lib/x86_64/libc.so.6").as_deref(), Some("libc6"));
        assert_eq!(package("usr/lib/x86_64/libc.so.6").as_deref(), Some("libc6"), "links of the merged /usr");
        assert_eq!(package("etc/b"), None);
        let sum = voucher.listed(root, &absolute("etc/a b"), now).expect("listed").1;
        assert_eq!(sum, <Sum>::from(Md5::digest(b"hello\n")));

        // Installed: the list moves, and a package that comes later is found.
        std::fs::remove_dir_all(root.join(DATABASE).join("tmp.ci")).expect("removed");
        put("info/later.md5sums", format!("{HELLO}  etc/later\n"));
        let mut package = |name: &str| voucher.listed(root, &absolute(name), now).map(|(package, _)| package);
        assert_eq!(package("etc/later").as_deref(), Some("later"));
        assert_eq!(package("etc/a b").as_deref(), Some("netbase"));
        // An old list is of a package that nobody installs now.
        let long_after = now + 2 * RECENT_NS;
        assert_eq!(Voucher::default().listed(root, &absolute("etc/later"), long_after), None);
    }
}
