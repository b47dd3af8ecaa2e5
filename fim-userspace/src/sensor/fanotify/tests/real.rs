//! On the kernel that runs the tests; they need root.

use super::*;

/// Every kind of event, in one place, so that each file system can be put through it.
fn every_kind(base: &Path) {
    let tree = base.join("tree");
    let outside = base.join("outside");
    std::fs::create_dir_all(tree.join("sub")).expect("makes");
    std::fs::create_dir_all(&outside).expect("makes");
    std::fs::write(tree.join("old"), "1").expect("writes");
    std::fs::write(outside.join("in"), "2").expect("writes");
    let mut w = Watched::new(&tree, Options::default());
    let wrote = |path| vec![deed(path, Deed::Written), deed(path, Deed::Closed)];

    let pid = w.sh("echo > new");
    let seen = w.observed();
    assert!(seen.iter().all(|o| o.source == Source::Fanotify && o.watch == W && !o.directory));
    assert!(seen.iter().all(|o| o.actor.as_ref().is_some_and(|a| a.pid == Some(pid))), "{seen:?}");
    let paths: Vec<_> = seen.iter().map(|o| o.path.to_string()).collect();
    assert!(!paths.is_empty() && paths.iter().all(|path| path == "new"), "{paths:?}");

    let cases: Vec<(&str, Vec<(String, Deed)>)> = vec![
        ("echo >> old", wrote("old")),
        ("exec chmod 600 old", vec![deed("old", Deed::Attributes)]),
        ("exec touch -d @7 sub/../old", vec![deed("old", Deed::Attributes), deed("old", Deed::Closed)]),
        ("exec ln -s nowhere sub/link", vec![deed("sub/link", Deed::Created)]),
        ("exec ln old sub/hard", vec![deed("sub/hard", Deed::Created)]),
        ("exec mkfifo pipe", vec![deed("pipe", Deed::Created)]),
        ("exec mv old sub/moved", vec![deed("sub/moved", here(Some("old")))]),
        ("exec mv ../outside/in in", vec![deed("in", here(None))]),
        ("exec mv in ../outside/out", vec![deed("in", Deed::MovedAway)]),
        ("exec mv new sub/moved", vec![deed("sub/moved", here(Some("new")))]),
        ("exec rm sub/moved", vec![deed("sub/moved", Deed::Deleted)]),
        ("exec mkdir made", vec![deed("made", Deed::Created)]),
        ("exec chmod 700 made", vec![deed("made", Deed::Attributes)]),
        ("exec mv made sub/made", vec![deed("sub/made", here(Some("made")))]),
        ("exec mkdir sub/made/x", vec![deed("sub/made/x", Deed::Created)]),
        ("exec rmdir sub/made/x", vec![deed("sub/made/x", Deed::Deleted)]),
        ("exec mv sub/made ../outside/made", vec![deed("sub/made", Deed::MovedAway)]),
    ];
    for (script, expected) in cases {
        w.sh(script);
        let mut deeds = w.deeds();
        // The link count is an attribute, too; some file systems say so and some do not. A touched file is opened first.
        deeds.retain(|d| expected.contains(d) || d.1 != Deed::Attributes);
        deeds.dedup();
        assert_eq!(deeds, expected, "{script} in {}", base.display());
    }
    assert_eq!(w.dirs.count(), 2, "the tree and sub");
}

#[test]
fn every_kind_on_the_temporary_directory() {
    let dir = tempfile::tempdir().expect("temporary directory");
    every_kind(dir.path());
}

#[test]
fn every_kind_on_tmpfs() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("tmpfs at /dev/shm");
    every_kind(dir.path());
}

