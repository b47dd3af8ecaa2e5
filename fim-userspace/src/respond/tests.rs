//! What the file systems at hand do not need, and races brought to the very moment.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::core::entry::Entry;
use crate::store::vault::VaultError;
use crate::tree::inspect::inspect;
use object::Id;

struct World {
    dir: tempfile::TempDir,
    root: Root,
    vault: Arc<Vault>,
    approved: Entry,
}

fn path() -> RelPath {
    RelPath::new("file").expect("sound")
}

impl World {
    /// `file` holds "altered" where "approved" is right.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).expect("made");
        let vault = Arc::new(Vault::open(&dir.path().join("vault")).expect("a vault"));
        let root = Root::open(&tree).expect("opens");
        fs::write(tree.join("file"), "approved").expect("written");
        vault.put(&mut &b"approved"[..]).expect("stored");
        let approved = inspect(&root, &path(), None).expect("works").expect("there").entry;
        fs::write(tree.join("file"), "altered").expect("written");
        Self { dir, root, vault, approved }
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    fn found(&self) -> Found {
        inspect(&self.root, &path(), None).expect("works").expect("there")
    }

    fn content(&self) -> String {
        fs::read_to_string(self.tree().join("file")).expect("there")
    }

    fn names(&self) -> Vec<String> {
        names(&self.tree())
    }

    fn evidence(&self, evidence: &[Evidence]) -> Vec<String> {
        let text = |d| String::from_utf8(self.vault.read(&d).expect("sound")).expect("text");
        evidence.iter().filter_map(|e| e.digest).map(text).collect()
    }

    /// What the step left is done; its evidence.
    fn end(&self, act: Act<'_>) -> Vec<Evidence> {
        let responder = Responder::new(self.vault.clone());
        let Ended { mut evidence, pending, .. } = act.end(&mut None);
        let mut pendings: Vec<Pending> = pending.into_iter().collect();
        responder.secure(&self.root, &mut pendings);
        evidence.extend(pendings.iter_mut().flat_map(Pending::take_evidence));
        assert_eq!(responder.release(pendings), []);
        evidence
    }

    /// The vault cannot take anything any more.
    fn break_vault(&self) {
        fs::remove_dir(self.vault.path().join("tmp")).expect("removed");
    }
}

fn names(dir: &Path) -> Vec<String> {
    let items = fs::read_dir(dir).expect("readable");
    items.map(|i| i.expect("readable").file_name().into_string().expect("text")).collect()
}

#[test]
fn without_exchange_the_altered_file_is_moved_aside() {
    let world = World::new();
    let path = path();
    let mut act = Act::begin(&world.vault, &world.root, &path, &mut None).expect("begins");
    let built = act.build(&world.approved).expect("built");
    act.displace(&built, Id::expected(&world.found())).expect("displaced");
    assert_eq!(world.evidence(&world.end(act)), ["altered"]);
    assert_eq!(world.found().entry, world.approved);
    assert_eq!(world.names(), ["file"]);
}

#[test]
fn without_rename_flags_nothing_is_replaced() {
    let world = World::new();
    let path = path();
    let act = Act::begin(&world.vault, &world.root, &path, &mut None).expect("begins");
    fs::write(world.tree().join("other"), "other").expect("written");
    fs::create_dir(world.tree().join("dir")).expect("made");
    let rename =
        |from: &str, to: &str| rename::rename_without_flags(act.dir(), from.as_bytes(), to.as_bytes());
    assert!(rename("other", "file").is_err());
    assert!(rename("dir", "file").is_err());
    assert_eq!(world.content(), "altered");
    rename("other", "free").expect("renamed");
    rename("dir", "folder").expect("renamed");
    let mut names = world.names();
    names.sort();
    assert_eq!(names, ["file", "folder", "free"]);
}

