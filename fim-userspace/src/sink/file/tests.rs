mod killed;
mod logrotate;

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::config::{LogFormat, Rotation};
use crate::sink::tests::{event, events, ids, run, sink_state, state, until};
use crate::store::Store;

const NONE: Rotation = Rotation { max_size: None, max_age: None, keep: 3 };

fn config(path: &Path, rotation: Rotation) -> FileLog {
    FileLog { path: path.into(), format: LogFormat::Json, rotation }
}

fn sink(path: &Path, rotation: Rotation, reopen: &Reopen) -> FileSink {
    FileSink::new("log:test", Severity::Low, config(path, rotation), reopen.clone())
}

/// A folder as it must be: reached without symbolic links.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let real = dir.path().canonicalize().expect("real");
    (dir, real)
}

/// The ids in a log of JSON lines; every line is whole.
fn read_ids(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "a half line at the end: {text:?}");
    text.lines().map(|line| serde_json::from_str::<Record>(line).expect(line).id).collect()
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    PathBuf::from(format!("{}.{n}", path.display()))
}

fn line(n: usize) -> String {
    format!("{n:099}\n")
}

fn lines(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(line).collect()
}

fn log(path: &Path, rotation: Rotation) -> LogFile {
    LogFile::new(config(path, rotation), Reopen::default())
}

#[tokio::test]
async fn records_become_lines_that_only_owner_and_group_read() {
    let (_dir, folder) = folder();
    let (state_dir, path) = (state(), folder.join("new/fim.log"));
    let mut store = Store::open(state_dir.path()).expect("a store");
    store.append(&events(0..3), &[]).expect("history before the sink was there");
    let running = run(sink(&path, NONE, &Reopen::default()), state_dir.path());
    let sent = running.append(&mut store, &events(3..600));
    until(|| sink_state(&store, "log:test").cursor == 600, || "the cursor's move".into()).await;
    running.finish().await;
    assert_eq!(read_ids(&path), ids(&sent), "each once, in order");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o777;
    assert_eq!((mode(&path) & 0o137, mode(&folder.join("new")) & 0o027), (0, 0));
}

#[tokio::test]
async fn only_what_is_severe_enough_is_written() {
    let (_dir, folder) = folder();
    let path = folder.join("fim.log");
    let mut sink = FileSink::new("log:x", Severity::High, config(&path, NONE), Reopen::default());
    let mut list: Vec<Record> =
        (0..3).map(|n| Record { seq: n, id: n.to_string(), event: event(n as usize) }).collect();
    list[1].event.severity = Severity::Medium;
    assert_eq!(sink.deliver(&list).await.expect("written").count, 3);
    assert_eq!(read_ids(&path), ["0", "2"]);
}

#[test]
fn parts_are_rotated_by_size_and_the_oldest_goes() {
    let (_dir, folder) = folder();
    let path = folder.join("fim.log");
    let mut log = log(&path, Rotation { max_size: Some(5_000), max_age: None, keep: 3 });
    log.append(&lines(0..120)).expect("one batch over several parts");
    for n in 120..210 {
        log.append(&lines(n..n + 1)).expect("line by line");
    }
    // 50 lines of 100 bytes fill a part: 210 of them four and a bit.
    let read = |path: &Path| std::fs::read_to_string(path).expect("there");
    assert_eq!(read(&path), lines(200..210).concat());
    for (n, range) in [(1, 150..200), (2, 100..150), (3, 50..100)] {
        assert_eq!(read(&numbered(&path, n)), lines(range).concat(), "part {n}");
    }
    assert!(!numbered(&path, 4).exists());
    log.append(&["x".repeat(20_000) + "\n"]).expect("a line larger than a part");
    assert_eq!(read(&path).len(), 20_001);
    log.append(&lines(0..1)).expect("goes on");
    assert_eq!((read(&path).len(), read(&numbered(&path, 1)).len()), (100, 20_001));
}

#[test]
fn fewer_parts_are_kept_once_told_and_gaps_are_filled() {
    let (_dir, folder) = folder();
    let path = folder.join("fim.log");
    for n in [1, 2, 4, 5, 6] {
        std::fs::write(numbered(&path, n), format!("part {n}\n")).expect("written");
    }
    std::fs::write(&path, lines(0..45).concat()).expect("written");
    log(&path, Rotation { max_size: Some(4_500), max_age: None, keep: 4 })
        .append(&lines(45..46))
        .expect("rotated");
    let read = |n: u32| std::fs::read_to_string(numbered(&path, n)).ok();
    let expected = [
        Some(lines(0..45).concat()),
        Some("part 1\n".into()),
        Some("part 2\n".into()),
        Some("part 4\n".into()),
    ];
    assert_eq!([1, 2, 3, 4].map(read), expected);
    assert_eq!([5, 6].map(read), [None, None]);
}

#[test]
fn parts_are_rotated_by_age_across_a_restart() {
    let (_dir, folder) = folder();
    let path = folder.join("fim.log");
    let rotation = Rotation { max_size: None, max_age: Some(Duration::from_millis(300)), keep: 2 };
    log(&path, rotation).append(&lines(0..1)).expect("written");
    let born = std::fs::metadata(&path).expect("there").created();
    let mut second = log(&path, rotation);
    second.append(&lines(1..2)).expect("written");
    assert!(!numbered(&path, 1).exists(), "too young");
    let old = || match &born {
        Ok(born) => born.elapsed().is_ok_and(|age| age > Duration::from_millis(300)),
        // Where no file system tells of births, age is counted from the opening.
        Err(_) => second.open.as_ref().is_some_and(|open| open.age() > Duration::from_millis(300)),
    };
    while !old() {
        std::thread::yield_now();
    }
    second.append(&lines(2..3)).expect("written");
    assert_eq!(std::fs::read_to_string(numbered(&path, 1)).expect("rotated"), lines(0..2).concat());
    assert_eq!(std::fs::read_to_string(&path).expect("there"), line(2));
}