/// Unmounted when dropped.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn on_loop(kind: &str) {
    let work = tempfile::tempdir().expect("temporary directory");
    let (image, at) = (work.path().join("image"), work.path().join("at"));
    std::fs::create_dir(&at).expect("makes");
    let quiet = if kind == "ext4" { "-q -F" } else { "-q -f" };
    let script = format!(
        "truncate -s 512M {0}; mkfs.{kind} {quiet} {0} && mount -o loop {0} {1}",
        image.display(),
        at.display()
    );
    let made = Command::new("sh").args(["-c", &script]).output().expect("sh runs");
    let why = String::from_utf8_lossy(&made.stderr);
    assert!(
        made.status.success(),
        "{kind} cannot be made or mounted here ({}); run as root after `cargo xtask setup`",
        why.trim()
    );
    let _mounted = Mounted(at.clone());
    every_kind(&at);
    if kind == "btrfs" {
        sh_in(
            &at,
            "btrfs subvolume create -q volume 2>/dev/null || btrfs subvolume create volume > /dev/null",
        );
        every_kind(&at.join("volume"));
        let key =
            |path: &Path| DirKey::of(std::fs::File::open(path).expect("opens").as_fd()).expect("statx works");
        let st_dev = |path: &Path| rustix::fs::stat(path).expect("stat works").st_dev;
        assert_ne!(st_dev(&at), st_dev(&at.join("volume")));
        assert_eq!(key(&at).dev, key(&at.join("volume")).dev, "one file system to the kernel");
    }
}

#[test]
fn every_kind_on_ext4() {
    on_loop("ext4");
}

#[test]
fn every_kind_on_xfs() {
    on_loop("xfs");
}

#[test]
fn every_kind_on_btrfs_and_its_subvolumes() {
    on_loop("btrfs");
}

#[test]
fn every_kind_on_overlayfs() {
    let work = tempfile::tempdir_in("/dev/shm").expect("tmpfs at /dev/shm");
    sh_in(
        work.path(),
        "mkdir lower upper work at; mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work none at",
    );
    let at = work.path().join("at");
    let _mounted = Mounted(at.clone());
    every_kind(&at);
}

#[test]
fn a_tree_made_at_once_is_marked_to_the_bottom() {
    let (_dir, mut w) = Watched::temporary();
    w.sh("mkdir -p a/b/c/d; for i in 1 2 3; do mkdir a/b/c/d/$i; echo > a/b/c/d/$i/f; done");
    let seen = w.observed();
    let top = seen.iter().find(|o| o.path == p("a") && o.deed == Deed::Created).expect("the top is told of");
    assert!(top.directory);
    assert_eq!(w.dirs.count(), 8);
    w.sh("exec touch a/b/c/d/2/late");
    assert!(w.deeds().contains(&deed("a/b/c/d/2/late", Deed::Created)));
}

#[test]
fn a_tree_moved_in_and_about_keeps_its_paths() {
    let outside = tempfile::tempdir().expect("temporary directory");
    sh_in(outside.path(), "mkdir -p tree/x/y");
    let (_dir, mut w) = Watched::temporary();
    w.sh(&format!("exec mv {}/tree tree", outside.path().display()));
    assert_eq!(w.deeds(), [deed("tree", here(None))]);
    w.sh("exec mkdir k");
    // From here on the new folder is marked.
    assert_eq!(w.deeds(), [deed("k", Deed::Created)]);
    w.sh("mv tree k/t; echo > k/t/x/y/f; mv k l; echo > l/t/x/f");
    let deeds = w.deeds();
    for expected in [
        deed("k/t", here(Some("tree"))),
        deed("k/t/x/y/f", Deed::Created),
        deed("l", here(Some("k"))),
        deed("l/t/x/f", Deed::Created),
    ] {
        assert!(deeds.contains(&expected), "{expected:?} in {deeds:?}");
    }
}

#[test]
fn a_tree_moved_into_folders_that_could_not_be_marked_in_time_is_found_where_it_is() {
    let (_dir, mut w) = Watched::temporary();
    w.sh("mkdir -p tree/x/y");
    w.observed();
    let stub = w.stub.clone();
    let held = stub.gate.lock().expect("free");
    w.sh("echo > first");
    w.entered();
    // What is under the new folders reports from under names that nobody has been told of.
    w.sh(
        "mkdir -p k/m; mv tree k/m/t; echo > k/m/t/x/y/f; mv k/m/t/x/y/f k/m/t/x/g; mv k l; echo > l/m/t/x/h",
    );
    drop(held);
    // No report is a gap, or this fails.
    let seen = w.observed();
    let told = |path: &str| seen.iter().any(|o| o.path == p(path));
    let arrived = |path: &str| seen.iter().any(|o| o.path == p(path) && o.directory && o.deed == here(None));
    assert!(told("tree") && told("l") && arrived("l"), "{seen:?}");
    for path in ["l/m/t/x/y/f", "l/m/t/x/g", "l/m/t/x/h"] {
        assert!(told(path), "{path} in {seen:?}");
    }
    assert_eq!(w.dirs.count(), 6, "the top, l, m, t, x and y");
    w.sh("echo > l/m/t/x/y/late; echo > l/m/late");
    let deeds = w.deeds();
    for path in ["l/m/t/x/y/late", "l/m/late"] {
        assert!(deeds.contains(&deed(path, Deed::Created)), "{path} in {deeds:?}");
    }
}

