use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;
use crate::core::entry::Digest;
use crate::store::Taken;
use crate::tree::Sysroot;

/// A system below a folder: `/etc` is a link to `/data/etc`, which is watched, as is the file `/usr/tool`.
struct System {
    dir: tempfile::TempDir,
    /// Kept open: what was written last is in the write-ahead log only.
    _store: Store,
}

const CONFIG: &str =
    "[state]\ndir = \"/var/lib/fim\"\n[[watch]]\npath = \"/etc\"\n[[watch]]\npath = \"/usr/tool\"\n";

impl System {
    fn new() -> Self {
        Self::with(|_, _| {})
    }

    /// `forge` alters what is approved of each watch.
    fn with(forge: impl Fn(&Sysroot, &mut Vec<(RelPath, Found)>)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let at = |path: &str| dir.path().join("root").join(path);
        for folder in ["data/etc/fim", "usr", "var/lib"] {
            std::fs::create_dir_all(at(folder)).expect("made");
        }
        symlink("/data/etc", at("etc")).expect("linked");
        for (file, text) in
            [("data/etc/fim/fim.toml", CONFIG), ("data/etc/hosts", "approved"), ("usr/tool", "tool")]
        {
            std::fs::write(at(file), text).expect("written");
        }
        std::fs::write(dir.path().join("outside"), "not of that system").expect("written");
        let store = approve(&at(""), forge);
        Self { dir, _store: store }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    fn check(&self, quick: bool) -> Vec<Compared> {
        let rescued = rescue::open(&self.at(""), Path::new("/etc/fim/fim.toml")).expect("opens");
        require_baseline(&rescued.store, &rescued.watches).expect("a baseline");
        let compared = compare(&rescued.store, &rescued.watches, quick).expect("compared");
        compared.into_iter().map(|(_, found)| found).collect()
    }
}

fn config() -> Config {
    Config::parse(Path::new("fim.toml"), CONFIG).expect("valid")
}

fn approve(root: &Path, forge: impl Fn(&Sysroot, &mut Vec<(RelPath, Found)>)) -> Store {
    let config = config();
    let system = Sysroot::at(root).expect("opens");
    let mut store = Store::open(&root.join("var/lib/fim")).expect("a store");
    let mut rebuild = store.baseline_rebuild().expect("begun");
    for (id, watch) in (0..).zip(&config.watches) {
        let watch = Watch::open_in(&system, id, watch).expect("opens");
        let entries = Mutex::new(Vec::new());
        let visit = |path, found| entries.lock().expect("unpoisoned").push((path, found));
        scan::walk(&watch.scan(None, &|_| None, &ScanProgress::default()), &visit).expect("walked");
        let mut entries = entries.into_inner().expect("unpoisoned");
        forge(&system, &mut entries);
        rebuild.put(watch.path(), &entries).expect("put");
    }
    let taken = Taken { time: "2026-11-22T01:02:03Z".into(), by: "ann".into(), host: "web1".into() };
    rebuild.commit(&taken).expect("committed");
    store
}

fn names(found: &Compared) -> Vec<(&str, String)> {
    found.changes.iter().map(|c| (c.kind.as_str(), c.path.to_string())).collect()
}

#[test]
fn another_system_is_compared_with_its_own_baseline_and_nothing_is_written_there() {
    let system = System::new();
    for quick in [true, false] {
        let found = system.check(quick);
        assert_eq!(found.iter().map(|f| (f.entries, f.changes.len())).collect::<Vec<_>>(), [(4, 0), (1, 0)]);
    }
    let before = std::fs::read_dir(system.at("var/lib/fim")).expect("listed").count();
    std::fs::write(system.at("data/etc/hosts"), "altered!").expect("written");
    std::fs::write(system.at("usr/tool"), "t00l").expect("written");
    std::fs::write(system.at("data/etc/new"), "new").expect("written");
    for quick in [true, false] {
        let found = system.check(quick);
        let new = [("modified", "hosts".to_owned()), ("created", "new".to_owned())];
        assert!(new.iter().all(|change| names(&found[0]).contains(change)), "{:?}", names(&found[0]));
        assert_eq!(names(&found[1]), [("modified", "tool".to_owned())]);
    }
    assert_eq!(std::fs::read_dir(system.at("var/lib/fim")).expect("listed").count(), before);
}

#[test]
fn no_link_leads_out_of_the_other_system() {
    let system = System::new();
    std::fs::remove_file(system.at("etc")).expect("removed");
    symlink("../outside-etc", system.at("etc")).expect("linked");
    let outside = system.dir.path().join("outside-etc/fim");
    std::fs::create_dir_all(&outside).expect("made");
    std::fs::write(outside.join("fim.toml"), CONFIG).expect("written");
    let error = rescue::open(&system.at(""), Path::new("/etc/fim/fim.toml")).err().expect("not there");
    assert!(error.to_string().contains("there is no configuration"), "{error:#}");
}

#[test]
fn where_a_daemon_runs_nothing_is_copied() {
    let system = System::new();
    let lock = crate::store::Lock::acquire(&system.at("var/lib/fim")).expect("free");
    let error = rescue::open(&system.at(""), Path::new("/etc/fim/fim.toml")).err().expect("refused");
    assert!(error.to_string().contains("fim runs in the system"), "{error:#}");
    drop(lock);
    rescue::open(&system.at(""), Path::new("/etc/fim/fim.toml")).expect("opens");
}

#[test]
fn quick_reads_nothing_that_has_its_change_time_and_full_reads_all() {
    // As if something had been written without a trace in the change time: only the approved digest is another.
    let system = System::with(|system, entries| {
        let hosts = entries.iter_mut().find(|(path, _)| path.as_bytes() == b"hosts");
        let Some((path, found)) = hosts else { return };
        // A fresh change time is trusted by nobody; this one will soon be old enough.
        while found.identity.ctime_ns == 0 {
            let root = Watch::open_in(system, 0, &config().watches[0]).expect("opens").root;
            *found = crate::tree::inspect::inspect(&root, path, None).expect("read").expect("there");
        }
        found.entry.sha256 = Some(Digest([7; 32]));
    });
    assert_eq!(names(&system.check(true)[0]), []);
    assert_eq!(names(&system.check(false)[0]), [("modified", "hosts".to_owned())]);
}

#[test]
fn codes_and_lines_say_what_was_found() {
    let system = System::new();
    std::fs::write(system.at("data/etc/a\nb"), "new").expect("written");
    let rescued = rescue::open(&system.at(""), Path::new("/etc/fim/fim.toml")).expect("opens");
    let mut compared = compare(&rescued.store, &rescued.watches, false).expect("compared");
    let told = |compared: &[(std::sync::Arc<Watch>, Compared)], json| {
        let mut out = Vec::new();
        let code = report(compared, &mut out, json).expect("written");
        (code, String::from_utf8(out).expect("text"))
    };
    let (code, text) = told(&compared, false);
    assert_eq!(code, ExitCode::from(1));
    assert!(
        text.contains("created    /etc/a\\x0ab\n") && text.ends_with("differ from the baseline\n"),
        "{text}"
    );
    compared[1].1.unreadable.push((RelPath::root(), "broken".into()));
    let (code, text) = told(&compared, true);
    assert_eq!(code, ExitCode::from(2), "what could not be read is no agreement");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&last["kind"], &last["reason"]), (&"unreadable".into(), &"broken".into()));
}
