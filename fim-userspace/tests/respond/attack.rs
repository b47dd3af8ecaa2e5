//! Somebody else is in the tree at the same moment.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fim::core::entry::Digest;
use fim::core::plan::Step;
use fim::respond::ResponseError;
use fim::tree::inspect::inspect;
use fim::tree::private::is_private_name;
use rustix::fs::{FileType as Kind, IFlags};

use crate::cases::{alter, make_node, set_flags};
use crate::world::{World, rel};

pub fn a_swapped_parent_leaves_the_outside_alone(world: &World) {
    fs::create_dir(world.tree.join("dir")).expect("made");
    fs::write(world.tree.join("dir/file"), "approved").expect("written");
    fs::write(world.outside.join("file"), "secret").expect("written");
    fs::set_permissions(world.outside.join("file"), fs::Permissions::from_mode(0o604)).expect("set");
    let approved = world.approve()[&rel("dir/file")].clone();
    fs::write(world.tree.join("dir/file"), "altered").expect("written");
    let expected = world.found(&rel("dir/file")).expect("there");

    fs::rename(world.tree.join("dir"), world.tree.join("moved")).expect("moved");
    symlink(&world.outside, world.tree.join("dir")).expect("made");
    let path = rel("dir/file");
    let steps = [
        Step::Replace { path: path.clone(), approved: approved.clone(), expected: Some(expected.clone()) },
        Step::Replace { path: path.clone(), approved: approved.clone(), expected: None },
        Step::Quarantine { path: path.clone(), expected: expected.clone() },
        Step::Delete { path: path.clone(), expected: expected.clone() },
        Step::Reattribute { path, approved, expected },
    ];
    for step in steps {
        let error = world.carry_out(step.clone()).expect_err("the parent is a link");
        assert!(matches!(error, ResponseError::ParentMissing { .. }), "{error} in {step:?}");
    }
    let names: Vec<_> = fs::read_dir(&world.outside).expect("readable").collect();
    assert_eq!(names.len(), 1);
    assert_eq!(fs::read(world.outside.join("file")).expect("readable"), b"secret");
    let mode = fs::metadata(world.outside.join("file")).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o604);
}

pub fn another_file_meanwhile_is_not_lost(world: &World) {
    let path = world.tree.join("file");
    fs::write(&path, "approved").expect("written");
    let approved = world.approve()[&rel("file")].clone();
    fs::write(&path, "altered").expect("written");
    let expected = world.found(&rel("file")).expect("there");
    fs::write(world.tree.join("new"), "another").expect("written");
    fs::rename(world.tree.join("new"), &path).expect("renamed");
    let path = rel("file");
    let steps = [
        Step::Replace { path: path.clone(), approved: approved.clone(), expected: Some(expected.clone()) },
        Step::Replace { path: path.clone(), approved: approved.clone(), expected: None },
        Step::Quarantine { path: path.clone(), expected: expected.clone() },
        Step::Reattribute { path, approved, expected },
    ];
    for step in steps {
        let error = world.carry_out(step.clone()).expect_err("it is another file");
        assert!(matches!(error, ResponseError::Moved { .. }), "{error} in {step:?}");
        assert_eq!(fs::read(world.tree.join("file")).expect("there"), b"another", "{step:?}");
    }
}

pub fn a_fifo_never_blocks(world: &World) {
    fs::write(world.tree.join("file"), "approved").expect("written");
    let baseline = world.approve();
    let was = world.found(&rel("file")).expect("there");
    fs::remove_file(world.tree.join("file")).expect("removed");
    make_node(world, "file", Kind::Fifo, 0);
    // The plan was made for the regular file; the FIFO has come since.
    let step = Step::Quarantine { path: rel("file"), expected: was };
    assert!(matches!(world.carry_out(step), Err(ResponseError::Moved { .. })));
    let evidence = world.reconcile(&baseline);
    world.assert_equals(&baseline);
    assert_eq!(evidence.len(), 1);
}

pub fn a_linked_special_file_keeps_its_attributes(world: &World) {
    make_node(world, "fifo", Kind::Fifo, 0);
    let baseline = world.approve();
    fs::remove_file(world.tree.join("fifo")).expect("removed");
    let theirs = world.outside.join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &theirs, Kind::Fifo, 0o600.into(), 0).expect("made");
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o604)).expect("set");
    fs::hard_link(&theirs, world.tree.join("fifo")).expect("linked");
    world.reconcile(&baseline);
    world.assert_equals(&baseline);
    assert_eq!(fs::metadata(&theirs).expect("there").permissions().mode() & 0o7777, 0o604);
}