#[test]
fn exchanged_directories_are_told_apart_afterwards() {
    let (_dir, mut w) = Watched::temporary();
    w.sh("mkdir -p a/in-a b/in-b");
    w.observed();
    // In another process, since what this one does is passed over. Debian's mv cannot exchange, its perl can.
    const AT_FDCWD: i32 = -100;
    const EXCHANGE: i32 = 2;
    let call = format!("syscall({}, {AT_FDCWD}, $n[0], {AT_FDCWD}, $n[1], {EXCHANGE})", libc::SYS_renameat2);
    w.sh(&format!("perl -e 'my @n = (\"a\", \"b\"); {call} == 0 or die'"));
    w.sh("echo > a/in-b/one; echo > b/in-a/two");
    let deeds = w.deeds();
    assert!(deeds.contains(&deed("a/in-b/one", Deed::Created)), "{deeds:?}");
    assert!(deeds.contains(&deed("b/in-a/two", Deed::Created)), "{deeds:?}");
    assert_eq!(w.dirs.count(), 5);
}

#[test]
fn a_directory_moved_out_is_let_go() {
    let outside = tempfile::tempdir().expect("temporary directory");
    let (_dir, mut w) = Watched::temporary();
    w.sh(&format!("mkdir d; mv d {0}/d; echo > {0}/d/first", outside.path().display()));
    w.so_far();
    let seen = w.sensor.events_seen();
    sh_in(outside.path(), "for i in 1 2 3 4 5 6 7 8 9; do echo > d/$i; done");
    assert_eq!(w.so_far(), []);
    assert!(w.sensor.events_seen() - seen < 9, "the mark outside is gone");
}

#[test]
fn what_this_process_does_is_not_told_and_its_directories_are_its_own_to_mark() {
    let (dir, mut w) = Watched::temporary();
    std::fs::create_dir(dir.path().join("own")).expect("makes");
    std::fs::write(dir.path().join("own/file"), "x").expect("writes");
    assert_eq!(w.so_far(), []);
    assert_eq!(w.dirs.count(), 1);
    let root = Root::open(&w.base).expect("opens");
    let own = root.open_dir(&p("own")).expect("opens");
    w.sensor.directory(own.as_fd(), W, &p("own")).expect("marks");
    w.sh("exec rm own/file");
    assert_eq!(w.deeds(), [deed("own/file", Deed::Deleted)]);
}

#[test]
fn excluded_paths_are_silent_and_unmarked() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let patterns = crate::core::policy::Exclusions::new(&["*.swp", "cache/"]).expect("valid");
    let exclude: Exclude = Arc::new(move |_, path, directory| patterns.excludes(path, directory));
    let mut w = Watched::new(dir.path(), Options { exclude, ..Options::default() });
    w.sh("mkdir -p cache/deep; echo > cache/deep/f; echo > a.swp; mv a.swp b; mv b c.swp");
    assert_eq!(w.deeds(), [deed("b", here(None)), deed("b", Deed::MovedAway)]);
    assert_eq!(w.dirs.count(), 1);
}

