//! Every command with `--json`: standard output is JSON and nothing else, each object of a shape that is documented.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use fim::cli::json::{TABLE, of};
use serde_json::Value;

struct World {
    dir: tempfile::TempDir,
    /// Commands that have printed at least one object.
    spoken: BTreeSet<&'static str>,
    faults: Vec<String>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("chmod");
        fs::create_dir(dir.path().join("watched")).expect("made");
        let world = Self { dir, spoken: BTreeSet::new(), faults: Vec::new() };
        // Nobody listens there: the message is refused, and that is told.
        let config = format!(
            "[state]\ndir = {:?}\n[sensor]\ntier = \"scan\"\nself_test = \"0s\"\n[[watch]]\npath = {:?}\n\
             [[alert]]\nname = \"soc\"\ntype = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\n",
            world.at("state"),
            world.at("watched")
        );
        fs::write(world.at("fim.toml"), config).expect("written");
        fs::write(world.at("watched/file"), "approved\n").expect("written");
        fs::write(world.at("aide.conf"), format!("{} p+u+g\n", world.at("watched").display()))
            .expect("written");
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, command: &str, words: &[&str]) -> Command {
        let mut fim = Command::new(env!("CARGO_BIN_EXE_fim"));
        fim.arg("--config").arg(self.at("fim.toml")).arg("--json").args(command.split(' ')).args(words);
        fim.stdin(Stdio::null());
        fim
    }

    /// The objects that it prints; each must be of one of its shapes.
    fn run(&mut self, command: &'static str, words: &[&str]) -> Vec<Value> {
        let output = self.command(command, words).output().expect("runs");
        self.judge(command, &output)
    }

    fn judge(&mut self, command: &'static str, output: &Output) -> Vec<Value> {
        let shapes = of(command).unwrap_or_else(|| panic!("{command} is not in the table"));
        let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
        let mut objects = Vec::new();
        for line in text.lines() {
            let Ok(value) = serde_json::from_str::<Value>(line) else {
                self.faults.push(format!("{command}: {line:?} is no JSON"));
                continue;
            };
            let keys: BTreeSet<&str> = value
                .as_object()
                .map(|object| object.keys().map(String::as_str).collect())
                .unwrap_or_default();
            let fits = shapes.iter().any(|shape| {
                let known = |key: &&str| shape.keys.contains(key) || shape.more.contains(key);
                shape.keys.iter().all(|key| keys.contains(key)) && keys.iter().all(known)
            });
            if !fits {
                self.faults.push(format!("{command} prints what is of none of its shapes: {line}"));
            }
            objects.push(value);
        }
        if !objects.is_empty() {
            self.spoken.insert(command);
        } else {
            self.faults
                .push(format!("{command} printed nothing: {}", String::from_utf8_lossy(&output.stderr)));
        }
        objects
    }
}

#[test]
fn every_command_prints_what_its_shape_says() {
    let mut world = World::new();
    let file = world.at("watched/file");
    let file = file.to_str().expect("text").to_owned();
    let file = file.as_str();
    world.run("init", &[]);
    fs::write(file, "altered\n").expect("written");
    fs::write(world.at("watched/new"), "more\n").expect("written");
    world.run("check", &[]);
    world.run("diff", &[file]);
    // The daemon finds both at its start, puts the one back and takes the other out.
    let daemon =
        world.command("run", &[]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    let records = loop {
        let output = world.command("log", &[]).output().expect("runs");
        let lines = String::from_utf8_lossy(&output.stdout).lines().count();
        if lines >= 3 {
            break world.judge("log", &output);
        }
        assert!(std::time::Instant::now() < deadline, "{output:?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let of_kind = |kind: &str| {
        records.iter().find(|record| record["kind"] == kind).expect("recorded")["seq"].to_string()
    };
    let modified = of_kind("modified");
    world.run("status", &[]);
    world.run("metrics", &[]);
    world.run("doctor", &[]);
    world.run("maintenance start", &["--for", "10m", "--reason", "a test"]);
    world.run("maintenance status", &[]);
    world.run("maintenance stop", &[]);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(daemon.id().cast_signed()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .expect("told");
    let mut output = daemon.wait_with_output().expect("ends");
    // That it is ready is said to whoever started it, in plain words.
    let plain = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| *line != "ready")
        .collect::<Vec<_>>()
        .join("\n");
    output.stdout = plain.into_bytes();
    world.judge("run", &output);

    world.run("show", &[&modified]);
    world.run("blame", &[file]);
    world.run("log verify", &[]);
    world.run("explain", &[file]);
    world.run("explain", &["/nowhere"]);
    let held = world.run("quarantine list", &[]);
    let id = held[0]["id"].to_string();
    world.run("quarantine show", &[&id]);
    fs::create_dir(world.at("copies")).expect("made");
    let copies = world.at("copies");
    world.run("quarantine release", &[&id, "--to", copies.to_str().expect("text")]);
    world.run("quarantine release", &[&id]);
    fs::write(file, "altered again\n").expect("written");
    world.run("accept", &[file, "--yes"]);
    fs::write(file, "altered once more\n").expect("written");
    world.run("restore", &[file]);
    let held = world.run("quarantine list", &["--all"]);
    let last = held.last().expect("one")["id"].to_string();
    world.run("quarantine purge", &[&last, "--yes"]);
    world.run("vault list", &[]);
    world.run("vault versions", &[file]);
    let copy = world.at("copy");
    world.run("vault export", &[file, "--to", copy.to_str().expect("text")]);
    world.run("vault prune", &["--dry-run", "--older-than", "1d"]);
    world.run("vault verify", &[]);
    world.run("report", &["--since", "1d"]);
    world.run("config show", &[]);
    world.run("config check", &[]);
    let conf = world.at("aide.conf");
    world.run("import aide", &[conf.to_str().expect("text")]);
    world.run("alert test", &[]);
    world.run("alert queue", &[]);
    world.run("seal setup", &["--replace"]);

    let silent: Vec<&str> =
        TABLE.iter().map(|json| json.command).filter(|command| !world.spoken.contains(command)).collect();
    assert!(world.faults.is_empty(), "{}", world.faults.join("\n"));
    assert_eq!(silent, [""; 0], "these were not tried");
}
