use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::*;
use crate::config::{Config, TierChoice};
use crate::core::observation::{Deed, Observation, Source, WatchId};
use crate::daemon::sensors::Sensors;
use crate::sensor::scan;
use crate::store::Taken;

/// A watch in a folder of its own, its baseline taken, and no live sensor: observations are made by hand.
struct World {
    dir: tempfile::TempDir,
    watch: Arc<Watch>,
    store: Store,
    sight: Sight,
}

fn path(text: &str) -> RelPath {
    RelPath::new(text).expect("sound")
}

impl World {
    /// `keys` of the watch; `files` with a line each, folders end with a slash.
    fn new(keys: &str, files: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (state, root) = (dir.path().join("state"), dir.path().join("w"));
        fs::create_dir(&root).expect("made");
        for file in files {
            let at = root.join(file);
            fs::create_dir_all(if file.ends_with('/') {
                at.as_path()
            } else {
                at.parent().expect("a folder")
            })
            .expect("made");
            if !file.ends_with('/') {
                fs::write(at, format!("approved {file}\n")).expect("written");
            }
        }
        let text = format!("[state]\ndir = {state:?}\n[[watch]]\npath = {root:?}\n{keys}");
        let config = Config::parse(Path::new("fim.toml"), &text).expect("valid");
        let watch = Arc::new(Watch::open(0, &config.watches[0]).expect("a watch"));
        let entries = Mutex::new(Vec::new());
        let progress = scan::ScanProgress::default();
        let visit = |path, found| entries.lock().expect("lock").push((path, found));
        scan::walk(&watch.scan(None, &|_| None, &progress), &visit).expect("walked");
        let mut store = Store::open(&state).expect("a store");
        let mut rebuild = store.baseline_rebuild().expect("begun");
        rebuild.put(watch.path(), &entries.into_inner().expect("lock")).expect("put");
        let taken = Taken { time: String::new(), by: String::new(), host: String::new() };
        rebuild.commit(&taken).expect("committed");
        let (out, _) = crossbeam_channel::bounded(1);
        let sensors = Arc::new(Sensors::start(TierChoice::Scan, std::slice::from_ref(&watch), &out));
        Self { dir, watch, store, sight: Sight { marks: None, sensors } }
    }

    fn at(&self, file: &str) -> std::path::PathBuf {
        self.dir.path().join("w").join(file)
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).expect("renamed");
    }

    fn examine(&self, seen: &[(&str, Deed, bool)]) -> Round {
        let mut correlator = Correlator::new();
        for (at, deed, directory) in seen {
            let (watch, deed, directory) = (WatchId(0), deed.clone(), *directory);
            let source = Source::Fanotify;
            let seen = Observation { source, watch, path: path(at), deed, directory, actor: None, at_ns: 0 };
            correlator.observe(seen, 0);
        }
        let looks = correlator.due(u64::MAX, 1000);
        let (watch, store, sight) = (&self.watch, &self.store, &self.sight);
        let mut examiner =
            Examiner { watch, store, correlator: &mut correlator, sight, catch_up: &mut |_| {} };
        examiner.examine(looks).expect("examined")
    }

    /// What is found, as `kind path`, in path order.
    fn found(&self, seen: &[(&str, Deed, bool)]) -> Vec<String> {
        let round = self.examine(seen);
        let mut found: Vec<String> =
            round.findings.iter().map(|f| format!("{} {}", f.change.kind.as_str(), f.change.path)).collect();
        found.sort();
        found
    }
}

fn moved(from: &str) -> Deed {
    Deed::MovedHere { from: Some(path(from)) }
}

const EXCLUDE: &str = "exclude = [\"cache/\", \"*.swp\"]";

