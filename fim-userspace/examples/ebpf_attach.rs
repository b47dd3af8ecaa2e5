//! Loads the programs in each tier named (default: all), prints the attach table, and makes a few changes to see them
//! reported. Run as root. Ends with 1 when a tier named cannot be had or a hook of it failed.

use std::fs;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use fim::core::observation::{Signal, WatchId};
use fim::core::path::RelPath;
use fim::core::tier::Tier;
use fim::sensor::dirs::{DirKey, Directories};
use fim::sensor::ebpf::{Attachment, Ebpf};
use fim::sensor::marks::Marks;

fn main() -> std::process::ExitCode {
    let named: Vec<Tier> = std::env::args().skip(1).filter_map(|name| Tier::from_name(&name)).collect();
    let tiers = if named.is_empty() { vec![Tier::Lsm, Tier::Fentry, Tier::Tracepoint] } else { named };
    let results: Vec<bool> = tiers.into_iter().map(show).collect();
    let well = results.into_iter().all(|well| well);
    println!("{}", if well { "ATTACH-RESULT ok" } else { "ATTACH-RESULT failed" });
    if well { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

fn show(tier: Tier) -> bool {
    let (out, signals) = crossbeam_channel::bounded(4096);
    let dirs = Directories::new();
    let began = Instant::now();
    let (ebpf, refused) = match Ebpf::start(tier, dirs.clone(), out) {
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
        changes(&ebpf, &dirs);
        let deadline = Instant::now() + Duration::from_secs(3);
        while let Ok(signal) = signals.recv_deadline(deadline) {
            match signal {
                Signal::Observed(o) => {
                    let actor = o.actor.as_deref();
                    let ids = actor.map(|a| (a.pid, a.uid, a.gid, a.exe.clone(), a.cmdline.join(" ")));
                    println!("  {:?} {} {ids:?}", o.deed, o.path);
                }
                other => println!("  {other:?}"),
            }
        }
    }
    for (hook, counters) in ebpf.counters().into_iter().filter(|(_, c)| c.seen > 0) {
        println!(
            "  {}: seen {} kept {} dropped {}",
            hook.name(),
            counters.seen,
            counters.kept,
            counters.dropped
        );
    }
    println!("  unplaced {}", ebpf.unplaced());
    let failed = ebpf.attach_table().iter().any(|state| matches!(state.attachment, Attachment::Failed(_)));
    ebpf.tier() == tier && !failed
}

/// A few changes by a process that is neither root nor of a group with the same number.
fn changes(ebpf: &Ebpf, dirs: &Directories) {
    let root = std::env::temp_dir().join(format!("fim-attach-{}", std::process::id()));
    fs::create_dir_all(&root).expect("a folder for the trial");
    std::os::unix::fs::chown(&root, Some(1234), Some(4321)).expect("root may");
    let opened = fs::File::open(&root).expect("opens");
    dirs.register(WatchId(0), &RelPath::root(), DirKey::of(opened.as_fd()).expect("a key"), None);
    ebpf.directory(opened.as_fd(), WatchId(0), &RelPath::root()).expect("marks");
    let script = "echo a > f; chmod 600 f; mkdir d; echo b > d/g; mv f d/h; ln d/h /tmp/outside-$$; \
                  echo c >> /tmp/outside-$$; ln -s x s; rm d/g s; rm -f /tmp/outside-$$; truncate -s 0 d/h";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).current_dir(&root);
    std::os::unix::process::CommandExt::gid(&mut command, 4321);
    std::os::unix::process::CommandExt::uid(&mut command, 1234);
    println!("  the changes ended with {:?}", command.status());
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