#[test]
fn a_write_through_a_link_outside_is_told_for_every_name() {
    let outside = tempfile::tempdir().expect("temporary directory");
    let (_dir, mut w) = Watched::temporary();
    w.sh(&format!("echo > one; ln one two; ln one {}/three", outside.path().display()));
    w.observed();
    let root = Root::open(&w.base).expect("opens");
    for name in ["one", "two"] {
        let file = root.open_path(&p(name)).expect("opens");
        w.sensor.hard_linked(file.as_fd(), W, &p(name)).expect("marks");
    }
    sh_in(outside.path(), "echo changed > three");
    let mut deeds = w.deeds();
    deeds.sort_by_key(|d| format!("{d:?}"));
    deeds.dedup();
    let expected = ["one", "two"].map(|path| [deed(path, Deed::Closed), deed(path, Deed::Written)]).concat();
    assert_eq!(deeds, expected);
    w.sh("echo again > one");
    let deeds = w.deeds();
    assert!(
        deeds.contains(&deed("one", Deed::Written)) && deeds.contains(&deed("two", Deed::Written)),
        "{deeds:?}"
    );
}

#[test]
fn a_full_kernel_queue_is_a_gap_and_the_sensor_goes_on() {
    let limit: usize = std::fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(16_384);
    let (_dir, mut w) = Watched::temporary();
    let stub = w.stub.clone();
    let held = stub.gate.lock().expect("free");
    w.sh(&format!("seq -f f%.0f {} | xargs touch", limit + 2000));
    drop(held);
    let gap = |s: &Signal| matches!(s, Signal::Gap { watch: None, lost: None, source: Source::Fanotify, .. });
    // The end mark itself may fall into the full queue: wait for the gap first.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !gap(&w.signals.recv_deadline(deadline).expect("a gap is told")) {}
    w.so_far();
    w.sh("exec touch fine");
    assert!(w.deeds().contains(&deed("fine", Deed::Created)));
}

#[test]
fn one_process_is_looked_up_once_per_batch() {
    let (_dir, mut w) = Watched::temporary();
    let held = w.stub.clone();
    let held = held.gate.lock().expect("free");
    w.sh("i=0; while [ $i -lt 500 ]; do : > f$i; i=$((i+1)); done");
    drop(held);
    let seen = w.observed().len();
    assert!(seen >= 1000, "{seen}");
    assert!(w.stub.asked.load(Ordering::Relaxed) < 10, "{:?}", w.stub.asked);
}

#[test]
fn losing_the_root_is_a_gap_with_a_name_to_it() {
    for (script, lost) in [("exec rmdir top", Deed::Deleted), ("exec mv top away", Deed::MovedAway)] {
        let dir = tempfile::tempdir().expect("temporary directory");
        sh_in(dir.path(), "mkdir top; echo > beside");
        let mut w = Watched::new(&dir.path().join("top"), Options::default());
        sh_in(dir.path(), "rm beside; mkdir beside; rmdir beside");
        assert_eq!(w.so_far(), [], "what is beside the root is not watched");
        let pid = sh_in(dir.path(), script);
        let next = || w.signals.recv_timeout(Duration::from_secs(20)).expect("told of");
        let Signal::Observed(first) = next() else { panic!("an observation comes first") };
        assert_eq!((first.path.is_root(), first.deed), (true, lost));
        assert_eq!(first.actor.and_then(|a| a.pid), Some(pid));
        assert!(matches!(next(), Signal::Gap { watch: Some(W), .. }));
    }
}

#[test]
fn a_pidfd_proves_the_process_and_a_dead_one_is_not_guessed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut w = Watched::new(dir.path(), Options { pidfd: true, ..Options::default() });
    if !w.sensor.features().pidfd {
        eprintln!("SKIPPED: this kernel gives no pidfd");
        return;
    }
    let stub = w.stub.clone();
    let held = stub.gate.lock().expect("free");
    // The first event's process lives until the sensor's thread stands at the gate; the second is dead when its event
    // is read.
    let mut first = Command::new("sh")
        .args(["-c", "echo > first; read wait"])
        .current_dir(&w.base)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("sh starts");
    w.entered();
    drop(first.stdin.take());
    first.wait().expect("sh ends");
    let pid = w.sh("echo > second");
    drop(held);
    let seen = w.observed();
    let second = seen.iter().find(|o| o.path == p("second")).expect("seen");
    let actor = second.actor.as_ref().expect("its number is known");
    assert_eq!((actor.pid, actor.confidence), (Some(pid), Confidence::Unknown));
}