#[test]
fn what_cannot_be_rotated_is_still_written() {
    let (_dir, folder) = folder();
    let path = folder.join("fim.log");
    std::fs::create_dir(numbered(&path, 1)).expect("in the way");
    let mut log = log(&path, Rotation { max_size: Some(4_096), max_age: None, keep: 1 });
    log.append(&lines(0..100)).expect("written all the same");
    assert!(log.stuck);
    assert_eq!(std::fs::read_to_string(&path).expect("there"), lines(0..100).concat());
    std::fs::remove_dir(numbered(&path, 1)).expect("out of the way");
    log.append(&lines(100..101)).expect("written");
    assert_eq!(std::fs::read_to_string(&path).expect("there"), line(100));
}

#[test]
fn a_half_line_is_ended_before_the_next() {
    let (_dir, folder) = folder();
    let path = folder.join("fim.log");
    std::fs::write(&path, "{\"half\":").expect("written");
    log(&path, NONE).append(&["whole\n".into()]).expect("written");
    log(&path, NONE).append(&["more\n".into()]).expect("written");
    assert_eq!(std::fs::read_to_string(&path).expect("there"), "{\"half\":\nwhole\nmore\n");
}

#[test]
fn a_moved_removed_or_emptied_file_is_noticed() {
    let (_dir, folder) = folder();
    let path = folder.join("logs/fim.log");
    let mut log = log(&path, NONE);
    let mut write = |n: usize| log.append(&lines(n..n + 1)).expect("written");
    let read = |path: &Path| std::fs::read_to_string(path).expect("there");
    write(0);
    std::fs::rename(&path, folder.join("elsewhere")).expect("moved");
    write(1);
    assert_eq!((read(&folder.join("elsewhere")), read(&path)), (line(0), line(1)));
    std::fs::remove_file(&path).expect("removed");
    write(2);
    assert_eq!(read(&path), line(2));
    std::fs::write(&path, "").expect("copytruncate");
    write(3);
    assert_eq!(read(&path), line(3), "no hole where the old lines were");
    std::fs::rename(folder.join("logs"), folder.join("old")).expect("the folder moved");
    write(4);
    assert_eq!((read(&folder.join("old/fim.log")), read(&path)), (line(3), line(4)));
}

#[test]
fn nothing_but_a_plain_file_of_its_own_is_written() {
    let (_dir, folder) = folder();
    let path = folder.join("fim.log");
    let victim = folder.join("victim");
    std::fs::write(&victim, "precious").expect("written");
    let refused = |path: &Path, word: &str| {
        let said = log(path, NONE).append(&lines(0..1)).expect_err(word);
        assert!(said.contains(word) && said.contains("fim.log") || said.contains("real"), "{said}");
        assert_eq!(std::fs::read_to_string(&victim).expect("there"), "precious");
    };
    symlink(&victim, &path).expect("a link");
    refused(&path, "symbolic link");
    std::fs::remove_file(&path).expect("removed");
    symlink(folder.join("nowhere"), &path).expect("a dangling link");
    refused(&path, "symbolic link");
    assert!(!folder.join("nowhere").exists());
    std::fs::remove_file(&path).expect("removed");
    std::fs::hard_link(&victim, &path).expect("a second name");
    refused(&path, "2 names");
    std::fs::remove_file(&path).expect("removed");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("a FIFO");
    refused(&path, "no regular file");
    std::fs::remove_file(&path).expect("removed");
    std::fs::create_dir(&path).expect("a folder");
    refused(&path, "no regular file");
    std::fs::create_dir(folder.join("real")).expect("a folder");
    symlink(folder.join("real"), folder.join("turned")).expect("a link");
    refused(&folder.join("turned/fim.log"), "symbolic link");
    assert!(!folder.join("real/fim.log").exists());
    let said = log(&folder.join("a/b/fim.log"), NONE).append(&lines(0..1)).expect_err("no folder");
    assert!(said.contains("there is no folder"), "{said}");
}

#[test]
fn a_full_disk_leaves_no_half_line() {
    let (_dir, folder) = folder();
    let flags = rustix::mount::MountFlags::empty();
    if rustix::mount::mount("tmpfs", &folder, "tmpfs", flags, c"size=64k").is_err() {
        eprintln!("skipped: mounting a tmpfs needs root");
        return;
    }
    let _disk = Mounted(folder.clone());
    let path = folder.join("fim.log");
    let mut log = log(&path, NONE);
    log.append(&lines(0..600)).expect("fits");
    let said = log.append(&lines(600..700)).expect_err("full");
    assert!(said.contains("space"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).expect("there"), lines(0..600).concat());
    std::fs::write(&path, "").expect("room again");
    log.append(&lines(600..700)).expect("fits now");
    assert_eq!(std::fs::read_to_string(&path).expect("there"), lines(600..700).concat());
}

/// A small disk, gone when dropped.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn the_mode_of_a_file_that_is_there_stays() {
    let (_dir, folder) = folder();
    let path = folder.join("fim.log");
    std::fs::write(&path, "").expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).expect("chmod");
    log(&path, NONE).append(&lines(0..1)).expect("written");
    assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o777, 0o604);
}
