//! One file after the other, at a gentle rate.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

use crate::rounds::quantile;
use crate::setting::{PATIENCE, Policy, Setting};
use crate::table::{Row, Table, seconds};

const SIZE: usize = 4096;
const PAUSE: Duration = Duration::from_millis(20);

pub fn measure(setting: &Setting, table: &mut Table) -> Result<(), String> {
    let tree = setting.empty("gentle")?;
    let files = setting.scale.gentle;
    for index in 0..files {
        fs::write(place(&tree, index), content(index, 'a')).map_err(|e| e.to_string())?;
    }
    let told = recorded(setting, &tree, files)?;
    for index in 0..files {
        fs::write(place(&tree, index), content(index, 'a')).map_err(|e| e.to_string())?;
    }
    let right = restored(setting, &tree, files)?;
    for (what, times, p50, p99) in [
        ("close of the writer to the event recorded and printed, 4 KiB", told, 0.000_25, 0.001),
        ("close of the writer to the file restored, 4 KiB", right, 0.001, 0.005),
    ] {
        let (half, most) = (quantile(times.clone(), 0.5), quantile(times, 0.99));
        table.row(Row {
            what: what.into(),
            fim: format!("p50 {}, p99 {}", seconds(half), seconds(most)),
            against: String::new(),
            target: format!("p50 under {}, p99 under {}", seconds(p50), seconds(p99)),
            met: Some(half < p50 && most < p99),
            peers: String::new(),
        });
    }
    fs::remove_dir_all(&tree).map_err(|e| e.to_string())
}

fn place(tree: &Path, index: u32) -> PathBuf {
    tree.join(format!("f{index:05}"))
}

/// Text as configuration is, different for each file.
fn content(index: u32, mark: char) -> Vec<u8> {
    let mut out = Vec::with_capacity(SIZE + 64);
    for line in 0u64.. {
        if out.len() >= SIZE {
            break;
        }
        let value = (u64::from(index) << 32 | line).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        out.extend_from_slice(format!("{mark}key{line} = {value:016x}\n").as_bytes());
    }
    out.truncate(SIZE);
    out
}

fn alter(path: &Path, index: u32) -> Result<Instant, String> {
    let write = || -> std::io::Result<Instant> {
        let mut file = fs::OpenOptions::new().write(true).open(path)?;
        file.write_all(&content(index, 'x'))?;
        drop(file);
        Ok(Instant::now())
    };
    write().map_err(|e| format!("{}: {e}", path.display()))
}

fn recorded(setting: &Setting, tree: &Path, files: u32) -> Result<Vec<f64>, String> {
    let fim = setting.installation("recorded", tree, Policy::Tell)?;
    fim.init()?;
    let mut daemon = fim.start()?;
    let mut times = Vec::new();
    for index in 0..files {
        let path = place(tree, index);
        let name = path.to_string_lossy().into_owned();
        let closed = alter(&path, index)?;
        while !daemon.next_line(PATIENCE)?.contains(&name) {}
        times.push(closed.elapsed().as_secs_f64());
        // The rate is what is being set here; nothing waits for anything.
        std::thread::sleep(PAUSE);
    }
    daemon.stop(PATIENCE)?;
    fim.remove();
    Ok(times)
}

fn restored(setting: &Setting, tree: &Path, files: u32) -> Result<Vec<f64>, String> {
    let fim = setting.installation("restored", tree, Policy::Restore)?;
    fim.init()?;
    let daemon = fim.start()?;
    let mut times = Vec::new();
    for index in 0..files {
        let path = place(tree, index);
        let watcher = watcher(tree)?;
        let closed = alter(&path, index)?;
        times.push(wait_right(&watcher, &path, &content(index, 'a'), closed)?);
        std::thread::sleep(PAUSE);
    }
    daemon.stop(PATIENCE)?;
    fim.remove();
    Ok(times)
}

/// Wakes when names in a folder change, so that waiting takes no time from the daemon.
fn watcher(dir: &Path) -> Result<rustix::fd::OwnedFd, String> {
    let make = || -> rustix::io::Result<_> {
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let events = inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::ATTRIB;
        inotify::add_watch(&fd, dir, events)?;
        Ok(fd)
    };
    make().map_err(|e| format!("inotify on {}: {e}", dir.display()))
}

fn wait_right(
    watcher: &rustix::fd::OwnedFd,
    path: &Path,
    approved: &[u8],
    closed: Instant,
) -> Result<f64, String> {
    let mut buffer = [0; 4096];
    while closed.elapsed() < PATIENCE {
        if fs::read(path).is_ok_and(|now| now == approved) {
            return Ok(closed.elapsed().as_secs_f64());
        }
        // The time limit only matters should a report be missed.
        let limit = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let _ = poll(&mut [PollFd::new(watcher, PollFlags::IN)], Some(&limit));
        while rustix::io::read(watcher, &mut buffer).is_ok_and(|n| n > 0) {}
    }
    Err(format!("{} stays wrong", path.display()))
}
