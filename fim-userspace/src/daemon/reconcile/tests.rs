//! The reconciler with all its parts but the sensors: what they would say is said by hand, and each turn is one call.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crossbeam_channel::bounded;

use super::*;
use crate::config::{Config, TierChoice};
use crate::core::event::{Event, Response};
use crate::core::observation::{Observation, Source};
use crate::daemon::limits::Retention;
use crate::daemon::scanner::Context;
use crate::daemon::sensors::Sensors;
use crate::daemon::session::{Parts, Told, assemble};
use crate::daemon::take::{open_vault, take};

struct World {
    dir: tempfile::TempDir,
    reconciler: Reconciler,
    told: Receiver<Event>,
}

impl World {
    /// `keys` of the watch; `files` with a line each.
    fn new(keys: &str, files: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (state, root) = (dir.path().join("state"), dir.path().join("w"));
        fs::create_dir(&root).expect("made");
        files
            .iter()
            .for_each(|file| fs::write(root.join(file), format!("approved {file}\n")).expect("written"));
        let text = format!("[state]\ndir = {state:?}\n[[watch]]\npath = {root:?}\n{keys}");
        let config = Config::parse(Path::new("fim.toml"), &text).expect("valid");
        take(&config, false).expect("a baseline");
        let store = Store::open(&state).expect("a store");
        let watches = Watch::open_all(&config).expect("a watch");
        let (out, inbox) = bounded(CHANNEL);
        let scanner = Scanner::start(Context {
            watches: watches.clone(),
            state_dir: state,
            marks: None,
            out: out.clone(),
            distrust_from_ns: None,
        });
        let (records, told) = crossbeam_channel::unbounded();
        let announce = move |new: &[crate::core::event::Record]| {
            new.iter().for_each(|record| drop(records.send(record.event.clone())));
        };
        let parts = Parts {
            jobs: never(),
            keeper: Keeper::open(&store, config.ledger).expect("a keeper"),
            trust: Trust::new(&config, &watches).expect("no rules"),
            maintenance: Maintenance::load(&store).expect("no window"),
            store,
            vault: Arc::new(open_vault(&config).expect("a vault")),
            retention: Retention::default(),
            masks: Arc::default(),
            self_test: std::time::Duration::ZERO,
            sensors: Arc::new(Sensors::start(TierChoice::Scan, &watches, &out)),
            watches,
            scanner: scanner.expect("a thread"),
            journal: Told::New(Box::new(announce)),
            ready: Box::new(|| ()),
        };
        Self { dir, reconciler: assemble(parts, inbox), told }
    }

    fn at(&self, file: &str) -> PathBuf {
        self.dir.path().join("w").join(file)
    }

    /// Somebody did this to the file, and it is looked at.
    fn did(&mut self, file: &str, deed: Deed) {
        let path = RelPath::new(file).expect("sound");
        let (watch, source) = (WatchId(0), Source::Fanotify);
        let seen =
            Observation { source, watch, path, deed, directory: false, actor: None, at_ns: boottime_ns() };
        self.reconciler.take(Signal::Observed(seen));
        self.reconciler.work(u64::MAX);
    }

    /// All that is known is dealt with.
    fn ends(&mut self) {
        self.reconciler.work(u64::MAX);
        self.reconciler.conclude();
        self.reconciler.await_copies();
        self.reconciler.write();
    }

    /// What was recorded since the last call.
    fn told(&self) -> Vec<(EventKind, String, Response)> {
        let name = |event: &Event| {
            let path = event.path.clone().unwrap_or_default();
            path.rsplit('/').next().unwrap_or_default().to_owned()
        };
        self.told.try_iter().map(|event| (event.kind, name(&event), event.response)).collect()
    }
}

fn told(kind: EventKind, file: &str, response: Response) -> (EventKind, String, Response) {
    (kind, file.into(), response)
}

#[test]
fn what_is_only_told_of_a_path_comes_after_its_restore_that_waits_for_the_disk() {
    let mut world = World::new("on_modified = \"restore\"\non_deleted = \"alert\"\n", &["a", "b"]);
    for file in ["a", "b"] {
        fs::write(world.at(file), "altered").expect("written");
        world.did(file, Deed::Closed);
    }
    assert!(!world.reconciler.begun.is_empty(), "right, and not yet recorded");
    fs::remove_file(world.at("a")).expect("removed");
    world.did("a", Deed::Deleted);
    world.reconciler.conclude();
    world.reconciler.write();
    let records = world.told();
    let of_a: Vec<_> = records.iter().filter(|(_, file, _)| file == "a").cloned().collect();
    assert_eq!(
        of_a,
        [told(EventKind::Modified, "a", Response::Restored), told(EventKind::Deleted, "a", Response::None),]
    );
    assert!(records.contains(&told(EventKind::Modified, "b", Response::Restored)), "{records:?}");
}

