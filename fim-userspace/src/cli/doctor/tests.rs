use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::store::status::{AttachedHook, Status};
use crate::store::{SinkState, Store};

struct World {
    dir: tempfile::TempDir,
    file: std::path::PathBuf,
}

impl World {
    fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for name in ["state", "watched"] {
            fs::create_dir(dir.path().join(name)).expect("made");
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o700)).expect("chmod");
        }
        let text = format!(
            "[state]\ndir = {:?}\n{more}\n[[watch]]\npath = {:?}\n[[alert]]\nname = \"soc\"\ntype = \"webhook\"\nurl = \"https://h/x\"\n",
            dir.path().join("state"),
            dir.path().join("watched")
        );
        let file = dir.path().join("fim.toml");
        fs::write(&file, text).expect("written");
        Self { dir, file }
    }

    fn json(&self) -> serde_json::Value {
        serde_json::to_value(examine(&self.file)).expect("JSON")
    }
}

fn problems(found: &serde_json::Value) -> String {
    found["problems"].to_string()
}

#[test]
fn a_host_before_the_first_start_is_told_what_to_do() {
    let world = World::new("");
    let found = world.json();
    assert!(
        problems(&found).contains("start it with `fim run`") && problems(&found).contains("run `fim init`")
    );
    assert_eq!(found["daemon"]["running"], false);
    assert_eq!(
        (&found["tier"]["running"], &found["database"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );
    let sinks: Vec<&str> =
        found["sinks"].as_array().expect("a list").iter().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!(sinks, ["journald", "soc"], "also those that have delivered nothing yet");
    assert_eq!(found["config"]["sound"], true);
    for fact in [
        "kernel",
        "limits",
        "capabilities",
        "clock_synchronised",
        "room",
        "hooks",
        "watches",
        "vault",
        "unseen",
    ] {
        assert!(found.get(fact).is_some(), "{fact}");
    }
    let watch = &found["watches"][0];
    assert!(watch["path"].as_str().is_some_and(|path| path.ends_with("/watched")), "{watch}");
    assert!(watch["file_system"].is_string() && watch["features"]["rename"].is_boolean(), "{watch}");
}

#[test]
fn a_running_daemon_speaks_for_its_tier_its_hooks_and_its_sinks() {
    let world = World::new("[vault]\nmin_free = \"8000TiB\"\n");
    let state = world.dir.path().join("state");
    let mut store = Store::open(&state).expect("a store");
    drop(crate::store::vault::Vault::open(&state.join("vault")).expect("a vault"));
    let failing = SinkState { name: "soc".into(), error: Some("no route".into()), ..SinkState::default() };
    store.sink_state_set(&failing).expect("written");
    let hook =
        AttachedHook { hook: "file_open".into(), state: "failed".into(), reason: Some("EPERM".into()) };
    let status = Status {
        ready: true,
        tier: "fanotify".into(),
        started: "2026-11-22T02:00:00Z".into(),
        self_test_trouble: Some("nothing was seen".into()),
        attach: vec![hook],
        ..Status::of_this_process()
    };
    status.write(&state).expect("written");
    let found = world.json();
    assert_eq!((&found["tier"]["running"], &found["daemon"]["running"]), (&"fanotify".into(), &true.into()));
    assert_eq!(found["hooks"].as_array().map(Vec::len), Some(1), "the daemon's, not the trial's: {found}");
    assert_eq!(
        (&found["hooks"][0]["state"], &found["capabilities"]["of"]),
        (&"failed".into(), &"daemon".into())
    );
    let sinks = found["sinks"].as_array().expect("a list");
    assert_eq!(
        (&sinks[1]["error"], &sinks[1]["last_success"]),
        (&"no route".into(), &serde_json::Value::Null)
    );
    assert_eq!((&found["vault"]["usable"], &found["vault"]["full"]), (&true.into(), &true.into()));
    for part in
        ["file_open is not attached: EPERM", "\\\"soc\\\" has an error", "self-test failed", "min_free keeps"]
    {
        assert!(problems(&found).contains(part), "{part}: {}", problems(&found));
    }
    let text = print::text(&examine(&world.file));
    for part in
        ["tier        fanotify; the best here:", "sink        soc: last success never", "; no route", "\n! "]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_wrong_configuration_and_a_damaged_database_hide_nothing_else() {
    let world = World::new("");
    fs::write(world.dir.path().join("state/fim.db"), "no database at all, but long enough to look at")
        .expect("written");
    let found = world.json();
    assert_eq!(found["database"]["usable"], false);
    assert!(problems(&found).contains("fim.db"), "{}", problems(&found));
    assert!(found["watches"][0]["path"].is_string());

    fs::write(&world.file, "[[watch]]\npath = \"/etc\"\non_modifed = \"alert\"\n").expect("written");
    let found = world.json();
    assert!(problems(&found).contains("did you mean"), "{}", problems(&found));
    assert!(found["config"]["sound"] == false && found["kernel"]["release"].is_string());
    assert_eq!(examine(&world.file).notes.code(), REPORT);
}

#[test]
fn not_everything_seen_is_no_success() {
    let mut notes = Notes::default();
    assert_eq!(notes.code(), 0);
    notes.problem("a");
    notes.problem("a");
    assert_eq!((notes.code(), notes.problems.len()), (REPORT, 1));
    notes.unseen("b");
    assert_eq!(notes.code(), FAILED);
}
