use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use super::*;
use crate::sensor::dirs::{DirKey, Directories};
use crate::sensor::marks::MarkError;

const W: WatchId = WatchId(6);

fn p(path: &str) -> RelPath {
    RelPath::new(path).expect("sound")
}

/// Notes what it is told, and does something there before the directory is read.
struct Noting<'a> {
    dirs: Directories,
    files: Mutex<Vec<RelPath>>,
    before_read: &'a (dyn Fn(&RelPath) + Sync + Send),
}

impl<'a> Noting<'a> {
    fn new(before_read: &'a (dyn Fn(&RelPath) + Sync + Send)) -> Self {
        Self { dirs: Directories::default(), files: Mutex::default(), before_read }
    }
}

impl Marks for Noting<'_> {
    fn directory(&self, dir: BorrowedFd<'_>, watch: WatchId, path: &RelPath) -> Result<(), MarkError> {
        self.dirs.register(watch, path, DirKey::of(dir).expect("statx works"), None);
        (self.before_read)(path);
        Ok(())
    }

    fn hard_linked(&self, _: BorrowedFd<'_>, _: WatchId, path: &RelPath) -> Result<(), MarkError> {
        self.files.lock().expect("no panics").push(path.clone());
        Ok(())
    }
}

struct Scan<'a> {
    base: &'a Path,
    start: RelPath,
    marks: Option<&'a dyn Marks>,
    exclude: Exclusions,
    known: &'a (dyn Fn(&RelPath) -> Option<Found> + Sync),
    settled: Option<Settled<'a>>,
    progress: ScanProgress,
}

impl<'a> Scan<'a> {
    fn of(base: &'a Path) -> Self {
        let (start, exclude, progress) = (RelPath::root(), Exclusions::none(), ScanProgress::default());
        Self { base, start, marks: None, exclude, known: &|_| None, settled: None, progress }
    }

    fn run(&self) -> (BTreeMap<RelPath, Found>, ScanReport) {
        let seen = Mutex::new(BTreeMap::new());
        let root = Root::open(self.base).expect("opens");
        let job = Job {
            root: &root,
            watch: W,
            start: &self.start,
            marks: self.marks,
            exclude: &self.exclude,
            known: self.known,
            settled: self.settled,
            all_mounts: false,
            threads: 4,
            progress: &self.progress,
        };
        let visit = |path: RelPath, found| {
            let twice = seen.lock().expect("no panics").insert(path.clone(), found);
            assert!(twice.is_none(), "{path} is seen once");
        };
        let report = walk(&job, &visit).expect("walks");
        (seen.into_inner().expect("no panics"), report)
    }

    fn paths(&self) -> Vec<String> {
        self.run().0.keys().map(ToString::to_string).collect()
    }
}

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    let base = dir.path();
    std::fs::create_dir_all(base.join("a/b/c")).expect("makes");
    for (name, text) in [("one", "1"), ("a/two", "22"), ("a/b/c/three", "333"), ("a/b/x.swp", "4")] {
        std::fs::write(base.join(name), text).expect("writes");
    }
    std::os::unix::fs::symlink("a", base.join("link")).expect("links");
    dir
}

#[test]
fn everything_is_seen_once_and_links_are_not_followed() {
    let dir = tree();
    let scan = Scan::of(dir.path());
    let (seen, report) = scan.run();
    let paths: Vec<_> = seen.keys().map(ToString::to_string).collect();
    assert_eq!(paths, ["", "a", "a/b", "a/b/c", "a/b/c/three", "a/b/x.swp", "a/two", "link", "one"]);
    assert_eq!(seen[&p("a/b/c/three")].entry.size, 3);
    assert_eq!(seen[&p("link")].entry.kind, FileType::Symlink);
    assert_eq!((report.files, scan.progress.files.load(Ordering::Relaxed)), (9, 9));
    assert_eq!(scan.progress.dirs.load(Ordering::Relaxed), 4);
    assert_eq!(scan.progress.bytes.load(Ordering::Relaxed), 7);
    assert_eq!((report.unreadable, report.unmarked, report.stopped), (vec![], 0, false));
}

#[test]
fn a_wide_directory_is_complete() {
    let dir = tempfile::tempdir().expect("temporary directory");
    for i in 0..1000 {
        std::fs::write(dir.path().join(format!("{i}")), "x").expect("writes");
    }
    assert_eq!(Scan::of(dir.path()).paths().len(), 1001);
}

#[test]
fn exclusions_and_other_starts_hold() {
    let dir = tree();
    let mut scan = Scan::of(dir.path());
    scan.exclude = Exclusions::new(&["*.swp", "c/"]).expect("valid");
    assert_eq!(scan.paths(), ["", "a", "a/b", "a/two", "link", "one"]);
    scan.start = p("a/b");
    assert_eq!(scan.paths(), ["a/b"]);
    scan.start = p("a/two");
    assert_eq!(scan.paths(), ["a/two"]);
    scan.start = p("a/none");
    assert_eq!(scan.paths(), [""; 0]);
    scan.start = p("link/b");
    assert_eq!(scan.paths(), [""; 0], "no way leads through a link");
}

#[test]
fn a_directory_is_marked_before_it_is_read() {
    let dir = tree();
    let base = dir.path().to_owned();
    // What is made after the mark is told by an event; what is made before the reading is seen by it.
    let late = move |path: &RelPath| {
        std::fs::write(path.below(&base).join("late"), "x").expect("writes");
    };
    let marks = Noting::new(&late);
    let mut scan = Scan::of(dir.path());
    scan.marks = Some(&marks);
    let paths = scan.paths();
    for path in ["late", "a/late", "a/b/late", "a/b/c/late"] {
        assert!(paths.iter().any(|seen| seen == path), "{path} in {paths:?}");
    }
    assert_eq!(marks.dirs.count(), 4);
}