/// Somebody links a file of root's with the very same content into the place of an approved one. The vault holds no content.
pub fn a_linked_file_keeps_its_attributes(world: &World) {
    let (path, theirs) = (world.tree.join("file"), world.outside.join("theirs"));
    fs::write(&path, "the same").expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("set");
    let approved = world.found(&rel("file")).expect("there").entry;
    fs::remove_file(&path).expect("removed");
    fs::write(&theirs, "the same").expect("written");
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o600)).expect("set");
    fs::hard_link(&theirs, &path).expect("linked");
    let before = fs::metadata(&theirs).expect("there");
    let expected = world.found(&rel("file")).expect("there");
    let step = Step::Reattribute { path: rel("file"), approved: approved.clone(), expected };
    let outcome = world.carry_out(step).expect("the name gets a file of its own");
    assert_eq!(world.found(&rel("file")).expect("there").entry, approved);
    assert_eq!(outcome.evidence.len(), 1);
    let after = fs::metadata(&theirs).expect("there");
    assert_eq!((after.mode(), after.mtime(), after.nlink()), (before.mode(), before.mtime(), 1));
    assert_eq!(fs::read(&theirs).expect("there"), b"the same");

    // A socket cannot be made anew.
    let (path, theirs) = (world.tree.join("socket"), world.outside.join("s"));
    let _ours = std::os::unix::net::UnixListener::bind(&path).expect("bound");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("set");
    let approved = world.found(&rel("socket")).expect("there").entry;
    fs::remove_file(&path).expect("removed");
    let _theirs = std::os::unix::net::UnixListener::bind(&theirs).expect("bound");
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o600)).expect("set");
    fs::hard_link(&theirs, &path).expect("linked");
    let expected = world.found(&rel("socket")).expect("there");
    let step = Step::Reattribute { path: rel("socket"), approved, expected };
    let error = world.carry_out(step).expect_err("it may be somebody else's").to_string();
    assert!(error.contains("other names"), "{error}");
    assert_eq!(fs::metadata(&theirs).expect("there").permissions().mode() & 0o7777, 0o600);
}

/// Somebody links an immutable file of root's into the watch: it stays immutable under its other name.
pub fn a_linked_file_keeps_its_flags(world: &World) {
    let (path, theirs) = (world.tree.join("file"), world.outside.join("theirs"));
    fs::write(&path, "approved").expect("written");
    let baseline = world.approve();
    fs::remove_file(&path).expect("removed");
    fs::write(&theirs, "theirs").expect("written");
    fs::hard_link(&theirs, &path).expect("linked");
    fs::hard_link(&theirs, world.tree.join("more")).expect("linked");
    if !set_flags(&theirs, IFlags::IMMUTABLE | IFlags::NODUMP) {
        println!("no flags on this file system");
        return;
    }
    let evidence = world.reconcile(&baseline);
    world.assert_evidence(&evidence, "file", b"theirs");
    world.assert_evidence(&evidence, "more", b"theirs");
    world.assert_equals(&baseline);
    let file = fs::File::open(&theirs).expect("opens");
    let flags = rustix::fs::ioctl_getflags(&file).expect("readable");
    set_flags(&theirs, IFlags::empty());
    assert!(flags.contains(IFlags::IMMUTABLE | IFlags::NODUMP), "{flags:?}");
    assert_eq!(fs::metadata(&theirs).expect("there").nlink(), 1);
}

pub fn an_old_writer_reaches_only_evidence(world: &World) {
    let path = world.tree.join("file");
    fs::write(&path, "approved").expect("written");
    let baseline = world.approve();
    let mut writer = fs::OpenOptions::new().read(true).write(true).open(&path).expect("opens");
    writer.write_all(b"altered!").expect("written");
    let evidence = world.reconcile(&baseline);
    world.assert_evidence(&evidence, "file", b"altered!");
    writer.write_all(b" and more").expect("still open");
    assert_eq!(fs::read(&path).expect("there"), b"approved");
    world.assert_equals(&baseline);
    let mut held = String::new();
    writer.seek(SeekFrom::Start(0)).expect("seeks");
    writer.read_to_string(&mut held).expect("readable");
    assert_eq!(held, "altered! and more", "the altered file itself lives on for its writer only");
}