#[test]
fn a_rename_over_the_border_of_what_is_excluded_is_a_deletion_or_a_creation() {
    let world = World::new(EXCLUDE, &["a", "d/sub/b", "cache/x", "cache/dir/y"]);
    world.rename("a", "cache/a");
    assert_eq!(world.found(&[("a", Deed::MovedAway, false)]), ["deleted a"]);
    // A sensor that does not know what is excluded.
    assert_eq!(world.found(&[("cache/a", moved("a"), false)]), ["deleted a"]);
    world.rename("cache/x", "x");
    assert_eq!(world.found(&[("x", moved("cache/x"), false)]), ["created x"]);
    world.rename("cache/dir", "dir");
    assert_eq!(world.found(&[("dir", moved("cache/dir"), true)]), ["created dir", "created dir/y"]);
    fs::create_dir(world.at("q")).expect("made");
    world.rename("d", "q/cache");
    assert_eq!(
        world.found(&[("q/cache", moved("d"), true)]),
        ["deleted d", "deleted d/sub", "deleted d/sub/b"]
    );
    world.rename("cache", "nocache");
    assert_eq!(world.found(&[("nocache", moved("cache"), true)]), ["created nocache", "created nocache/a"]);
}

#[test]
fn a_folder_in_the_place_of_a_file_does_not_hide_behind_a_pattern_for_folders() {
    let world = World::new(EXCLUDE, &["x/cache"]);
    fs::remove_file(world.at("x/cache")).expect("removed");
    fs::create_dir(world.at("x/cache")).expect("made");
    assert_eq!(world.found(&[("x/cache", Deed::Created, true)]), ["type x/cache"]);
    let world = World::new(EXCLUDE, &["cache/x"]);
    fs::remove_dir_all(world.at("cache")).expect("removed");
    fs::write(world.at("cache"), "evil").expect("written");
    assert_eq!(world.found(&[("cache", Deed::Created, false)]), ["created cache"]);
}

#[test]
fn a_folder_that_only_excluded_names_keep_full_is_known() {
    let world = World::new(EXCLUDE, &["a"]);
    for made in ["q/sub/cache/x", "r/cache/x", "r/file", "s/cache/x", "s/empty/"] {
        fs::create_dir_all(world.at(made).parent().expect("a folder")).expect("made");
        if made.ends_with('/') {
            fs::create_dir_all(world.at(made)).expect("made");
        } else {
            fs::write(world.at(made), "x").expect("written");
        }
    }
    let kept = |at: &str| kept_by_excluded(&world.watch, &path(at));
    assert_eq!(kept("q"), Some(path("q/sub/cache")));
    assert_eq!((kept("r"), kept("s"), kept("missing")), (None, None, None));
}

#[test]
fn a_rename_between_policies_is_one_change_only_where_both_say_so() {
    let keys = "[[watch.rule]]\npaths = [\"/dry/**\"]\ndry_run = true\n\
                [[watch.rule]]\npaths = [\"/blind/**\"]\nkinds = [\"modified\"]";
    let world = World::new(keys, &["a", "b", "c", "dry/", "blind/"]);
    world.rename("a", "a2");
    assert_eq!(world.found(&[("a2", moved("a"), false)]), ["renamed a2"]);
    world.rename("b", "dry/b");
    assert_eq!(
        world.found(&[("dry/b", moved("b"), false), ("b", Deed::MovedAway, false)]),
        ["created dry/b", "deleted b"]
    );
    world.rename("c", "blind/c");
    assert_eq!(
        world.found(&[("blind/c", moved("c"), false), ("c", Deed::MovedAway, false)]),
        ["created blind/c", "deleted c"]
    );
}

#[test]
fn what_differs_only_in_what_is_ignored_is_right_and_proves_nothing() {
    let world = World::new("ignore = [\"mode\"]", &["f", "g"]);
    fs::set_permissions(world.at("f"), fs::Permissions::from_mode(0o4755)).expect("chmod");
    let round = world.examine(&[("f", Deed::Attributes, false)]);
    assert!(round.findings.is_empty() && round.transient.is_empty());
    assert_eq!(round.right.len(), 1);
    assert!(round.right[0].1.is_none(), "its identity is not noted as that of the approved file");
    let round = world.examine(&[("g", Deed::Attributes, false)]);
    let kinds: Vec<ChangeKind> = round.transient.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, [ChangeKind::Attributes], "nothing that is ignored accounts for it");
    assert!(round.right[0].1.is_some());
    fs::write(world.at("f"), "evil").expect("written");
    assert_eq!(world.found(&[("f", Deed::Closed, false)]), ["modified f"]);
}