#[test]
fn the_folder_of_a_single_file_is_marked() {
    let dir = tree();
    let marks = Noting::new(&|_| {});
    let mut scan = Scan::of(dir.path());
    scan.start = p("one");
    scan.marks = Some(&marks);
    assert_eq!(scan.paths(), ["one"]);
    assert!(marks.dirs.key_of(W, &RelPath::root()).is_some());
    assert_eq!(marks.dirs.count(), 1);
}

#[test]
fn files_with_several_links_are_marked() {
    let dir = tree();
    std::fs::hard_link(dir.path().join("one"), dir.path().join("a/again")).expect("links");
    let marks = Noting::new(&|_| {});
    let mut scan = Scan::of(dir.path());
    scan.marks = Some(&marks);
    scan.run();
    let mut files = marks.files.into_inner().expect("no panics");
    files.sort();
    assert_eq!(files, [p("a/again"), p("one")]);
}

#[test]
fn a_quick_scan_takes_digests_over_and_a_deep_one_does_not() {
    let dir = tree();
    let (mut before, _) = Scan::of(dir.path()).run();
    let forged = crate::core::entry::Digest([7; 32]);
    let one = before.get_mut(&p("one")).expect("seen");
    // A time so fresh that it proves nothing is told as 0; as if it had been seen long ago:
    let stat = rustix::fs::stat(dir.path().join("one")).expect("stat works");
    one.identity.ctime_ns = stat.st_ctime * 1_000_000_000 + stat.st_ctime_nsec as i64;
    one.entry.sha256 = Some(forged);
    let known = |path: &RelPath| before.get(path).cloned();
    let mut scan = Scan::of(dir.path());
    scan.known = &known;
    assert_eq!(scan.run().0[&p("one")].entry.sha256, Some(forged));
    scan.known = &|_| None;
    assert_ne!(scan.run().0[&p("one")].entry.sha256, Some(forged));
}

#[test]
fn what_is_settled_is_not_visited_but_what_is_below_it_is() {
    let dir = tree();
    let folder = std::fs::File::open(dir.path()).expect("opens");
    if !crate::tree::flags::System::of(folder.as_fd()).expect("statfs works").times_xattrs() {
        eprintln!("the temporary folder lies on a file system of which nothing is ever settled");
        return;
    }
    let mut scan = Scan::of(dir.path());
    let settled = |path: &RelPath, entry: &Entry, _: &Identity| match path.as_bytes() {
        b"a" => entry.kind == FileType::Directory,
        b"a/two" => entry.size == 2,
        b"one" => entry.size == 7,
        _ => false,
    };
    scan.settled = Some(&settled);
    assert_eq!(scan.paths(), ["", "a/b", "a/b/c", "a/b/c/three", "a/b/x.swp", "link", "one"]);
    let (_, report) = scan.run();
    assert_eq!((report.files, report.unreadable), (9, vec![]));
}

#[test]
fn a_file_with_several_links_is_marked_though_it_is_settled() {
    let dir = tree();
    std::fs::hard_link(dir.path().join("one"), dir.path().join("a/again")).expect("links");
    let marks = Noting::new(&|_| {});
    let mut scan = Scan::of(dir.path());
    scan.marks = Some(&marks);
    scan.settled = Some(&|_, _, _| true);
    scan.run();
    let mut files = marks.files.into_inner().expect("no panics");
    files.sort();
    assert_eq!(files, [p("a/again"), p("one")]);
}

#[test]
fn it_ends_when_told_to() {
    let dir = tree();
    let scan = Scan::of(dir.path());
    scan.progress.stop.store(true, Ordering::Relaxed);
    let (seen, report) = scan.run();
    assert!(report.stopped);
    assert_eq!(seen.len(), 1, "only the start");
}

#[test]
fn directories_that_come_and_go_meanwhile_do_no_harm() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let at = dir.path().join("x/y/z");
                std::fs::create_dir_all(&at).expect("makes");
                std::fs::write(at.join("f"), "x").expect("writes");
                std::fs::remove_dir_all(dir.path().join("x")).expect("removes");
            }
        });
        for _ in 0..200 {
            let (_, report) = Scan::of(dir.path()).run();
            assert_eq!(report.unreadable, vec![]);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_cannot_be_marked_is_told_and_scanned_all_the_same() {
    struct Refusing;
    impl Marks for Refusing {
        fn directory(&self, dir: BorrowedFd<'_>, _: WatchId, path: &RelPath) -> Result<(), MarkError> {
            let source = rustix::io::Errno::XDEV.into();
            let _ = dir.as_fd();
            Err(MarkError { what: "the directory", path: path.to_string(), advice: "set `interval`", source })
        }
        fn hard_linked(&self, _: BorrowedFd<'_>, _: WatchId, _: &RelPath) -> Result<(), MarkError> {
            Ok(())
        }
    }
    let dir = tree();
    let mut scan = Scan::of(dir.path());
    scan.marks = Some(&Refusing);
    let (seen, report) = scan.run();
    assert_eq!(seen.len(), 9);
    assert!(report.unmarked >= 4, "{}", report.unmarked);
    assert!(report.unmarked_why[0].1.contains("set `interval`"), "{:?}", report.unmarked_why);
}