pub fn no_privileges_for_altered_content(world: &World) {
    let path = world.tree.join("tool");
    fs::write(&path, "trusted").expect("written");
    alter(world, "tool", |e| e.mode = 0o4755);
    let baseline = world.approve();
    let approved = baseline[&rel("tool")].clone();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("set");
    let expected = world.found(&rel("tool")).expect("there");
    // Between the look and the response the content changes, on the same inode.
    fs::write(&path, "forged!").expect("written");
    let step = Step::Reattribute { path: rel("tool"), approved, expected };
    let outcome = world.carry_out(step).expect("the whole file is replaced");
    world.assert_evidence(&outcome.evidence, "tool", b"forged!");
    world.assert_equals(&baseline);

    fs::write(world.tree.join("plain"), "plain").expect("written");
    let baseline = world.approve();
    alter(world, "plain", |e| e.mode = 0o666);
    let expected = world.found(&rel("plain")).expect("there");
    fs::write(world.tree.join("plain"), "forged").expect("written");
    let step = Step::Reattribute { path: rel("plain"), approved: baseline[&rel("plain")].clone(), expected };
    assert!(matches!(world.carry_out(step), Err(ResponseError::Moved { .. })));
    world.reconcile(&baseline);
    world.assert_equals(&baseline);
}

/// Swaps a folder and a link to the outside, again and again, while responses go on below it.
pub fn a_swapping_attacker_gets_nothing(world: &World) {
    let (real, aside, link) = (world.tree.join("dir"), world.tree.join("aside"), world.tree.join("link"));
    fs::create_dir(&real).expect("made");
    fs::write(real.join("file"), "approved").expect("written");
    fs::write(world.outside.join("file"), "secret").expect("written");
    fs::set_permissions(world.outside.join("file"), fs::Permissions::from_mode(0o604)).expect("set");
    symlink(&world.outside, &link).expect("made");
    let approved = world.approve()[&rel("dir/file")].clone();
    let before = (outside_state(world), descriptors(world));

    let done = AtomicBool::new(false);
    let (mut restored, mut moved, mut tries) = (0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                fs::rename(&real, &aside).expect("only the attacker renames these");
                fs::rename(&link, &real).expect("renamed");
                fs::rename(&real, &link).expect("renamed");
                fs::rename(&aside, &real).expect("renamed");
                let _ = fs::write(aside.join("file"), "altered")
                    .or_else(|_| fs::write(real.join("file"), "altered"));
            }
        });
        let deadline = Instant::now() + Duration::from_secs(5);
        while restored < 40 && Instant::now() < deadline {
            tries += 1;
            let path = rel("dir/file");
            let Ok(found) = inspect(&world.root, &path, None) else {
                continue;
            };
            assert_ne!(found.as_ref().and_then(|f| f.entry.sha256), Some(secret()), "read from outside");
            let step = Step::Replace { path, approved: approved.clone(), expected: found };
            match world.carry_out(step) {
                Ok(_) => restored += 1,
                Err(ResponseError::Moved { .. }) => moved += 1,
                Err(ResponseError::ParentMissing { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    println!(
        "  {restored} of {tries} responses met the real folder, {moved} found it changed since the look"
    );
    assert!(restored > 0);
    assert_eq!((outside_state(world), descriptors(world)), before);
    for path in world.walk().into_keys().filter(|p| is_private_name(p.name().expect("not the root"))) {
        let dir = path.parent().expect("not the root");
        world.responder.recover(&world.root, &dir, path.name().expect("a name")).expect("recovered");
    }
}

fn secret() -> Digest {
    Digest::from_hex("2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b").expect("hexadecimal")
}

fn outside_state(world: &World) -> Vec<(std::ffi::OsString, Vec<u8>, u32, i64)> {
    let items = fs::read_dir(&world.outside).expect("readable");
    let mut all: Vec<_> = items
        .map(|item| {
            let item = item.expect("readable");
            let meta = item.metadata().expect("there");
            let content = fs::read(item.path()).expect("readable");
            (item.file_name(), content, meta.permissions().mode(), meta.ctime_nsec())
        })
        .collect();
    all.sort();
    all
}

/// How many descriptors this process has open on this case's file system below its tree; other cases run beside it.
fn descriptors(world: &World) -> usize {
    let top = world.tree.parent().expect("a folder above");
    let links = fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    links.filter_map(|l| fs::read_link(l.ok()?.path()).ok()).filter(|target| target.starts_with(top)).count()
}
