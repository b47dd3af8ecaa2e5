//! A process that writes the log and is killed, again and again.

use std::process::{Command, Stdio};
use std::time::Instant;

use super::*;

const STATE: &str = "FIM_TEST_KILLED_STATE";
const PATH: &str = "FIM_TEST_KILLED_PATH";
const ROTATION: Rotation = Rotation { max_size: Some(60_000), max_age: None, keep: 900 };

#[tokio::test]
#[ignore = "started and killed by the test below"]
async fn writes_until_it_is_killed() {
    let (Some(state), Some(path)) = (std::env::var_os(STATE), std::env::var_os(PATH)) else { return };
    let running = run(sink(Path::new(&path), ROTATION, &Reopen::default()), Path::new(&state));
    let parent = nix::unistd::getppid();
    // Nobody may be left to kill it.
    while nix::unistd::getppid() == parent {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running.finish().await;
}

#[tokio::test]
async fn killed_again_and_again_it_repeats_and_never_loses() {
    let (_dir, folder) = folder();
    let (state_dir, path) = (state(), folder.join("fim.log"));
    let mut store = Store::open(state_dir.path()).expect("a store");
    // A new sink begins with what happens from then on.
    run(sink(&path, ROTATION, &Reopen::default()), state_dir.path()).finish().await;
    let written = || -> Vec<String> {
        let parts = (1..900).rev().map(|n| numbered(&path, n)).chain([path.clone()]);
        parts
            .flat_map(|part| {
                std::fs::read_to_string(part)
                    .unwrap_or_default()
                    .lines()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    let mut sent = Vec::new();
    for round in 0..12 {
        let before = written().len();
        sent.extend(store.append(&events(0..3_000), &[]).expect("appended"));
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "sink::file::tests::killed::writes_until_it_is_killed", "--ignored"])
            .env(STATE, state_dir.path())
            .env(PATH, &path)
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        until(|| written().len() > before, || "a first line of its own".into()).await;
        let moment = Instant::now() + Duration::from_micros(700 * round);
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        child.kill().expect("killed");
        child.wait().expect("gone");
    }
    let running = run(sink(&path, ROTATION, &Reopen::default()), state_dir.path());
    until(|| sink_state(&store, "log:test").cursor == sent.len() as u64, || "the cursor's move".into()).await;
    running.finish().await;
    // What a kill cut short stands alone on its line, and its record comes again, whole.
    let whole = written().into_iter().filter_map(|line| serde_json::from_str::<Record>(&line).ok());
    let mut seen = std::collections::HashSet::new();
    let firsts: Vec<String> = whole.map(|record| record.id).filter(|id| seen.insert(id.clone())).collect();
    assert_eq!(firsts.len(), sent.len());
    assert_eq!(firsts, ids(&sent), "all of them, in order, whatever was repeated");
}