#[test]
fn what_came_meanwhile_gets_its_place_back() {
    let world = World::new();
    let path = path();
    let expected = Id::expected(&world.found());
    fs::write(world.tree().join("new"), "meanwhile").expect("written");
    for displace in [false, true] {
        let mut act = Act::begin(&world.vault, &world.root, &path, &mut None).expect("begins");
        let built = act.build(&world.approved).expect("built");
        let _ = fs::rename(world.tree().join("new"), world.tree().join("file"));
        let result = if displace { act.displace(&built, expected) } else { act.exchange(&built, expected) };
        assert!(matches!(result, Err(Failure::Moved)), "{result:?}");
        act.discard(&built);
        world.end(act);
        assert_eq!((world.content().as_str(), world.names().len()), ("meanwhile", 1), "displace: {displace}");
    }
}

#[test]
fn a_forgery_under_the_private_name_is_noticed_and_loses_nothing() {
    let world = World::new();
    let path = path();
    let expected = Id::expected(&world.found());
    let mut act = Act::begin(&world.vault, &world.root, &path, &mut None).expect("begins");
    let built = act.build(&world.approved).expect("built");
    let private = world.tree().join(built.name.to_string());
    fs::rename(&private, world.tree().join("stolen")).expect("renamed");
    fs::write(&private, "forged").expect("written");
    let result = act.exchange(&built, expected);
    assert!(matches!(result, Err(Failure::Moved)), "{result:?}");
    assert_eq!(world.content(), "forged", "looked at again, and found to differ");
    assert_eq!(world.evidence(&world.end(act)), ["altered"]);

    let mut act = Act::begin(&world.vault, &world.root, &path, &mut None).expect("begins");
    let built = act.build(&world.approved).expect("built");
    let private = world.tree().join(built.name.to_string());
    fs::remove_file(&private).expect("removed");
    fs::write(&private, "planted").expect("written");
    act.discard(&built);
    assert_eq!(world.evidence(&world.end(act)), ["planted"], "never removed without evidence");
}

#[test]
fn without_a_vault_nothing_is_removed() {
    let world = World::new();
    let responder = Responder::new(world.vault.clone());
    let expected = world.found();
    world.break_vault();
    let quarantine = Step::Quarantine { path: path(), expected: expected.clone() };
    let error = responder.carry_out(&world.root, &quarantine).expect_err("the vault is gone");
    assert!(matches!(error, ResponseError::Failed { .. }), "{error}");
    assert_eq!((world.content().as_str(), world.names().len()), ("altered", 1), "back in its place");

    let replace = Step::Replace { path: path(), approved: world.approved.clone(), expected: Some(expected) };
    let error = responder.carry_out(&world.root, &replace).expect_err("the vault is gone");
    let left = world.names().into_iter().find(|n| n != "file").expect("kept beside it");
    assert!(error.to_string().contains("right again") && error.to_string().contains(&left), "{error}");
    assert_eq!(world.content(), "approved");
    assert_eq!(fs::read_to_string(world.tree().join(&left)).expect("there"), "altered");

    let vault = Arc::new(Vault::open(world.vault.path()).expect("made again"));
    let evidence = Responder::new(vault).recover(&world.root, &RelPath::root(), left.as_bytes());
    assert_eq!(world.evidence(&evidence.expect("recovered")), ["altered"]);
    assert_eq!(world.names(), ["file"]);
}

/// Its other name may be somebody else's, who wants it immutable however the response ends.
#[test]
fn an_immutable_link_stays_immutable_when_it_gets_its_place_back() {
    use rustix::fs::IFlags;
    let world = World::new();
    let outside = world.dir.path().join("outside");
    fs::hard_link(world.tree().join("file"), &outside).expect("linked");
    let file = fs::File::open(&outside).expect("opens");
    if rustix::fs::ioctl_setflags(&file, IFlags::IMMUTABLE).is_err() {
        println!("NOT TESTED: flags need root, and a file system that has them");
        return;
    }
    let responder = Responder::new(world.vault.clone());
    let expected = world.found();
    world.break_vault();
    let quarantine = Step::Quarantine { path: path(), expected: expected.clone() };
    let given_back = responder.carry_out(&world.root, &quarantine);
    let (flags, names) = (rustix::fs::ioctl_getflags(&file), world.names());
    let act = Act::begin(&world.vault, &world.root, &RelPath::new("file").expect("sound"), &mut None).map(
        |mut act| {
            // The approved version cannot be the one that stands there: the exchange is undone.
            let built = act.build(&world.approved).expect("built");
            let other = Id::of(&rustix::fs::fstat(&built.held).expect("open"));
            let undone = act.exchange(&built, other);
            act.discard(&built);
            undone
        },
    );
    let after = rustix::fs::ioctl_getflags(&file);
    let _ = rustix::fs::ioctl_setflags(&file, IFlags::empty());
    assert!(matches!(given_back, Err(ResponseError::Failed { .. })), "{given_back:?}");
    assert_eq!(names, ["file"], "back in its place");
    assert!(flags.expect("readable").contains(IFlags::IMMUTABLE));
    assert!(matches!(act.expect("begun"), Err(Failure::Moved)));
    assert!(after.expect("readable").contains(IFlags::IMMUTABLE));
    assert_eq!(world.content(), "altered");
    assert_eq!(world.names(), ["file"]);
}

