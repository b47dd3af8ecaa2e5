//! `ebpf_attach [TIER…] [-- COMMAND…]`: loads the programs in each tier named (default: all), prints the attach table,
//! and makes a few changes, or runs the command in the watched folder, to see them reported. Run as root.
//! Ends with 1 when a tier named cannot be had or a hook of it failed.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use fim::core::observation::{Signal, WatchId};
use fim::core::path::RelPath;
use fim::core::tier::Tier;
use fim::sensor::dirs::{DirKey, Directories};
use fim::sensor::ebpf::{Attachment, Ebpf, RING_BYTES};
use fim::sensor::marks::Marks;

/// Observations printed at most.
const SHOWN: usize = 100;

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let named: Vec<Tier> =
        args.iter().take_while(|arg| *arg != "--").filter_map(|name| Tier::from_name(name)).collect();
    let command: Vec<String> = args.into_iter().skip_while(|arg| arg != "--").skip(1).collect();
    let tiers = if named.is_empty() { vec![Tier::Lsm, Tier::Fentry, Tier::Tracepoint] } else { named };
    let results: Vec<bool> = tiers.into_iter().map(|tier| show(tier, &command)).collect();
    let well = results.into_iter().all(|well| well);
    println!("{}", if well { "ATTACH-RESULT ok" } else { "ATTACH-RESULT failed" });
    if well { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

/// `FIM_RING` in bytes, small ones to see what a full ring does.
fn ring_bytes() -> u32 {
    std::env::var("FIM_RING").ok().and_then(|bytes| bytes.parse().ok()).unwrap_or(RING_BYTES)
}

fn show(tier: Tier, command: &[String]) -> bool {
    let (out, signals) = crossbeam_channel::bounded(4096);
    let dirs = Directories::new();
    let began = Instant::now();
    let (ebpf, refused) = match Ebpf::start_with_ring(tier, ring_bytes(), dirs.clone(), out) {
        Ok(started) => started,
        Err(refused) => {
            refused.iter().for_each(|r| println!("{}: refused: {}", r.tier, r.reason));
            return false;
        }
    };
    refused.iter().for_each(|r| println!("{}: refused: {}", r.tier, r.reason));
    println!("asked for {tier}, runs {} after {} ms", ebpf.tier(), began.elapsed().as_millis());
    for state in ebpf.attach_table() {
        println!("  {state}");
    }
    if ebpf.tier().hooks_files() {
        changes(&ebpf, &dirs, command);
        let deadline = Instant::now() + Duration::from_secs(3);
        let mut observed = 0;
        while let Ok(signal) = signals.recv_deadline(deadline) {
            observed += usize::from(matches!(signal, Signal::Observed(_)));
            match signal {
                Signal::Observed(_) if observed > SHOWN => {}
                Signal::Observed(o) => {
                    let actor = o.actor.as_deref();
                    let ids = actor.map(|a| (a.pid, a.uid, a.gid, a.exe.clone(), a.cmdline.join(" ")));
                    println!("  {:?} {} {ids:?}", o.deed, o.path);
                }
                other => println!("  {other:?}"),
            }
        }
        println!("  {observed} observations");
    }
    for (hook, tally) in ebpf.counters().into_iter().filter(|(_, tally)| tally.counted.seen > 0) {
        let (name, counted, skipped) = (hook.name(), tally.counted, tally.skipped);
        let (seen, kept, dropped) = (counted.seen, counted.kept, counted.dropped);
        println!("  {name}: seen {seen} kept {kept} dropped {dropped} skipped {skipped}");
    }
    println!("  unplaced {}", ebpf.unplaced());
    let failed = ebpf.attach_table().iter().any(|state| matches!(state.attachment, Attachment::Failed(_)));
    ebpf.tier() == tier && !failed
}

/// A few changes by a process that is neither root nor of a group with the same number.
fn changes(ebpf: &Ebpf, dirs: &Directories, command: &[String]) {
    let root = std::env::temp_dir().join(format!("fim-attach-{}", std::process::id()));
    fs::create_dir_all(&root).expect("a folder for the trial");
    std::os::unix::fs::chown(&root, Some(1234), Some(4321)).expect("root may");
    let opened = fs::File::open(&root).expect("opens");
    dirs.register(WatchId(0), &RelPath::root(), DirKey::of(opened.as_fd()).expect("a key"), None);
    ebpf.directory(opened.as_fd(), WatchId(0), &RelPath::root()).expect("marks");
    let script = "echo a > f; chmod 600 f; mkdir d; echo b > d/g; mv f d/h; ln d/h /tmp/outside-$$; \
                  echo c >> /tmp/outside-$$; ln -s x s; rm d/g s; rm -f /tmp/outside-$$; truncate -s 0 d/h";
    let ended = match command {
        [program, args @ ..] => Command::new(program).args(args).current_dir(&root).status(),
        [] => Command::new("/bin/sh").args(["-c", script]).current_dir(&root).gid(4321).uid(1234).status(),
    };
    println!("  the changes ended with {ended:?}");
    if let Ok(inner) = fs::File::open(root.join("d")) {
        let key = DirKey::of(inner.as_fd()).expect("a key");
        println!("  the new folder joined: {}", ebpf.watches(key));
        dirs.register(WatchId(0), &RelPath::new("d").expect("sound"), key, None);
        let file = fs::File::open(root.join("d/h")).expect("there");
        let key = DirKey::of(file.as_fd()).expect("a key");
        dirs.register_file(WatchId(0), &RelPath::new("d/h").expect("sound"), key, None);
        println!("  the linked file joined: {}", ebpf.watches(key));
    }
    let _ = fs::remove_dir_all(&root);
}
