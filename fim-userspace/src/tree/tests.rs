use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType as Kind, Mode};

use super::inspect::{inspect, inspect_at};
use super::{Root, attributes};
use crate::core::entry::{FileType, Found, XattrName, XattrValue};
use crate::core::path::RelPath;

fn rel(path: impl AsRef<[u8]>) -> RelPath {
    RelPath::new(path.as_ref()).expect("a sound path")
}

fn tree() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let root = Root::open(dir.path()).expect("it opens");
    (dir, root)
}

fn seen(root: &Root, path: &str) -> Option<Found> {
    inspect(root, &rel(path), None).expect("it can be inspected")
}

#[test]
fn every_type_is_told_without_opening_it() {
    let (dir, root) = tree();
    fs::write(dir.path().join("file"), "hello").expect("written");
    fs::create_dir(dir.path().join("dir")).expect("made");
    symlink("no/where\n", dir.path().join("link")).expect("made");
    rustix::fs::mknodat(root.fd(), "fifo", Kind::Fifo, Mode::from(0o640), 0).expect("made");
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).expect("bound");

    let file = seen(&root, "file").expect("there").entry;
    let hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!((file.kind, file.size), (FileType::Regular, 5));
    assert_eq!(file.sha256.expect("a digest").to_string(), hello);
    let mtime = fs::metadata(dir.path().join("file")).expect("there");
    assert_eq!(file.mtime_ns, mtime.mtime() * 1_000_000_000 + mtime.mtime_nsec());

    let entry = seen(&root, "dir").expect("there").entry;
    assert_eq!((entry.kind, entry.size, entry.mtime_ns, entry.sha256), (FileType::Directory, 0, 0, None));
    let entry = seen(&root, "link").expect("there").entry;
    assert_eq!((entry.kind, entry.size, entry.mode), (FileType::Symlink, 9, 0o777));
    assert_eq!(entry.target.as_deref(), Some(&b"no/where\n"[..]));
    let entry = seen(&root, "fifo").expect("there").entry;
    assert_eq!((entry.kind, entry.sha256), (FileType::Fifo, None));
    assert_eq!(seen(&root, "socket").expect("there").entry.kind, FileType::Socket);
    assert_eq!(seen(&root, "").expect("there").entry.kind, FileType::Directory);
    assert_eq!(seen(&root, "nothing"), None);
    assert_eq!(seen(&root, "file/below"), None);
    assert_eq!(inspect_at(None, root.fd(), b"file").expect("works"), seen(&root, "file"));
    assert!(inspect_at(None, root.fd(), b"dir/..").is_err());
}

#[test]
fn links_on_the_way_are_never_followed() {
    let (dir, root) = tree();
    let outside = tempfile::tempdir().expect("a temporary folder");
    fs::write(outside.path().join("secret"), "s").expect("written");
    symlink(outside.path(), dir.path().join("link")).expect("made");
    fs::create_dir(dir.path().join("real")).expect("made");
    symlink("real", dir.path().join("inner")).expect("made");
    fs::write(dir.path().join("real/file"), "f").expect("written");

    assert_eq!(seen(&root, "link/secret"), None);
    assert_eq!(seen(&root, "inner/file"), None);
    assert!(seen(&root, "real/file").is_some());
    let error = root.open_dir(&rel("link")).expect_err("a link is no folder");
    assert!(super::root::is_absent(&error), "{error}");
}

#[test]
fn odd_names_and_depth_beyond_path_max() {
    let (_dir, root) = tree();
    let name = [b'x'; 255];
    let mut path = RelPath::root();
    let mut at = root.open_dir(&path).expect("opens");
    for _ in 0..20 {
        rustix::fs::mkdirat(&at, &name[..], Mode::from(0o700)).expect("made");
        path = path.join(&name).expect("sound");
        at = root.open_dir(&path).expect("opens");
    }
    assert!(path.as_bytes().len() > 5000);
    let odd = path.join(b"new\nline\xff").expect("sound");
    rustix::fs::symlinkat("t", &at, &b"new\nline\xff"[..]).expect("made");
    let found = inspect(&root, &odd, None).expect("works").expect("there");
    assert_eq!(found.entry.target.as_deref(), Some(&b"t"[..]));
    let (parent, last) = root.parent(&odd).expect("opens");
    assert_eq!(last, b"new\nline\xff");
    assert_eq!(inspect_at(None, parent.as_fd(), &last).expect("works"), Some(found));
}

#[test]
fn a_known_identity_saves_the_reading_and_a_fresh_one_does_not() {
    let (dir, root) = tree();
    let path = dir.path().join("file");
    fs::write(&path, "one").expect("written");
    let fresh = seen(&root, "file").expect("there");
    assert_eq!(fresh.identity.ctime_ns, 0, "a write in the same tick would go unseen");

    let meta = fs::metadata(&path).expect("there");
    let ctime = SystemTime::UNIX_EPOCH + Duration::new(meta.ctime() as u64, meta.ctime_nsec() as u32);
    while ctime.elapsed().unwrap_or_default() < Duration::from_millis(50) {
        std::thread::yield_now();
    }
    let mut known = seen(&root, "file").expect("there");
    assert_ne!(known.identity.ctime_ns, 0);
    known.entry.sha256 = Some(crate::core::entry::Digest([7; 32]));
    let again = inspect(&root, &rel("file"), Some(&known)).expect("works").expect("there");
    assert_eq!(again.entry.sha256, known.entry.sha256, "taken over, not read");

    fs::write(&path, "two").expect("written");
    let again = inspect(&root, &rel("file"), Some(&known)).expect("works").expect("there");
    assert_ne!(again.entry.sha256, known.entry.sha256, "read, since it changed");
}

