//! Debian's logrotate at work on the file while records are written.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use super::*;

/// Rotates `path` with `directives` while records are appended, again and again. Returns what was sent.
async fn rotate_while_writing(path: &Path, directives: &str) -> Option<Vec<Record>> {
    let places = ["/usr/sbin/logrotate", "/sbin/logrotate", "/usr/bin/logrotate"];
    let Some(program) = places.iter().find(|p| Path::new(p).exists()) else {
        eprintln!("skipped: there is no logrotate here; `cargo xtask setup` installs it");
        return None;
    };
    let state_dir = state();
    let mut store = Store::open(state_dir.path()).expect("a store");
    let reopen = Reopen::default();
    let running = run(sink(path, NONE, &reopen), state_dir.path());
    let mut hangups = signal(SignalKind::hangup()).expect("a handler");
    let bell = reopen.clone();
    let listener = tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            bell.ring();
        }
    });
    // In the folder's parent: logrotate wants a safe place for its configuration and its state.
    let conf = state_dir.path().join("logrotate.conf");
    let text = format!("\"{}\" {{\n{directives}\n}}\n", path.display());
    std::fs::write(&conf, text).expect("written");
    let turning = Arc::new(AtomicBool::new(true));
    let (flag, program, rotated) = (turning.clone(), program.to_string(), state_dir.path().join("rotated"));
    let rotator = std::thread::spawn(move || {
        let mut rounds = 0;
        while flag.load(Ordering::Relaxed) || rounds < 5 {
            let out = Command::new(&program).arg("--force").arg("--state").arg(&rotated).arg(&conf).output();
            let out = out.expect("logrotate runs");
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            rounds += 1;
        }
        rounds
    });
    let mut sent = Vec::new();
    for n in 0..200 {
        sent.extend(running.append(&mut store, &events(n * 20..n * 20 + 20)));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    turning.store(false, Ordering::Relaxed);
    let rounds = tokio::task::spawn_blocking(|| rotator.join()).await.expect("joined").expect("no panic");
    until(|| sink_state(&store, "log:test").cursor == 4_000, || "the cursor's move".into()).await;
    running.finish().await;
    listener.abort();
    eprintln!("logrotate ran {rounds} times");
    Some(sent)
}

/// Every part of the log, in no order.
fn parts(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|end| end == "gz") {
            let out = Command::new("gzip").arg("-dc").arg(&path).output().expect("gzip runs");
            assert!(out.status.success(), "{path:?}");
            let text = String::from_utf8(out.stdout).expect("text");
            assert!(text.is_empty() || text.ends_with('\n'), "{path:?}");
            all.extend(text.lines().map(|l| serde_json::from_str::<Record>(l).expect(l).id));
        } else {
            all.extend(read_ids(&path));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn renamed_and_told_by_sighup() {
    let (_dir, folder) = folder();
    let path = folder.join("fim.log");
    std::fs::write(&path, "").expect("something to rotate");
    let hup =
        format!("rotate 9999\ncompress\nmissingok\npostrotate\nkill -HUP {}\nendscript", std::process::id());
    let Some(sent) = rotate_while_writing(&path, &hup).await else { return };
    let written: std::collections::HashSet<String> = parts(&folder).into_iter().collect();
    let missing: Vec<&Record> = sent.iter().filter(|r| !written.contains(&r.id)).collect();
    assert!(missing.is_empty(), "{} of {} are lost", missing.len(), sent.len());
    assert!(folder.join("fim.log.2.gz").exists(), "rotated more than once");
}

#[tokio::test(flavor = "multi_thread")]
async fn renamed_and_told_by_nobody() {
    let (_dir, folder) = folder();
    let path = folder.join("fim.log");
    std::fs::write(&path, "").expect("something to rotate");
    let Some(sent) = rotate_while_writing(&path, "rotate 9999\ncreate 0640\nmissingok").await else { return };
    let written: std::collections::HashSet<String> = parts(&folder).into_iter().collect();
    assert!(sent.iter().all(|r| written.contains(&r.id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn copied_and_emptied() {
    let (_dir, folder) = folder();
    let path = folder.join("fim.log");
    std::fs::write(&path, "").expect("something to rotate");
    let Some(sent) = rotate_while_writing(&path, "rotate 9999\ncopytruncate\nmissingok").await else {
        return;
    };
    // What is written while logrotate copies, and until its cut, is lost by its own account: a copy may end within a line,
    // whose rest is cut off. All other lines are whole.
    for entry in std::fs::read_dir(&folder).expect("a folder").flatten().filter(|entry| entry.path() != path)
    {
        let copy = std::fs::read(entry.path()).expect("a copy");
        let whole = copy.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        std::fs::write(entry.path(), &copy[..whole]).expect("written");
    }
    let written = parts(&folder);
    assert!(written.len() > sent.len() / 2, "{} of {}", written.len(), sent.len());
    assert!(!std::fs::read(&path).expect("there").contains(&0), "no hole");
}