#[test]
fn damaged_approved_content_never_becomes_visible() {
    let world = World::new();
    let digest = world.approved.sha256.expect("a digest").to_string();
    let object = world.vault.path().join("objects").join(&digest[..2]).join(&digest[2..]);
    fs::write(object, zstd::bulk::compress(b"wrong", 1).expect("compresses")).expect("written");
    let responder = Responder::new(world.vault.clone());
    let step =
        Step::Replace { path: path(), approved: world.approved.clone(), expected: Some(world.found()) };
    let error = responder.carry_out(&world.root, &step).expect_err("damaged");
    assert!(error.to_string().contains("damaged"), "{error}");
    assert_eq!((world.content().as_str(), world.names().len()), ("altered", 1));
    let digest = &world.approved.sha256.expect("a digest");
    assert!(matches!(world.vault.read(digest), Err(VaultError::Corrupt { .. })));
}

#[test]
fn the_watched_folder_itself_only_gets_attributes() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let responder = Responder::new(world.vault.clone());
    let root = || inspect(&world.root, &RelPath::root(), None).expect("works").expect("there");
    let approved = root().entry;
    fs::set_permissions(world.tree(), fs::Permissions::from_mode(0o1777)).expect("set");
    let (path, expected) = (RelPath::root(), root());
    let step =
        Step::Reattribute { path: path.clone(), approved: approved.clone(), expected: expected.clone() };
    responder.carry_out(&world.root, &step).expect("carried out");
    assert_eq!(root().entry, approved);
    for step in [
        Step::Quarantine { path: path.clone(), expected: expected.clone() },
        Step::Replace { path, approved, expected: Some(expected) },
    ] {
        assert!(matches!(responder.carry_out(&world.root, &step), Err(ResponseError::Failed { .. })));
    }
}

#[test]
fn a_renamed_file_gets_its_name_back_but_never_over_another() {
    let world = World::new();
    let responder = Responder::new(world.vault.clone());
    let expected = world.found();
    let moved = RelPath::new("moved").expect("sound");
    let step = Step::MoveBack { from: moved.clone(), to: path(), expected: expected.clone() };
    let rename = || fs::rename(world.tree().join("file"), world.tree().join("moved")).expect("renamed");
    rename();
    let file = fs::File::open(world.tree().join("moved")).expect("opens");
    // Where the file system has no such flag, the rename is not refused either.
    let _ = rustix::fs::ioctl_setflags(&file, rustix::fs::IFlags::IMMUTABLE);
    responder.carry_out(&world.root, &step).expect("moved back");
    assert_eq!((world.content().as_str(), world.names().len()), ("altered", 1));
    assert_eq!(world.found().identity.ino, expected.identity.ino);

    rename();
    fs::write(world.tree().join("file"), "another").expect("written");
    let error = responder.carry_out(&world.root, &step).expect_err("the name is taken");
    assert!(matches!(error, ResponseError::Moved { .. }), "{error}");
    assert_eq!((world.content().as_str(), world.names().len()), ("another", 2));
}

