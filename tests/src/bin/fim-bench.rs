//! How long a file stays wrong: from the moment its writer's close returns until it is right again.
//!
//! One part alters single files gently and prints the distribution; the other alters many at once and compares the time
//! with that of copying them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Parser;
use fim_tests::fim::{Daemon, Fim, Policy, Setting};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

const SIZE: usize = 4096;
/// How long one file may stay wrong before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Parser)]
#[command(about)]
struct Args {
    /// The daemon's program, built for release.
    #[arg(long)]
    fim: PathBuf,
    /// A directory on the file system to measure.
    #[arg(long)]
    work: PathBuf,
    /// Files that are altered one by one.
    #[arg(long, default_value = "300")]
    gentle: u32,
    /// Of these so many in a second.
    #[arg(long, default_value = "50")]
    rate: u32,
    /// Files that are altered at once; 0 leaves this part out.
    #[arg(long, default_value = "10000")]
    burst: u32,
    #[arg(long, default_value = "auto")]
    tier: String,
    /// Keep what was made, to look at it.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("fim-bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether the targets were met.
fn run(args: &Args) -> Result<bool, String> {
    println!("file system: {}", file_system(&args.work)?);
    let gentle = gentle(args)?;
    let burst = if args.burst > 0 { burst(args)? } else { true };
    Ok(gentle && burst)
}

fn file_system(at: &Path) -> Result<String, String> {
    let output = Command::new("findmnt").args(["-n", "-o", "FSTYPE,SOURCE", "-T"]).arg(at).output();
    let output = output.map_err(|e| format!("findmnt cannot be run: {e}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn installation(args: &Args, name: &str, files: u32) -> Result<(Fim, Daemon), String> {
    let setting = Setting {
        fim: args.fim.clone(),
        actor: PathBuf::new(),
        works: vec![args.work.clone()],
        tier: args.tier.clone(),
        expect_tier: String::new(),
        full: false,
        patience: PATIENCE,
    };
    let fim = Fim::new(&setting, &args.work, name, Policy::Restore)?;
    for index in 0..files {
        let path = place(&fim, index);
        fs::create_dir_all(path.parent().unwrap_or(&fim.watched)).map_err(|e| e.to_string())?;
        fs::write(&path, content(index, b'a')).map_err(|e| e.to_string())?;
    }
    fim.init()?;
    let daemon = fim.start()?;
    Ok((fim, daemon))
}

/// A hundred files in each folder.
fn place(fim: &Fim, index: u32) -> PathBuf {
    fim.watched.join(format!("d{:03}/f{index:05}", index / 100))
}

/// Text that compresses as configuration does, different for each file.
fn content(index: u32, mark: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(SIZE + 64);
    for line in 0.. {
        if out.len() >= SIZE {
            break;
        }
        let value = (u64::from(index) << 32 | line).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        out.extend_from_slice(format!("{}key{line} = {value:016x}\n", char::from(mark)).as_bytes());
    }
    out.truncate(SIZE);
    out
}

/// Overwrites the file and returns the moment at which its close had returned.
fn alter(path: &Path, index: u32) -> Result<Instant, String> {
    let write = || -> std::io::Result<Instant> {
        let mut file = fs::OpenOptions::new().write(true).open(path)?;
        file.write_all(&content(index, b'x'))?;
        drop(file);
        Ok(Instant::now())
    };
    write().map_err(|e| format!("{}: {e}", path.display()))
}

fn gentle(args: &Args) -> Result<bool, String> {
    let (fim, daemon) = installation(args, "gentle", args.gentle.max(1))?;
    let mut took = Vec::new();
    let pause = Duration::from_secs(1) / args.rate.max(1);
    for index in 0..args.gentle {
        let begun = Instant::now();
        let path = place(&fim, index);
        let watcher = Watcher::new(path.parent().unwrap_or(&fim.watched))?;
        let closed = alter(&path, index)?;
        let right = watcher.wait_right(&path, &content(index, b'a'))?;
        took.push(right.saturating_duration_since(closed));
        // The rate is what is being set here; nothing waits for anything.
        std::thread::sleep(pause.saturating_sub(begun.elapsed()));
    }
    daemon.stop(PATIENCE)?;
    if !args.keep {
        fim.remove();
    }
    took.sort();
    let at = |q: f64| took.get(((took.len() as f64 - 1.0) * q).round() as usize).copied().unwrap_or_default();
    println!(
        "gentle: {} files of {SIZE} bytes at {}/s: p50 {} us, p90 {} us, p99 {} us, max {} us",
        took.len(),
        args.rate,
        at(0.5).as_micros(),
        at(0.9).as_micros(),
        at(0.99).as_micros(),
        at(1.0).as_micros()
    );
    let met = at(0.5) < Duration::from_millis(1) && at(0.99) < Duration::from_millis(5);
    println!("        target p50 < 1000 us, p99 < 5000 us: {}", verdict(met));
    Ok(met)
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

/// Wakes when names in a folder change, so that waiting takes no time from the daemon.
struct Watcher(rustix::fd::OwnedFd);

impl Watcher {
    fn new(dir: &Path) -> Result<Self, String> {
        let make = || -> rustix::io::Result<Self> {
            let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
            let events = inotify::WatchFlags::MOVED_TO
                | inotify::WatchFlags::CREATE
                | inotify::WatchFlags::MODIFY
                | inotify::WatchFlags::ATTRIB;
            inotify::add_watch(&fd, dir, events)?;
            Ok(Self(fd))
        };
        make().map_err(|e| format!("inotify on {}: {e}", dir.display()))
    }

    fn wait_right(&self, path: &Path, approved: &[u8]) -> Result<Instant, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        while Instant::now() < deadline {
            if fs::read(path).is_ok_and(|now| now == approved) {
                return Ok(Instant::now());
            }
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            // The time limit only matters should a report be missed.
            let limit = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            let _ = poll(&mut fds, Some(&limit));
            while rustix::io::read(&self.0, &mut buffer).is_ok_and(|n| n > 0) {}
        }
        Err(format!("{} is still wrong after {} s", path.display(), PATIENCE.as_secs()))
    }
}

fn burst(args: &Args) -> Result<bool, String> {
    let (fim, daemon) = installation(args, "burst", args.burst)?;
    let copying = copy_time(&fim)?;
    let begun = Instant::now();
    for index in 0..args.burst {
        alter(&place(&fim, index), index)?;
    }
    let altered = begun.elapsed();
    for index in 0..args.burst {
        let (path, approved) = (place(&fim, index), content(index, b'a'));
        while fs::read(&path).map_or(true, |now| now != approved) {
            if begun.elapsed() > PATIENCE {
                return Err(format!("{} is still wrong", path.display()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let all = begun.elapsed();
    daemon.stop(PATIENCE)?;
    if !args.keep {
        fim.remove();
    }
    let after = all.saturating_sub(altered);
    let times = |t: Duration| t.as_secs_f64() / copying.as_secs_f64();
    println!(
        "burst:  {} files altered in {} ms, all right {} ms after the last ({} ms after the first); copying takes {} ms",
        args.burst,
        altered.as_millis(),
        after.as_millis(),
        all.as_millis(),
        copying.as_millis()
    );
    let met = times(after) <= 3.0;
    println!(
        "        {:.1} times the copy after the last, {:.1} times after the first; target 3: {}",
        times(after),
        times(all),
        verdict(met)
    );
    Ok(met)
}

/// The middle one of three copies, which find everything in the page cache.
fn copy_time(fim: &Fim) -> Result<Duration, String> {
    let mut took = Vec::new();
    for n in 0..3 {
        let to = fim.home.join(format!("copy{n}"));
        let begun = Instant::now();
        let status = Command::new("cp").arg("-a").arg("--").arg(&fim.watched).arg(&to).status();
        if !status.map_err(|e| format!("cp cannot be run: {e}"))?.success() {
            return Err("cp failed".into());
        }
        took.push(begun.elapsed());
        fs::remove_dir_all(&to).map_err(|e| e.to_string())?;
    }
    took.sort();
    Ok(took[1])
}
