use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::daemon::keeper::Keeper;
use crate::daemon::take::take;

struct World(tempfile::TempDir);

impl World {
    /// Two approved files, `a` and `b`.
    fn new() -> Self {
        let world = Self(tempfile::tempdir().expect("a temporary folder"));
        fs::create_dir(world.at("")).expect("made");
        ["a", "b"].iter().for_each(|name| fs::write(world.at(name), "approved").expect("written"));
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join("w").join(name)
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// Watches of these files, or of the folder that holds them: `""`.
    fn config(&self, names: &[&str]) -> Config {
        let watches = names.iter().map(|name| {
            let path = self.at(name);
            format!("[[watch]]\npath = \"{}\"\n", path.to_str().expect("UTF-8").trim_end_matches('/'))
        });
        let text = format!("[state]\ndir = {:?}\n{}", self.state(), watches.collect::<String>());
        Config::parse(Path::new("fim.toml"), &text).expect("valid")
    }

    fn store(&self) -> Store {
        Store::open(&self.state()).expect("a store")
    }

    fn missing(&self, names: &[&str]) -> anyhow::Result<Vec<Approved>> {
        take_missing(&self.config(names), &ScanProgress::default())
    }

    fn require(&self, names: &[&str]) -> anyhow::Result<()> {
        require_baseline(&self.store(), &Watch::open_all(&self.config(names)).expect("watches"))
    }

    fn told(&self) -> Vec<(EventKind, Severity, String)> {
        let records = self.store().ledger_after(0, 100).expect("records").into_iter().map(|r| r.event);
        records.map(|e| (e.kind, e.severity, e.message.unwrap_or_default())).collect()
    }
}

fn path(name: &str) -> RelPath {
    RelPath::new(name).expect("sound")
}

#[test]
fn a_second_single_file_of_a_folder_is_approved_rather_than_quarantined_as_created() {
    let world = World::new();
    take(&world.config(&["a"]), false).expect("a baseline");
    let refused = world.require(&["a", "b"]).expect_err("b was never approved").to_string();
    assert!(refused.contains("w/b has no baseline yet"), "{refused}");
    assert_eq!(world.missing(&["a", "b"]).expect("approved").len(), 1);
    world.require(&["a", "b"]).expect("both have one");
    assert!(world.missing(&["a", "b"]).expect("nothing to do").is_empty());
    let of_b = world.store().baseline_get(&root(&world), &path("b")).expect("read");
    assert!(of_b.is_some(), "its comparison finds what is approved");
}

#[test]
fn a_folder_of_which_one_file_was_watched_is_approved_but_for_that_file() {
    let world = World::new();
    take(&world.config(&["a"]), false).expect("a baseline");
    let approved = world.store().baseline_get(&root(&world), &path("a")).expect("read").expect("approved");
    fs::write(world.at("a"), "altered since").expect("written");
    assert!(world.require(&[""]).is_err(), "the folder itself was never approved");
    world.missing(&[""]).expect("approved");
    world.require(&[""]).expect("it has one");
    let store = world.store();
    assert_eq!(store.baseline_get(&root(&world), &path("a")).expect("read"), Some(approved));
    assert!(store.baseline_get(&root(&world), &path("b")).expect("read").is_some());
}

fn root(world: &World) -> PathBuf {
    world.at("a").parent().expect("a folder").to_path_buf()
}

#[test]
fn a_new_watch_that_is_approved_while_fim_is_stopped_is_recorded_and_is_no_tampering() {
    let world = World::new();
    take(&world.config(&["a"]), false).expect("a baseline");
    Sealer::set_up(&mut world.store(), 1_000).expect("sealed");
    world.missing(&["a", "b"]).expect("approved");
    assert_eq!(world.store().beside().expect("compared"), Beside::Sealed);
    let keeper = Keeper::open(&world.store(), world.config(&["a"]).ledger).expect("a keeper");
    assert!(!keeper.altered);
    let told = world.told();
    let [(EventKind::Accepted, _, message)] = &told[..] else { panic!("{told:?}") };
    assert!(message.contains("1 entries approved as they are"), "{message}");
}

#[test]
fn tampering_is_told_though_new_watches_are_approved_afterwards() {
    let world = World::new();
    take(&world.config(&["a"]), false).expect("a baseline");
    Sealer::set_up(&mut world.store(), 1_000).expect("sealed");
    let db = rusqlite::Connection::open(world.state().join("fim.db")).expect("opened");
    db.execute("UPDATE baseline SET mode = 2541", []).expect("tampered");
    drop(db);
    world.missing(&["a", "b"]).expect("approved");
    let kinds: Vec<EventKind> = world.told().into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kinds, [EventKind::Trouble, EventKind::Accepted]);
}

#[test]
fn a_lost_database_is_no_first_start() {
    let world = World::new();
    take(&world.config(&[""]), false).expect("a baseline");
    fs::write(world.at("a"), "altered since").expect("written");
    for name in ["fim.db", "fim.db-wal", "fim.db-shm"] {
        let _ = fs::remove_file(world.state().join(name));
    }
    for _ in 0..2 {
        // The daemon that is started afterwards makes an empty one.
        let refused = world.missing(&[""]).err().expect("refused").to_string();
        assert!(refused.contains("lost or replaced") && refused.contains("fim init"), "{refused}");
        drop(world.store());
    }
    take(&world.config(&[""]), false).expect("who runs fim init decides so");
}

#[test]
fn the_first_baseline_that_nobody_asked_for_is_told() {
    let world = World::new();
    // An attempt that was cut off left content in the vault.
    world.store().meta_set(BEGUN, "2026-11-22T01:02:03Z").expect("noted");
    let vault = open_vault(&world.config(&[""])).expect("a vault");
    vault.put(&mut &b"left"[..]).expect("kept");
    world.missing(&[""]).expect("approved");
    let told = world.told();
    let [(EventKind::Accepted, Severity::High, message)] = &told[..] else { panic!("{told:?}") };
    assert!(message.contains("3 entries in 1 watches"), "{message}");
}

#[test]
fn a_watch_whose_file_system_is_not_mounted_is_refused_rather_than_all_of_it_deleted() {
    let world = World::new();
    take(&world.config(&[""]), false).expect("a baseline");
    let watches = Watch::open_all(&world.config(&[""])).expect("watches");
    let mut store = world.store();
    require_mounts(&store, &watches).expect("never was a mount point");
    let mut found =
        store.baseline_get(&root(&world), &RelPath::root()).expect("read").expect("the root has an entry");
    found.entry.flags = found.entry.flags.with(Flags::MOUNT, true);
    store.baseline_put_many(&root(&world), &[(RelPath::root(), found)]).expect("written");
    let refused = require_mounts(&store, &watches).expect_err("nothing is mounted there").to_string();
    assert!(refused.contains("nothing is mounted") && refused.contains("RequiresMountsFor="), "{refused}");
}

#[test]
fn the_root_of_a_mount_is_told_from_a_folder() {
    let at = |path: &str| tree::Root::open(Path::new(path)).expect("opened");
    assert!(tree::flags::told(at("/proc").fd()).has(Flags::MOUNT));
    assert!(!tree::flags::told(at("/proc/self").fd()).has(Flags::MOUNT));
}
