use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::core::entry::tests::regular;
use crate::core::entry::{Digest, Identity};
use crate::store::Taken;

const TEXT: &str = r#"
exclude = ["cache/",
    "*.swp"]
severity = "low"
[[watch.rule]]
paths = ["*.conf"]
severity = "critical"
on_deleted = "alert"
[[watch.rule]]
paths = ["/ssh/**"]
severity = "medium"
dry_run = true
"#;

struct World {
    dir: tempfile::TempDir,
    config: Config,
}

/// A watch on `w` with `ssh/sshd.conf` approved and kept, `lost` approved and not kept, and a pipe.
fn world() -> World {
    let dir = tempfile::tempdir().expect("temporary folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    let (state, watched) = (dir.path().join("state"), dir.path().join("w"));
    std::fs::create_dir_all(watched.join("cache")).expect("made");
    std::fs::write(dir.path().join("single"), "x").expect("written");
    let text = format!(
        "[state]\ndir = {state:?}\n[[watch]]\npath = {watched:?}{TEXT}[[watch]]\npath = {:?}\n",
        dir.path().join("single")
    );
    let config = Config::parse(Path::new("/c/fim.toml"), &text).expect("valid");
    let mut store = Store::open(&state).expect("a store");
    let vault = Vault::open(&state.join("vault")).expect("a vault");
    let digest = vault.put(&mut &b"content"[..]).expect("put");
    let found = |entry: Entry| Found { entry, identity: Identity { dev: 1, ino: 2, ctime_ns: 3, nlink: 1 } };
    let at = |path: &str| RelPath::new(path).expect("sound");
    let entries = [
        (at("ssh/sshd.conf"), found(Entry { sha256: Some(digest), ..regular(1) })),
        (at("lost"), found(Entry { sha256: Some(Digest([9; 32])), ..regular(1) })),
        (at("pipe"), found(Entry { kind: FileType::Fifo, sha256: None, ..regular(1) })),
    ];
    let mut rebuild = store.baseline_rebuild().expect("begun");
    rebuild.put(&watched, &entries).expect("put");
    let taken = Taken { time: "2026-11-22T01:02:03Z".into(), by: "ann".into(), host: "web1".into() };
    rebuild.commit(&taken).expect("committed");
    World { dir, config }
}

impl World {
    fn json(&self, path: &str) -> Value {
        let known = Known::open(&self.config);
        explain(&self.config, &known, &self.dir.path().join(path), Links::Followed).json(&self.config)
    }

    fn text(&self, path: &str) -> String {
        let known = Known::open(&self.config);
        explain(&self.config, &known, &self.dir.path().join(path), Links::Followed).text(&self.config)
    }
}

#[test]
fn each_key_names_the_line_that_decides_it() {
    let world = world();
    let told = world.json("w/ssh/sshd.conf");
    let by = |key: &str| (told["keys"][key]["value"].clone(), told["keys"][key]["line"].clone());
    assert_eq!(by("severity"), (json!("medium"), json!(14)));
    assert_eq!(by("on_deleted"), (json!("alert"), json!(11)));
    assert_eq!(by("on_modified"), (json!("restore"), Value::Null));
    assert_eq!(by("dry_run"), (json!("true"), json!(15)));
    assert_eq!((&told["keys"]["severity"]["by"], &told["watch_line"]), (&json!("rule"), &json!(3)));
    let plain = world.json("w/lost");
    assert_eq!(
        (&plain["keys"]["severity"]["by"], &plain["keys"]["severity"]["line"]),
        (&json!("watch"), &json!(7))
    );
    let text = world.text("w/ssh/sshd.conf");
    for part in ["line 3 of /c/fim.toml", "line 8 (\"*.conf\")", "severity      medium", "rule, line 14"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(text.lines().count() <= 28 && text.lines().all(|l| l.len() < 140), "one screen:\n{text}");
}

#[test]
fn what_would_be_done_and_whether_it_could_be_restored() {
    let world = world();
    type Case = (&'static str, bool, &'static str, [&'static str; 3]);
    let cases: [Case; 4] = [
        (
            "w/lost",
            false,
            "not in the vault",
            ["told as not restorable", "told as not restorable", "restored"],
        ),
        ("w/pipe", true, "baseline", ["restored", "restored", "restored"]),
        (
            "w/new",
            false,
            "nothing is approved",
            ["told as not restorable", "told as not restorable", "restored"],
        ),
        (
            "w/ssh/sshd.conf",
            true,
            "in the vault",
            ["would be restored, and is told (dry_run)", "told", "would be restored, and is told (dry_run)"],
        ),
    ];
    for (path, restorable, why, answers) in cases {
        let told = world.json(path);
        assert_eq!(told["restorable"], restorable, "{path}");
        assert!(told["restorable_why"].as_str().is_some_and(|w| w.contains(why)), "{path}: {told}");
        let told = ["modified", "deleted", "attributes"].map(|kind| told["answers"][kind].clone());
        assert_eq!(told, answers.map(|a| json!(a)), "{path}");
    }
}

#[test]
fn an_excluded_path_names_the_pattern_and_its_line() {
    let world = world();
    let cases = [
        ("w/a.swp", Some(("*.swp", 6))),
        ("w/cache", Some(("cache/", 5))),
        ("w/cache/deep/x", Some(("cache/", 5))),
        ("w/lost", None),
        ("single", None),
    ];
    for (path, expected) in cases {
        let expected =
            expected.map_or(Value::Null, |(pattern, line)| json!({"pattern": pattern, "line": line}));
        assert_eq!(world.json(path)["excluded"], expected, "{path}");
    }
    assert!(world.text("w/a.swp").contains("excluded      by \"*.swp\", line 6"));
}

#[test]
fn links_are_followed_to_the_watch_and_what_is_outside_is_said() {
    let world = world();
    std::os::unix::fs::symlink(world.dir.path().join("w"), world.dir.path().join("alias")).expect("linked");
    let real = world.json("w/lost");
    assert_eq!(world.json("alias/lost"), real);
    assert_eq!(world.json("w/cache/../lost"), real);
    assert_eq!(world.json("elsewhere")["watch"], Value::Null);
    let text = world.text("elsewhere");
    assert!(text.contains("not watched") && text.lines().count() == 2, "{text}");
    let raw = world.text("w/a\n\u{1b}[2J");
    assert!(
        raw.starts_with(&escape(world.dir.path().as_os_str().as_bytes())) && raw.contains("a\\x0a\\x1b"),
        "{raw}"
    );
    let known = Known::open(&world.config);
    let outside = explain(&world.config, &known, Path::new("/"), Links::Followed);
    assert!(outside.watched.is_none());
}

#[test]
fn without_records_the_policy_is_told_all_the_same() {
    let world = world();
    std::fs::remove_dir_all(world.dir.path().join("state")).expect("removed");
    let told = world.json("w/lost");
    assert_eq!((&told["baseline"], &told["keys"]["severity"]["value"]), (&Value::Null, &json!("low")));
    assert!(told["baseline_error"].is_string(), "{told}");
    assert!(!world.dir.path().join("state").exists(), "explaining makes nothing");
}