#[test]
fn what_was_there_stays_until_it_is_released() {
    let world = World::new();
    let responder = Responder::new(world.vault.clone());
    fs::write(world.tree().join("new"), "planted").expect("written");
    let planted = RelPath::new("new").expect("sound");
    let new = inspect(&world.root, &planted, None).expect("works").expect("there");
    let steps = [
        Step::Replace { path: path(), approved: world.approved.clone(), expected: Some(world.found()) },
        Step::Quarantine { path: planted, expected: new },
    ];
    let mut pendings = Vec::new();
    for step in &steps {
        let outcome = responder.begin(&world.root, step, &mut None, &mut pendings).expect("begun");
        assert!(outcome.evidence.is_empty());
    }
    let right = (world.content(), world.tree().join("new").exists());
    assert_eq!((right.0.as_str(), right.1), ("approved", false), "right before anything is durable");
    assert_eq!((world.names().len(), pendings.len()), (3, 2));
    // The writer may remove the private names: their content is held.
    let left: Vec<_> = world.names().into_iter().filter(|name| name != "file").collect();
    fs::remove_file(world.tree().join(&left[0])).expect("removed");

    responder.secure(&world.root, &mut pendings);
    assert!(world.tree().join(&left[1]).exists(), "recorded first");
    let evidence: Vec<_> = pendings.iter_mut().flat_map(Pending::take_evidence).collect();
    let mut held = world.evidence(&evidence);
    held.sort();
    assert_eq!(held, ["altered", "planted"]);
    assert_eq!(responder.release(pendings), []);
    assert_eq!(world.names(), ["file"]);
}

/// Unmounted when dropped.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Whoever holds the folder open could fill it under its private name, where nobody would find who did it.
#[test]
fn an_empty_folder_is_gone_at_once() {
    let w = World::new();
    let made = w.tree().join("made");
    fs::create_dir(&made).expect("made");
    let path = RelPath::new("made").expect("sound");
    let expected = inspect(&w.root, &path, None).expect("works").expect("there");
    let mut left = Vec::new();
    let responder = Responder::new(w.vault.clone());
    let outcome = responder
        .begin(&w.root, &Step::Quarantine { path, expected }, &mut None, &mut left)
        .expect("taken away");
    assert_eq!((w.names(), left.len(), outcome.evidence.len()), (vec!["file".to_owned()], 0, 1));
}

#[test]
fn nothing_is_put_into_or_taken_out_of_what_was_mounted_since() {
    if !rustix::process::geteuid().is_root() {
        println!("NOT TESTED: only root can mount");
        return;
    }
    let world = World::new();
    let folder = world.tree().join("folder");
    fs::create_dir(&folder).expect("made");
    let tmpfs = std::process::Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&folder).status();
    assert!(tmpfs.expect("mount runs").success());
    let _mounted = Mounted(folder.clone());
    fs::write(folder.join("theirs"), "theirs").expect("written");
    let at = |text: &str| RelPath::new(text).expect("sound");
    let theirs = inspect(&world.root, &at("folder/theirs"), None).expect("works").expect("there");
    let steps = [
        Step::Replace { path: at("folder/file"), approved: world.approved.clone(), expected: None },
        Step::Quarantine { path: at("folder/theirs"), expected: theirs.clone() },
        Step::MoveBack { from: at("folder/theirs"), to: at("free"), expected: theirs },
    ];
    let responder = Responder::new(world.vault.clone());
    world.root.approve_mounts([]);
    for step in &steps {
        let refused = responder.carry_out(&world.root, step).expect_err("refused").to_string();
        assert!(refused.contains("something is mounted over a folder above it"), "{refused}");
    }
    assert_eq!(names(&folder), ["theirs"]);
    assert_eq!(world.root.mounted_above(&at("folder/no/such")).expect("works"), Some(at("folder")));
    // Approved, it belongs to the watch.
    world.root.approve_mounts([at("folder")]);
    assert_eq!(world.root.mounted_above(&at("folder/no/such")).expect("works"), None);
    responder.carry_out(&world.root, &steps[0]).expect("put there");
    assert_eq!(names(&folder), ["file", "theirs"]);
}
