use std::collections::BTreeMap;
use std::os::fd::AsFd;

use proptest::prelude::*;

use super::*;

fn p(path: &str) -> RelPath {
    RelPath::new(path).expect("sound")
}

fn key(ino: u64) -> DirKey {
    DirKey { dev: mkdev(7, 3), ino }
}

fn handle(n: u8) -> FileHandle {
    FileHandle { fsid: [5, 6], kind: 1, bytes: Box::new([n, 0, 9]) }
}

const W: WatchId = WatchId(4);

#[test]
fn a_renamed_directory_takes_its_subtree_along() {
    let dirs = Directories::default();
    for (ino, path) in [(10, ""), (11, "a"), (12, "a/b"), (13, "a/b/c"), (14, "ab")] {
        dirs.register(W, &p(path), key(ino), Some(handle(ino as u8)));
    }
    dirs.renamed(W, &p("a"), &p("ab/x"));
    assert_eq!(dirs.by_key(key(13)), [(W, p("ab/x/b/c"))]);
    assert_eq!(dirs.by_handle(&handle(12)), [(W, p("ab/x/b"))]);
    assert_eq!(dirs.by_key(key(14)), [(W, p("ab"))]);
    assert_eq!(dirs.count(), 5);

    let mut gone = dirs.removed(W, &p("ab"));
    gone.sort();
    assert_eq!(gone, [key(11), key(12), key(13), key(14)]);
    assert_eq!(dirs.by_handle(&handle(13)), []);
    assert_eq!(dirs.by_key(key(10)), [(W, RelPath::root())]);
    assert_eq!(dirs.count(), 1);
}

#[test]
fn a_rename_over_a_directory_forgets_the_one_below() {
    let dirs = Directories::default();
    dirs.register(W, &p("old"), key(21), None);
    dirs.register(W, &p("new"), key(22), None);
    dirs.renamed(W, &p("old"), &p("new"));
    assert_eq!(dirs.by_key(key(21)), [(W, p("new"))]);
    assert_eq!(dirs.by_key(key(22)), []);
}

#[test]
fn a_rename_a_scan_saw_first_keeps_both_halves() {
    let dirs = Directories::default();
    for (ino, path) in [(31, "old"), (32, "old/x"), (33, "old/y"), (31, "new"), (32, "new/x")] {
        dirs.register(W, &p(path), key(ino), None);
    }
    dirs.renamed(W, &p("old"), &p("new"));
    for (ino, path) in [(31, "new"), (32, "new/x"), (33, "new/y")] {
        assert_eq!(dirs.by_key(key(ino)), [(W, p(path))], "{path}");
    }
    assert_eq!(dirs.count(), 3);
}

#[test]
fn an_inode_number_used_again_is_told_apart_by_its_handle() {
    let dirs = Directories::default();
    dirs.register(W, &p("first"), key(41), Some(handle(1)));
    dirs.register(W, &p("second"), key(41), Some(handle(2)));
    assert_eq!(dirs.by_handle(&handle(1)), [(W, p("first"))]);
    assert_eq!(dirs.by_handle(&handle(2)), [(W, p("second"))]);
    assert_eq!(dirs.removed(W, &p("first")), [], "the key is still in use");
    assert_eq!(dirs.by_handle(&handle(1)), []);
    assert_eq!(dirs.by_key(key(41)), [(W, p("second"))]);
}

#[test]
fn a_directory_of_two_watches_is_known_under_both() {
    let dirs = Directories::default();
    let other = WatchId(9);
    dirs.register(W, &p("ssh"), key(51), Some(handle(1)));
    dirs.register(other, &RelPath::root(), key(51), Some(handle(1)));
    let mut paths = dirs.by_handle(&handle(1));
    paths.sort();
    assert_eq!(paths, [(W, p("ssh")), (other, RelPath::root())]);
    dirs.removed(other, &RelPath::root());
    assert_eq!(dirs.by_key(key(51)), [(W, p("ssh"))]);
}

