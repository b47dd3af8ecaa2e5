//! What has to come back, and what has to go.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::sync::atomic::{AtomicU64, Ordering};

use fim::core::entry::{Entry, FileType, Flags, XattrName, XattrValue};
use fim::core::event::Response;
use fim::core::path::RelPath;
use fim::core::plan::Step;
use fim::tree::attributes;
use fim::tree::private::is_private_name;
use rustix::fs::{FileType as Kind, IFlags, Mode, makedev};

use crate::world::{World, rel};

pub fn make_node(world: &World, name: &str, kind: Kind, dev: u64) {
    rustix::fs::mknodat(world.root.fd(), name, kind, Mode::from(0o640), dev).expect("made");
}

/// Bytes of `system.posix_acl_access`: version 2, then tag, permissions and id of each entry (linux/posix_acl_xattr.h).
pub fn acl() -> Vec<u8> {
    let mut out = 2_u32.to_le_bytes().to_vec();
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, u32::MAX), (2, 7, 4242), (4, 4, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)];
    for (tag, permissions, id) in entries {
        out.extend(tag.to_le_bytes());
        out.extend(permissions.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    out
}

/// cap_net_raw+ep, revision 2 of struct vfs_cap_data (linux/capability.h).
pub fn capability() -> Vec<u8> {
    vec![1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

pub fn alter(world: &World, path: &str, change: impl FnOnce(&mut Entry)) {
    let path = rel(path);
    let mut entry = world.found(&path).expect("there").entry;
    change(&mut entry);
    let fd = world.root.open_path(&path).expect("opens");
    attributes::apply(fd.as_fd(), &entry).expect("applied");
}

pub fn set_xattr(entry: &mut Entry, name: &str, value: Vec<u8>) {
    entry.xattrs.0.insert(XattrName(name.into()), XattrValue(value));
}

fn one_of_each(world: &World) {
    fs::create_dir_all(world.tree.join("dir/empty")).expect("made");
    fs::write(world.tree.join("dir/file"), "content").expect("written");
    fs::write(world.tree.join("nothing"), "").expect("written");
    fs::write(world.tree.join("large"), vec![0xa5; 3 << 20]).expect("written");
    symlink("dir/file", world.tree.join("link")).expect("made");
    make_node(world, "fifo", Kind::Fifo, 0);
    if rustix::process::geteuid().is_root() {
        make_node(world, "char", Kind::CharacterDevice, makedev(1, 3));
        make_node(world, "block", Kind::BlockDevice, makedev(7, 99));
    }
}

pub fn every_type_comes_back(world: &World) {
    one_of_each(world);
    let baseline = world.approve();
    assert!(world.reconcile(&baseline).is_empty(), "nothing differs yet");

    for path in baseline.keys().rev() {
        let full = path.below(&world.tree);
        let result = if full.symlink_metadata().expect("there").is_dir() {
            fs::remove_dir(&full)
        } else {
            fs::remove_file(&full)
        };
        result.expect("removed");
    }
    assert!(world.reconcile(&baseline).is_empty(), "nothing was there to keep");
    world.assert_equals(&baseline);

    // Each turns into something else, content or type.
    for path in baseline.keys().rev() {
        let full = path.below(&world.tree);
        if full.symlink_metadata().expect("there").is_dir() {
            fs::remove_dir_all(&full).expect("removed");
            symlink("/etc", &full).expect("made");
        } else {
            fs::remove_file(&full).expect("removed");
            fs::write(&full, format!("forged {path}")).expect("written");
        }
    }
    let evidence = world.reconcile(&baseline);
    world.assert_equals(&baseline);
    world.assert_evidence(&evidence, "link", b"forged link");
    world.assert_evidence(&evidence, "fifo", b"forged fifo");
    world.assert_evidence(&evidence, "large", b"forged large");
    let dir = evidence.iter().find(|e| e.path == rel("dir")).expect("evidence of the link");
    assert_eq!(dir.found.entry.target.as_deref(), Some(&b"/etc"[..]));
}

pub fn every_attribute_comes_back(world: &World) {
    if !rustix::process::geteuid().is_root() {
        println!("NOT TESTED: owners need root");
        return;
    }
    one_of_each(world);
    fs::write(world.tree.join("su"), "#!").expect("written");
    for (number, path) in ["dir", "dir/file", "large", "link", "fifo", "char", "su"].into_iter().enumerate() {
        alter(world, path, |e| {
            e.uid = 3000 + number as u32;
            e.gid = 5000 + number as u32;
            if e.kind != FileType::Symlink {
                e.mode = [0o2775, 0o640, 0o604, 0, 0o620, 0o606, 0o6755][number];
            }
            if e.kind != FileType::Directory {
                e.mtime_ns = 1_000_000_000_123_456_789 + number as i64;
            }
            if matches!(e.kind, FileType::Regular | FileType::Directory) {
                set_xattr(e, "user.note", vec![0, 0xff, number as u8]);
            }
            set_xattr(e, "trusted.note", b"root's".to_vec());
        });
    }
    alter(world, "su", |e| set_xattr(e, "security.capability", capability()));
    let with_acl = |e: &mut Entry| {
        set_xattr(e, "system.posix_acl_access", acl());
        e.mode = 0o670;
    };
    alter(world, "dir/file", with_acl);
    alter(world, "dir", |e| set_xattr(e, "system.posix_acl_default", acl()));
    let baseline = world.approve();
    assert_eq!(baseline[&rel("su")].mode, 0o6755);
    assert!(baseline[&rel("su")].xattrs.0.len() >= 3, "{:?}", baseline[&rel("su")]);

    // All wrong on the same objects, then all gone and made again below a folder whose default ACL gets in the way.
    for path in baseline.keys() {
        alter(world, std::str::from_utf8(path.as_bytes()).expect("text"), |e| {
            (e.uid, e.gid) = (77, 88);
            e.mode = 0o777;
            e.xattrs.0.clear();
            if e.kind == FileType::Regular {
                set_xattr(e, "user.forged", b"x".to_vec());
                e.mtime_ns = 5;
            }
        });
    }
    let evidence = world.reconcile(&baseline);
    world.assert_equals(&baseline);
    assert!(evidence.iter().all(|e| e.found.entry.uid == 77), "the state before is told");
    for path in baseline.keys().rev() {
        let full = path.below(&world.tree);
        let result = if full.symlink_metadata().expect("there").is_dir() {
            fs::remove_dir(&full)
        } else {
            fs::remove_file(&full)
        };
        result.expect("removed");
    }
    world.reconcile(&baseline);
    world.assert_equals(&baseline);
}

pub fn odd_names_and_depth(world: &World) {
    let mut path = RelPath::root();
    let long = [b'n'; 255];
    for _ in 0..18 {
        let dir = world.root.open_dir(&path).expect("opens");
        rustix::fs::mkdirat(&dir, &long[..], Mode::from(0o755)).expect("made");
        path = path.join(&long).expect("sound");
    }
    assert!(path.as_bytes().len() > 4096);
    let names: [&[u8]; 5] = [b"new\nline", b"not\xffutf8\xfe", b"\x1b[31m", b" ", &[0xc3; 255]];
    let dir = world.root.open_dir(&path).expect("opens");
    for name in names {
        rustix::fs::symlinkat(name, &dir, name).expect("made");
    }
    let baseline = world.approve();
    assert_eq!(baseline.len(), 18 + names.len());
    for name in names {
        rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::empty()).expect("removed");
    }
    let forged: &[u8] = b"\xf0forged";
    rustix::fs::mkdirat(&dir, forged, Mode::from(0o700)).expect("made");
    world.reconcile(&baseline);
    world.assert_equals(&baseline);
}

pub fn a_tree_in_the_place_of_a_file(world: &World) {
    fs::write(world.tree.join("file"), "approved").expect("written");
    let approved = world.approve()[&rel("file")].clone();
    fs::remove_file(world.tree.join("file")).expect("removed");
    let deep = world.tree.join("file/a/b/c/d");
    fs::create_dir_all(&deep).expect("made");
    fs::write(deep.join("tool"), "malware").expect("written");
    fs::write(world.tree.join("file/a/notes"), "notes").expect("written");
    symlink("tool", deep.join("link")).expect("made");

    let expected = world.found(&rel("file"));
    let outcome = world.carry_out(Step::Replace { path: rel("file"), approved: approved.clone(), expected });
    let outcome = outcome.expect("carried out");
    assert_eq!(outcome.response, Response::Restored);
    world.assert_evidence(&outcome.evidence, "file/a/b/c/d/tool", b"malware");
    world.assert_evidence(&outcome.evidence, "file/a/notes", b"notes");
    assert_eq!(outcome.evidence.len(), 5 + 3, "{:?}", outcome.evidence);
    assert_eq!(world.found(&rel("file")).expect("there").entry, approved);
}

pub fn everything_can_be_quarantined(world: &World) {
    let baseline = world.approve();
    one_of_each(world);
    let listener = std::os::unix::net::UnixListener::bind(world.tree.join("socket")).expect("bound");
    let dir = world.found(&rel("dir")).expect("there");
    let error = world.carry_out(Step::Quarantine { path: rel("dir"), expected: dir }).expect_err("not empty");
    assert!(error.to_string().contains("not empty"), "{error}");

    let file = world.found(&rel("nothing")).expect("there");
    let outcome =
        world.carry_out(Step::Delete { path: rel("nothing"), expected: file.clone() }).expect("deleted");
    assert_eq!((outcome.response, outcome.evidence.len()), (Response::Deleted, 1));
    let error =
        world.carry_out(Step::Delete { path: rel("nothing"), expected: file }).expect_err("gone already");
    assert!(matches!(error, fim::respond::ResponseError::Moved { .. }), "{error}");

    let count = world.walk().len();
    let evidence = world.reconcile(&baseline);
    world.assert_equals(&baseline);
    assert_eq!(evidence.len(), count);
    world.assert_evidence(&evidence, "dir/file", b"content");
    world.assert_evidence(&evidence, "large", &vec![0xa5; 3 << 20]);
    drop(listener);
}

/// Sets flags; `false` where the file system has none.
pub fn set_flags(path: &std::path::Path, flags: IFlags) -> bool {
    let file = fs::File::open(path).expect("opens");
    let Ok(before) = rustix::fs::ioctl_getflags(&file) else {
        return false;
    };
    rustix::fs::ioctl_setflags(&file, (before - IFlags::IMMUTABLE - IFlags::APPEND) | flags).is_ok()
}

pub fn flags_do_not_stop_it(world: &World) {
    fs::create_dir(world.tree.join("dir")).expect("made");
    for name in ["content", "mode", "gone"] {
        fs::write(world.tree.join("dir").join(name), name).expect("written");
    }
    let baseline = world.approve();
    let dir = world.tree.join("dir");
    fs::write(dir.join("content"), "forged").expect("written");
    fs::remove_file(dir.join("gone")).expect("removed");
    fs::write(dir.join("new"), "new").expect("written");
    alter(world, "dir/mode", |e| e.mode = 0o777);
    if !set_flags(&dir.join("content"), IFlags::IMMUTABLE) {
        println!("no flags on this file system");
        return;
    }
    for (name, flag) in [("mode", IFlags::IMMUTABLE), ("new", IFlags::APPEND), ("", IFlags::IMMUTABLE)] {
        assert!(set_flags(&dir.join(name), flag), "{name}");
    }
    assert!(fs::write(dir.join("more"), "").is_err(), "the flags are at work");
    let evidence = world.reconcile(&baseline);
    world.assert_evidence(&evidence, "dir/content", b"forged");
    world.assert_evidence(&evidence, "dir/new", b"new");
    world.assert_equals(&baseline);

    // Approved flags come back as well, on content that is replaced and on a folder whose content is.
    for (name, flag) in [("mode", IFlags::IMMUTABLE), ("gone", IFlags::APPEND), ("content", IFlags::NODUMP)] {
        assert!(set_flags(&dir.join(name), flag), "{name}");
    }
    assert!(set_flags(&dir, IFlags::IMMUTABLE));
    let flagged = world.approve();
    assert_ne!(flagged, baseline, "flags are part of the approved state");
    for name in ["", "mode", "gone", "content"] {
        assert!(set_flags(&dir.join(name), IFlags::empty()), "{name}");
    }
    fs::write(dir.join("mode"), "forged").expect("written");
    fs::remove_file(dir.join("gone")).expect("removed");
    world.reconcile(&flagged);
    world.assert_equals(&flagged);
    // The temporary folder has to be removable.
    for name in ["", "mode", "gone", "content"] {
        assert!(set_flags(&dir.join(name), IFlags::empty()), "{name}");
    }
}

/// As after a move of the whole tree: what this file system cannot hold is neither a difference nor a failure.
pub fn flags_of_another_file_system(world: &World) {
    fs::create_dir(world.tree.join("dir")).expect("made");
    fs::write(world.tree.join("dir/file"), "approved").expect("written");
    let mut baseline = world.approve();
    let held = |path: &str| world.found(&rel(path)).expect("there").entry.flags;
    let exotic = [Flags::SECURE_REMOVAL, Flags::TOPDIR, Flags::UNRM, Flags::NOTAIL, Flags::DIRSYNC];
    for entry in baseline.values_mut() {
        entry.flags = exotic.iter().fold(entry.flags, |all, flag| all.with(*flag, true));
    }
    for _ in 0..2 {
        // The first round is where an overlay's abilities are learned.
        world.reconcile(&baseline);
        assert!(world.reconcile(&baseline).is_empty(), "nothing differs any more");
        fs::write(world.tree.join("dir/file"), "forged").expect("written");
        let evidence = world.reconcile(&baseline);
        assert_eq!(evidence.len(), 1, "{evidence:?}");
        fs::remove_dir_all(world.tree.join("dir")).expect("removed");
        world.reconcile(&baseline);
        assert_eq!(fs::read(world.tree.join("dir/file")).expect("there"), b"approved");
    }
    println!("  held here: {}; {}", held("dir"), held("dir/file"));
    // Only who has CAP_SYS_RESOURCE may set this one; that is no reason to leave forged content there.
    baseline
        .insert(rel("dir/file"), Entry { flags: Flags::JOURNAL_DATA, ..baseline[&rel("dir/file")].clone() });
    fs::write(world.tree.join("dir/file"), "forged").expect("written");
    let (approved, expected) = (baseline[&rel("dir/file")].clone(), world.found(&rel("dir/file")));
    let result = world.carry_out(Step::Replace { path: rel("dir/file"), approved, expected });
    println!("  {:?}", result.map(|outcome| outcome.response).map_err(|error| error.to_string()));
    assert_eq!(fs::read(world.tree.join("dir/file")).expect("there"), b"approved");
}

pub fn a_tree_goes_from_an_immutable_folder(world: &World) {
    let dir = world.tree.join("dir");
    fs::create_dir(&dir).expect("made");
    fs::write(dir.join("file"), "approved").expect("written");
    if !set_flags(&dir, IFlags::IMMUTABLE) {
        println!("no flags on this file system");
        return;
    }
    let baseline = world.approve();
    set_flags(&dir, IFlags::empty());
    fs::remove_file(dir.join("file")).expect("removed");
    fs::create_dir_all(dir.join("file/below")).expect("made");
    fs::write(dir.join("file/below/it"), "planted").expect("written");
    set_flags(&dir, IFlags::IMMUTABLE);
    let evidence = world.reconcile(&baseline);
    world.assert_evidence(&evidence, "dir/file/below/it", b"planted");
    world.assert_equals(&baseline);
    set_flags(&dir, IFlags::empty());
}

/// A file that was a mount of its own when it was approved is written over where it is; what is mounted later is let be.
pub fn mount_points(world: &World) {
    use std::process::Command;
    if !rustix::process::geteuid().is_root() {
        println!("NOT TESTED: mounts need root");
        return;
    }
    let (file, source) = (world.tree.join("file"), world.outside.join("source"));
    fs::write(&file, "below").expect("written");
    fs::write(&source, "approved and long").expect("written");
    fs::create_dir(world.tree.join("dir")).expect("made");
    let bind = |from: &std::path::Path, to: &std::path::Path| {
        let status = Command::new("mount").arg("--bind").arg(from).arg(to).status();
        assert!(status.expect("mount runs").success());
    };
    bind(&source, &file);
    let baseline = world.approve();
    fs::write(&file, "forged").expect("written");
    alter(world, "file", |e| e.mode = 0o666);
    let expected = world.found(&rel("file")).expect("there");
    let step = Step::Replace {
        path: rel("file"),
        approved: baseline[&rel("file")].clone(),
        expected: Some(expected.clone()),
    };
    let outcome = world.carry_out(step);
    let evidence = outcome.as_ref().map(|o| o.evidence.clone()).unwrap_or_default();
    let equal = world.walk().into_iter().map(|(path, found)| (path, found.entry)).collect::<Vec<_>>();

    bind(&world.outside, &world.tree.join("dir"));
    let over = world.found(&rel("dir")).expect("there");
    let steps = [
        Step::Quarantine { path: rel("dir"), expected: over.clone() },
        Step::Reattribute { path: rel("dir"), approved: baseline[&rel("dir")].clone(), expected: over },
    ];
    let refused: Vec<_> = steps.into_iter().map(|step| world.carry_out(step)).collect();
    for path in [&world.tree.join("dir"), &file] {
        assert!(Command::new("umount").arg(path).status().expect("umount runs").success());
    }
    let outcome = outcome.expect("in place");
    assert!(outcome.method.is_some_and(|m| m.contains("mount point")), "{outcome:?}");
    assert_eq!(equal, baseline.into_iter().collect::<Vec<_>>());
    world.assert_evidence(&evidence, "file", b"forged");
    for refused in refused {
        let error = refused.expect_err("it is mounted over").to_string();
        assert!(error.contains("mounted over"), "{error}");
    }
    assert_eq!(fs::read_to_string(&file).expect("readable"), "below", "what is below the mount is untouched");
}

/// The file system below a mount point is full in the middle of a restore in place.
pub fn a_failure_in_place_takes_no_flag_away(world: &World) {
    use std::process::Command;
    if !rustix::process::geteuid().is_root() {
        println!("NOT TESTED: mounts need root");
        return;
    }
    let run = |program: &str, args: &[&std::ffi::OsStr]| {
        assert!(Command::new(program).args(args).status().expect("runs").success(), "{program} {args:?}");
    };
    let (small, file) = (world.outside.join("small"), world.tree.join("file"));
    let (source, ballast) = (small.join("source"), small.join("ballast"));
    fs::create_dir(&small).expect("made");
    fs::write(&file, "below").expect("written");
    let tmpfs = ["-t", "tmpfs", "-o", "size=1m", "none"].map(AsRef::as_ref);
    run("mount", &[&tmpfs[..], &[small.as_os_str()]].concat());
    let content: Vec<u8> =
        (0..600u32 << 8).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(&source, &content).expect("written");
    run("mount", &["--bind".as_ref(), source.as_os_str(), file.as_os_str()]);
    let baseline = world.approve();
    fs::write(&file, "forged").expect("written");
    fs::write(&ballast, vec![1; 900 << 10]).expect("written");
    let settable = set_flags(&source, IFlags::IMMUTABLE);
    let immutable = || {
        let file = fs::File::open(&source).expect("opens");
        rustix::fs::ioctl_getflags(&file).is_ok_and(|flags| flags.contains(IFlags::IMMUTABLE))
    };
    let put_right = || {
        let expected = world.found(&rel("file"));
        let approved = baseline[&rel("file")].clone();
        world.carry_out(Step::Replace { path: rel("file"), approved, expected })
    };
    let failed = put_right();
    let still = immutable();
    fs::remove_file(&ballast).expect("removed");
    let done = put_right();
    let now = fs::read(&file).expect("readable");
    let cleared = !immutable();
    run("umount", &[file.as_os_str()]);
    run("umount", &[small.as_os_str()]);
    let error = failed.expect_err("there is no room").to_string();
    assert!(error.contains("No space left"), "{error}");
    done.expect("there is room");
    assert!(now == content && cleared);
    match settable {
        true => assert!(still, "a failure leaves the immutable flag"),
        false => println!("NOT TESTED: tmpfs has no flags on this kernel"),
    }
}

/// A private name that no other case uses.
fn leftover_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!(".fim-{:016x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn leftovers_become_evidence(world: &World) {
    fs::create_dir(world.tree.join("dir")).expect("made");
    let baseline = world.approve();
    // Names of this process are in flight for all of its threads, and the cases run on several file systems at once.
    let (file, tree) = (leftover_name(), leftover_name());
    fs::write(world.tree.join("dir").join(&file), "half").expect("written");
    let below = world.tree.join("dir").join(&tree).join("below");
    fs::create_dir_all(&below).expect("made");
    fs::write(below.join("it"), "planted").expect("written");
    assert!(
        is_private_name(file.as_bytes())
            && is_private_name(tree.as_bytes())
            && !is_private_name(b".fim-plain")
    );

    let recover = |name: &str| world.responder.recover(&world.root, &rel("dir"), name.as_bytes());
    let evidence = recover(&file).expect("recovered");
    world.assert_evidence(&evidence, &format!("dir/{file}"), b"half");
    let evidence = recover(&tree).expect("recovered");
    world.assert_evidence(&evidence, &format!("dir/{tree}/below/it"), b"planted");
    assert!(recover(&file).expect("nothing left to do").is_empty());
    assert!(recover("other").is_err());
    world.assert_equals(&baseline);
}

pub fn holes_stay_holes(world: &World) {
    use std::os::unix::fs::FileExt;
    let path = world.tree.join("sparse");
    let file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path);
    let file = file.expect("made");
    file.set_len(8 << 20).expect("set");
    file.write_all_at(b"x", 5 << 20).expect("written");
    drop(file);
    let baseline = world.approve();
    fs::write(&path, "forged").expect("written");
    world.reconcile(&baseline);
    world.assert_equals(&baseline);
    let meta = fs::metadata(&path).expect("there");
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks of 512 bytes", meta.blocks());
}