#[test]
fn attributes_come_back_in_the_right_order() {
    let (dir, root) = tree();
    let path = dir.path().join("file");
    fs::write(&path, "x").expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
    let fd = root.open_path(&rel("file")).expect("opens");
    let mut approved = seen(&root, "file").expect("there").entry;
    approved.uid = 4711;
    approved.gid = 815;
    approved.mode = 0o6751;
    approved.mtime_ns = -1_500_000_001;
    approved.xattrs.0.insert(XattrName(b"user.empty".into()), XattrValue(Vec::new()));
    approved.xattrs.0.insert(XattrName(b"user.large".into()), XattrValue(vec![0xfe; 3000]));
    // cap_net_raw+ep, revision 2 of struct vfs_cap_data (linux/capability.h)
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    approved.xattrs.0.insert(XattrName(b"security.capability".into()), XattrValue(capability.into()));
    attributes::apply(fd.as_fd(), &approved).expect("applied");
    assert_eq!(seen(&root, "file").expect("there").entry, approved);

    // Another owner drops set-id bits and capabilities on the way; they must be there in the end all the same.
    approved.uid = 4712;
    approved.xattrs.0.remove(&XattrName(b"user.large".into()));
    attributes::apply(fd.as_fd(), &approved).expect("applied");
    assert_eq!(seen(&root, "file").expect("there").entry, approved);
}

/// Attributes without a limit are no way to hide a file, or to fill the daemon's memory.
#[test]
fn attributes_beyond_all_limits_are_a_difference_and_no_failure() {
    // tmpfs takes as many as there is memory, and those of root on every kernel.
    let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let root = Root::open(dir.path()).expect("opens");
    for name in ["names", "values"] {
        fs::write(dir.path().join(name), "x").expect("written");
    }
    let before = ["names", "values"].map(|name| seen(&root, name).expect("there").entry);
    let set = |file: &str, name: &str, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(dir.path().join(file), name, value, flags).expect("set")
    };
    for n in 0..300 {
        set("names", &format!("trusted.{n:0>240}"), b"");
    }
    for n in 0..20 {
        set("values", &format!("trusted.{n}"), &[n; 60_000]);
    }
    for (name, before) in ["names", "values"].iter().zip(before) {
        let now = seen(&root, name).expect("there").entry;
        assert!(before.xattrs.are_whole() && !now.xattrs.are_whole(), "{name}");
        let size: usize = now.xattrs.0.values().map(|value| value.0.len()).sum();
        assert!(size <= 32, "{name}: {size} bytes are kept");
    }
    let first = seen(&root, "values").expect("there").entry;
    set("values", "trusted.7", b"other");
    assert_ne!(seen(&root, "values").expect("there").entry.xattrs, first.xattrs, "changes are still seen");
}

/// A terabyte of holes costs its maker nothing and took the daemon ten minutes each time.
#[test]
fn a_huge_file_of_holes_is_told_and_not_read() {
    let (dir, root) = tree();
    let file = fs::File::create(dir.path().join("hollow")).expect("made");
    file.set_len(1 << 40).expect("made long");
    let now = seen(&root, "hollow").expect("there").entry;
    assert_eq!((now.size, now.sha256), (1 << 40, None));
    file.set_len(100 << 20).expect("made shorter");
    assert!(seen(&root, "hollow").expect("there").entry.sha256.is_some(), "a moderate one is read");
}

struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// A user's own mount over a watched folder of his stopped every comparison below it.
#[test]
fn a_mount_that_tells_even_root_nothing_is_known_as_one() {
    let (dir, root) = tree();
    let at = dir.path().join("home");
    fs::create_dir(&at).expect("made");
    root.approve_mounts([]);
    let Ok(device) = fs::File::options().read(true).write(true).open("/dev/fuse") else {
        eprintln!("skipped: this kernel has no FUSE");
        return;
    };
    // Nobody answers at the other end; the kernel refuses root by itself.
    let text = format!("fd={},rootmode=40000,user_id=4711,group_id=815", device.as_raw_fd());
    let options = std::ffi::CString::new(text).expect("no NUL");
    let flags = rustix::mount::MountFlags::NODEV | rustix::mount::MountFlags::NOSUID;
    if rustix::mount::mount("nobody", &at, "fuse", flags, options.as_c_str()).is_err() {
        eprintln!("skipped: mounting needs root");
        return;
    }
    let _mounted = Mounted(at.clone());
    assert_eq!(fs::metadata(&at).expect_err("closed").raw_os_error(), Some(libc::EACCES));

    let now = seen(&root, "home").expect("there").entry;
    assert!(root.is_mounted_over(&rel("home"), &now));
    assert_eq!(root.mounted_above(&rel("home/ann/file")).expect("told"), Some(rel("home")));
    assert_eq!(root.mount_at(&rel("home")).expect("told"), "fuse from nobody");
}