#[test]
fn links_of_a_file_follow_their_directories() {
    let dirs = Directories::default();
    dirs.register(W, &p("d"), key(61), None);
    dirs.register_file(W, &p("d/one"), key(62), Some(handle(7)));
    dirs.register_file(W, &p("two"), key(62), Some(handle(7)));
    dirs.renamed(W, &p("d"), &p("e"));
    let mut paths = dirs.file_by_handle(&handle(7));
    paths.sort();
    assert_eq!(paths, [(W, p("e/one")), (W, p("two"))]);
    assert_eq!(dirs.by_key(key(62)), [], "a file is no directory");
    assert_eq!(dirs.count(), 1);
}

#[test]
fn keys_of_this_machine_agree_with_stat_where_stat_is_right() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = std::fs::File::open(dir.path()).expect("opens");
    let found = DirKey::of(file.as_fd()).expect("statx works");
    let stat = rustix::fs::fstat(&file).expect("fstat works");
    assert_eq!(found.ino, stat.st_ino);
    assert_eq!(found.dev, mkdev(rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev)));
}

#[test]
fn mountinfo_gives_the_device_of_a_mount() {
    let table = b"22 27 0:21 / /proc rw - proc proc rw\n227 1 254:70 / / rw - ext4 /dev/vda rw\n";
    assert_eq!(device_in_mountinfo(table, 227), Some(254 << 20 | 70));
    assert_eq!(device_in_mountinfo(table, 2), None);
}

#[derive(Clone, Debug)]
enum Step {
    Register(u64, String),
    Rename(String, String),
    Remove(String),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let path = || "[ab](/[ab]){0,2}";
    let step = prop_oneof![
        (0..1000u64, path()).prop_map(|(ino, at)| Step::Register(ino, at)),
        (path(), path()).prop_map(|(old, new)| Step::Rename(old, new)),
        path().prop_map(Step::Remove),
    ];
    proptest::collection::vec(step, 1..40)
}

/// The registry in its plainest form: whole paths in a map.
fn apply(model: &mut BTreeMap<RelPath, u64>, step: &Step) {
    match step {
        Step::Register(ino, at) => {
            if model.get(&p(at)).is_some_and(|there| there != ino) {
                model.retain(|path, _| !path.is_within(&p(at)));
            }
            model.insert(p(at), *ino);
        }
        Step::Remove(at) => model.retain(|path, _| !path.is_within(&p(at))),
        Step::Rename(old, new) => {
            let (old, new) = (p(old), p(new));
            let moved: Vec<_> =
                model.iter().filter(|(k, _)| k.is_within(&old)).map(|(k, v)| (k.clone(), *v)).collect();
            if moved.is_empty() || new.is_within(&old) || old.is_within(&new) {
                return;
            }
            model.retain(|path, _| !path.is_within(&new) && !path.is_within(&old));
            for (path, ino) in moved {
                let tail = &path.as_bytes()[old.as_bytes().len()..];
                let to = [new.as_bytes(), tail].concat();
                model.insert(RelPath::new(to).expect("sound"), ino);
            }
        }
    }
}

proptest! {
    #[test]
    fn agrees_with_a_plain_map(steps in steps()) {
        let dirs = Directories::default();
        let mut model = BTreeMap::new();
        // Every inode is another one, as the kernel has it outside the cases tested above.
        for (n, step) in steps.iter().enumerate() {
            let step = match step {
                Step::Register(ino, at) => Step::Register(ino + 1000 * n as u64, at.clone()),
                other => other.clone(),
            };
            match &step {
                Step::Register(ino, at) => dirs.register(W, &p(at), key(*ino), Some(handle(*ino as u8))),
                Step::Rename(old, new) => {
                    // Steps on the way that nothing is known of are no directories to the model.
                    if dirs.key_of(W, &p(old)).is_none() { continue }
                    dirs.renamed(W, &p(old), &p(new));
                }
                Step::Remove(at) => { dirs.removed(W, &p(at)); }
            }
            apply(&mut model, &step);
            prop_assert_eq!(dirs.count(), model.len());
            for (path, ino) in &model {
                prop_assert_eq!(dirs.by_key(key(*ino)), [(W, path.clone())]);
                prop_assert_eq!(dirs.key_of(W, path), Some(key(*ino)));
            }
        }
    }
}