#[test]
fn a_large_copy_holds_up_nothing_but_what_is_told_of_its_own_path() {
    let keys = "on_modified = \"restore\"\non_attributes = \"alert\"\non_created = \"alert\"\n";
    let mut world = World::new(keys, &["a"]);
    let content: Vec<u8> =
        (0..3u32 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for file in ["large", "larger"] {
        fs::write(world.at(file), &content[..content.len() / if file == "large" { 2 } else { 1 }])
            .expect("written");
        world.did(file, Deed::Closed);
    }
    world.reconciler.conclude();
    assert_eq!(world.reconciler.copier.waiting(), 2);
    fs::write(world.at("a"), "altered").expect("written");
    world.did("a", Deed::Closed);
    world.reconciler.conclude();
    assert_eq!(world.told(), [told(EventKind::Modified, "a", Response::Restored)]);

    // Something else happens to one that waits: nobody waits for it, and both are told in order.
    fs::set_permissions(world.at("larger"), fs::Permissions::from_mode(0o4711)).expect("set");
    world.did("larger", Deed::Attributes);
    assert_eq!((world.told(), world.reconciler.copier.waiting()), (vec![], 2));
    world.reconciler.await_copies();
    world.reconciler.work(u64::MAX);
    world.reconciler.write();
    let created = |file| told(EventKind::Created, file, Response::None);
    assert_eq!(world.told(), [created("large"), created("larger"), created("larger")]);
    let digest = |file| {
        let root = &world.reconciler.watches[0].root;
        let found = crate::tree::inspect::inspect(root, &RelPath::new(file).expect("sound"), None);
        found.expect("readable").expect("there").entry.sha256.expect("read")
    };
    for file in ["large", "larger"] {
        assert!(world.reconciler.vault.contains(&digest(file)), "{file}");
    }
}

#[test]
fn what_is_reported_after_the_moment_of_a_reload_is_left_to_the_next_session() {
    let mut world = World::new("on_created = \"alert\"\n", &["a"]);
    let (out, inbox) = bounded(CHANNEL);
    world.reconciler.inbox = inbox;
    let seen = |path: &str, at_ns| {
        let path = RelPath::new(path).expect("sound");
        let (watch, source, deed) = (WatchId(0), Source::Fanotify, Deed::Created);
        let directory = false;
        Signal::Observed(Observation { source, watch, path, deed, directory, actor: None, at_ns })
    };
    ["before", "after"].iter().for_each(|name| fs::write(world.at(name), "new").expect("written"));
    out.send(seen("before", boottime_ns())).expect("taken");
    const LATER: u64 = u64::MAX - 1;
    world.reconciler.held.push(seen("after", LATER));
    out.send(seen("after", LATER)).expect("taken");
    world.reconciler.take_the_rest(End::Reload, &mut |_| true);
    // Also what comes while the rest is looked at.
    out.send(seen("after", LATER)).expect("taken");
    world.ends();
    assert_eq!(world.told(), [told(EventKind::Created, "before", Response::None)]);
    // Where none comes after it, it is told.
    world.reconciler.until_ns = u64::MAX;
    world.reconciler.held.push(seen("after", LATER));
    world.reconciler.take_the_rest(End::Stop, &mut |_| true);
    world.ends();
    assert_eq!(world.told(), [told(EventKind::Created, "after", Response::None)]);
}

#[test]
fn a_sensor_that_stays_behind_at_a_reload_leaves_a_gap_to_be_closed() {
    let mut world = World::new("", &["a"]);
    let mut asked = 0;
    world.reconciler.take_the_rest(End::Reload, &mut |_| {
        asked += 1;
        asked > 3
    });
    world.reconciler.write();
    assert_eq!(world.told(), [], "it had only to be waited for");
    world.reconciler.take_the_rest(End::Reload, &mut |_| false);
    world.reconciler.write();
    let told: Vec<EventKind> = world.told().into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!((told, world.reconciler.progress.gaps().open), (vec![EventKind::CoverageGap], 1));
}

#[test]
fn who_waits_for_a_copy_is_alive_to_the_watchdog() {
    let mut world = World::new("on_created = \"alert\"\n", &["a"]);
    fs::write(world.at("large"), vec![7; 3 << 20]).expect("written");
    world.did("large", Deed::Closed);
    world.reconciler.conclude();
    assert_eq!(world.reconciler.copier.waiting(), 1);
    // The copy is held back until the one who waits has given a sign of life.
    let (late, done) = bounded(1);
    let copy = std::mem::replace(&mut world.reconciler.copier.done, done);
    let _living = pulse::begin("test-copy");
    let waiting = pulse::own().expect("begun");
    let beats = waiting.beats();
    let holder = std::thread::spawn(move || {
        let copy = copy.recv().expect("made");
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while waiting.beats() == beats && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        let alive = waiting.beats() > beats;
        late.send(copy).expect("awaited");
        alive
    });
    world.reconciler.await_copies();
    assert!(holder.join().expect("ends"), "nobody beat while the copy was waited for");
}