#[test]
fn a_mount_over_a_watched_path_is_told_and_what_is_in_it_watched() {
    let (dir, mut w) = Watched::temporary();
    w.sh("mkdir a; echo > a/hidden");
    w.so_far();
    // Another process, so that this one's mount is no special case.
    w.sh("mount -t tmpfs none a");
    let mounted = Mounted(dir.path().join("a"));
    let next = |w: &Watched| w.signals.recv_timeout(Duration::from_secs(20)).expect("told of");
    let Signal::Observed(over) = next(&w) else { panic!("an observation comes first") };
    assert_eq!((over.path, over.deed, over.directory), (p("a"), Deed::MountedOver, true));
    assert!(matches!(next(&w), Signal::Gap { watch: Some(W), .. }));
    w.sh("echo > a/new");
    assert!(w.deeds().contains(&deed("a/new", Deed::Created)));
    drop(mounted);
    assert!(matches!(next(&w), Signal::Gap { watch: Some(W), .. }));
    w.sh("echo >> a/hidden");
    assert!(w.deeds().contains(&deed("a/hidden", Deed::Written)));
}

#[test]
fn a_new_name_of_a_file_outside_is_watched_from_there_too() {
    let outside = tempfile::tempdir().expect("temporary directory");
    sh_in(outside.path(), "echo > there");
    let (_dir, mut w) = Watched::temporary();
    w.sh(&format!("ln {}/there here", outside.path().display()));
    assert!(w.deeds().contains(&deed("here", Deed::Created)));
    sh_in(outside.path(), "echo changed > there");
    assert!(w.deeds().contains(&deed("here", Deed::Written)));
}

#[test]
fn a_watch_that_is_let_go_is_silent() {
    let (_dir, mut w) = Watched::temporary();
    let other = tempfile::tempdir().expect("temporary directory");
    let root = Arc::new(Root::open(other.path()).expect("opens"));
    let second = WatchId(W.0 + 5);
    w.sensor.watch(second, root.clone());
    w.sensor
        .directory(root.open_dir(&RelPath::root()).expect("opens").as_fd(), second, &RelPath::root())
        .expect("marks");
    sh_in(other.path(), "mkdir seen");
    assert!(w.observed().iter().all(|o| o.watch == second));
    w.sensor.unwatch(second);
    sh_in(other.path(), "mkdir unseen; mkdir unseen2");
    assert_eq!(w.so_far(), []);
}

#[test]
fn what_a_renamed_directory_no_longer_excludes_is_watched() {
    let dir = tempfile::tempdir().expect("temporary directory");
    sh_in(dir.path(), "mkdir -p a/skip");
    let patterns = crate::core::policy::Exclusions::new(&["/a/skip/"]).expect("valid");
    let exclude: Exclude = Arc::new(move |_, path, directory| patterns.excludes(path, directory));
    let mut w = Watched::new(dir.path(), Options { exclude, ..Options::default() });
    w.sh("echo > a/skip/unseen; mv a b");
    assert_eq!(w.deeds(), [deed("b", here(Some("a")))]);
    w.sh("echo > b/skip/seen");
    assert!(w.deeds().contains(&deed("b/skip/seen", Deed::Created)));
}

#[test]
fn a_sensor_that_fails_says_so() {
    struct Failing;
    impl Identify for Failing {
        fn identify(&self, _: u32, _: Option<BorrowedFd<'_>>) -> Actor {
            panic!("as the test wants it")
        }
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let (out, signals) = crossbeam_channel::bounded(10);
    let sensor =
        Fanotify::start(Directories::new(), Arc::new(Failing), out, Options::default()).expect("starts");
    let root = Arc::new(Root::open(dir.path()).expect("opens"));
    sensor.watch(W, root.clone());
    let top = RelPath::root();
    sensor.directory(root.open_dir(&top).expect("opens").as_fd(), W, &top).expect("marks");
    sh_in(dir.path(), "echo > f");
    let said = signals.recv_timeout(Duration::from_secs(20)).expect("told of");
    assert!(matches!(said, Signal::Stopped { source: Source::Fanotify, .. }), "{said:?}");
}
