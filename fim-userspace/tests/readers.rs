//! Who may ask a running daemon: real processes of a member of the group, of a member by a supplementary group, and of a
//! stranger.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const USER: u32 = 41_234;
const GROUP: u32 = 54_321;
const STRANGERS: u32 = 54_322;
/// What stands in the watched file; no member of the group may see it.
const LINE: &str = "only root reads this line";

struct World {
    dir: tempfile::TempDir,
    daemon: Child,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("opened to all");
        let at = |name: &str| dir.path().join(name);
        // Where it was built others may not look.
        fs::copy(env!("CARGO_BIN_EXE_fim"), at("fim")).expect("copied");
        fs::create_dir(at("watched")).expect("made");
        fs::write(at("watched/file"), "approved\n").expect("written");
        fs::set_permissions(at("watched/file"), fs::Permissions::from_mode(0o600)).expect("chmod");
        let config = format!(
            "[state]\ndir = {:?}\n[control]\ngroup = \"{GROUP}\"\nsocket = {:?}\n[sensor]\ntier = \"scan\"\nself_test = \"0s\"\n\
             [[watch]]\npath = {:?}\non_modified = \"alert\"\ninterval = \"1s\"\n",
            at("state"),
            at("run/socket"),
            at("watched")
        );
        fs::write(at("fim.toml"), config).expect("written");
        let output = fim(dir.path()).arg("init").output().expect("runs");
        assert!(output.status.success(), "{output:?}");
        // As the unit has it: nobody else may look into what is made without another word.
        let mut daemon = Command::new("/bin/sh")
            .args(["-c", "umask 077; exec \"$@\"", "sh"])
            .arg(at("fim"))
            .arg("--config")
            .arg(at("fim.toml"))
            .arg("run")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(daemon.stdout.take().expect("piped")).lines();
        let mut lines = lines.map_while(Result::ok);
        assert!(lines.any(|line| line == "ready"), "the daemon ended before it was ready");
        std::thread::spawn(move || lines.count());
        Self { dir, daemon }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("run/socket")
    }

    fn as_user(&self, gid: u32, words: &[&str]) -> Output {
        // Becoming somebody else, root's child has no supplementary groups.
        fim(self.dir.path()).args(words).uid(USER).gid(gid).output().expect("runs")
    }
}

fn fim(dir: &Path) -> Command {
    let mut command = Command::new(dir.join("fim"));
    command.arg("--config").arg(dir.join("fim.toml")).current_dir("/").env("RUST_BACKTRACE", "1");
    command
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The number of the record about the altered file.
fn altered(world: &World) -> String {
    fs::write(world.dir.path().join("watched/file"), format!("{LINE}\n")).expect("written");
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let words = ["log", "--json", "--kind", "modified"];
        let output = fim(world.dir.path()).args(words).output().expect("runs");
        if let Some(line) = said(&output).1.lines().next() {
            let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
            return record["seq"].to_string();
        }
        assert!(Instant::now() < deadline, "the change was not recorded: {output:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn members_of_the_group_read_and_nobody_else_does() {
    let world = World::new();
    let seq = altered(&world);
    let mode = fs::metadata(world.socket()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);

    // A member: reads.
    let (code, text, _) = said(&world.as_user(GROUP, &["status"]));
    assert!(matches!(code, Some(0 | 1)) && text.contains("fim runs (pid "), "{code:?} {text}");
    let root = fim(world.dir.path()).args(["log", "-n", "1", "--kind", "modified"]).output().expect("runs");
    let member = world.as_user(GROUP, &["log", "-n", "1", "--kind", "modified"]);
    assert_eq!(said(&root), said(&member), "the same answer as root's");
    let file = world.dir.path().join("watched/file");
    let file = file.to_str().expect("UTF-8");
    let (code, text, _) = said(&world.as_user(GROUP, &["explain", file]));
    assert!(code == Some(0) && text.contains("baseline"), "{code:?} {text}");
    assert_eq!(said(&world.as_user(GROUP, &["explain", "/nowhere"])).0, Some(1), "as root's exit code");

    let (code, text, error) = said(&world.as_user(GROUP, &["doctor", "--json"]));
    let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(code == Some(2) && error.contains("not everything could be looked at"), "{code:?} {error}");
    assert!(found["daemon"]["running"] == true && found["tier"]["running"] == "scan", "{found}");
    assert!(
        found["vault"].is_null() && found["unseen"].to_string().contains("is root's: the vault"),
        "{found}"
    );

    // The event, and not what stands in the file.
    let (code, text, _) = said(&fim(world.dir.path()).args(["show", &seq]).output().expect("runs"));
    assert!(code == Some(0) && text.contains(LINE), "root sees the line: {text}");
    for words in [&["show", &seq][..], &["show", &seq, "--json"], &["show", &seq, "--secret"]] {
        let (code, text, _) = said(&world.as_user(GROUP, words));
        assert!(
            code == Some(0) && text.contains("watched/file") && !text.contains(LINE),
            "{words:?}: {text}"
        );
    }

    // Nothing else.
    for words in [&["log", "verify"][..], &["restore", file], &["check"], &["vault", "list"]] {
        let (code, text, error) = said(&world.as_user(GROUP, words));
        assert!(
            code == Some(2) && text.is_empty() && !error.is_empty(),
            "{words:?}: {code:?} {text} {error}"
        );
    }
    for request in [
        "{\"protocol\":1,\"request\":{\"act\":{\"restore\":{\"paths\":[\"/w\"],\"reason\":null}}}}\n",
        "{\"protocol\":1,\"request\":{\"read\":{\"command\":{\"words\":[\"vault\",\"list\"]}}}}\n",
        "{\"protocol\":1,\"request\":{\"read\":{\"command\":{\"words\":[\"log\",\"verify\",\"--key\",\"/etc/shadow\"]}}}}\n",
    ] {
        let mut stream = UnixStream::connect(world.socket()).expect("connects");
        stream.write_all(request.as_bytes()).expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        let refused = answer.contains("for reading") || answer.contains("members of the group may use");
        assert!(refused && answer.lines().count() == 1, "{request}: {answer}");
    }

    let (code, text, _) = said(&world.as_user(STRANGERS, &["doctor", "--json"]));
    let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(
        code == Some(2) && found["daemon"].is_null() && found["kernel"]["release"].is_string(),
        "{found}"
    );

    // A stranger: nothing, and a sentence. Also where the socket's mode was altered.
    for mode in [0o660, 0o666] {
        fs::set_permissions(world.socket(), fs::Permissions::from_mode(mode)).expect("chmod");
        let (code, text, error) = said(&world.as_user(STRANGERS, &["status"]));
        let told = error.contains("only root and members of the group");
        assert!(code == Some(2) && text.is_empty() && told, "{mode:o}: {code:?} {text} {error}");
    }
}

/// A member who follows the log, and the lines that he gets.
struct Follower(Child, std::io::Lines<BufReader<std::process::ChildStdout>>);

impl Follower {
    fn new(world: &World) -> Self {
        let mut command = fim(world.dir.path());
        command.args(["log", "-f", "--json", "--kind", "started,modified"]).uid(USER).gid(GROUP);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self(child, lines)
    }

    fn next(&mut self) -> serde_json::Value {
        let line = self.1.next().expect("a line").expect("text");
        serde_json::from_str(&line).expect("JSON")
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn members_follow_the_log_and_who_goes_leaves_his_place() {
    let mut world = World::new();
    let mut followers: Vec<Follower> = (0..4).map(|_| Follower::new(&world)).collect();
    for follower in &mut followers {
        assert_eq!(follower.next()["kind"], "started", "what was before");
    }
    let seq = altered(&world);
    for follower in &mut followers {
        let record = follower.next();
        assert_eq!((record["kind"].as_str(), record["seq"].to_string()), (Some("modified"), seq.clone()));
    }

    let (code, _, error) = said(&world.as_user(GROUP, &["log", "-f"]));
    assert!(code == Some(2) && error.contains("follow the log already"), "{code:?} {error}");
    assert!(matches!(said(&world.as_user(GROUP, &["status"])).0, Some(0 | 1)), "others find a place");

    // Nothing is recorded meanwhile: the daemon sees that he hung up.
    followers.pop();
    let deadline = Instant::now() + Duration::from_secs(120);
    while Follower::new(&world).1.next().is_none() {
        assert!(Instant::now() < deadline, "the place stays taken");
    }

    // The daemon's end is told.
    world.daemon.kill().expect("killed");
    for mut follower in followers {
        let mut error = String::new();
        let ended = follower.0.wait().expect("ends");
        follower.0.stderr.take().expect("piped").read_to_string(&mut error).expect("text");
        assert!(ended.code() == Some(2) && error.contains("running daemon"), "{ended:?} {error}");
    }
}

#[test]
fn a_supplementary_group_is_as_good() {
    let world = World::new();
    let with = |groups: &str| {
        Command::new("setpriv")
            .args([&format!("--reuid={USER}"), &format!("--regid={STRANGERS}"), groups])
            .arg(world.dir.path().join("fim"))
            .arg("--config")
            .arg(world.dir.path().join("fim.toml"))
            .arg("status")
            .output()
            .expect("setpriv of util-linux runs")
    };
    let (code, text, error) = said(&with(&format!("--groups=54323,{GROUP}")));
    assert!(matches!(code, Some(0 | 1)) && text.contains("fim runs (pid "), "{code:?} {text} {error}");
    assert_eq!(said(&with("--groups=54323")).0, Some(2));
}

#[test]
fn a_request_that_would_keep_the_machine_busy_is_refused() {
    let world = World::new();
    let asked = |words: Vec<String>| {
        let request =
            serde_json::json!({ "protocol": 1, "request": { "read": { "command": { "words": words } } } });
        let mut stream = UnixStream::connect(world.socket()).expect("connects");
        // Turned away in the middle of it, a client hears why all the same.
        let _ = stream.write_all(format!("{request}\n").as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let patterns = |n: usize| {
        let each = ["--path".to_owned(), "/*a*b*c*".to_owned()];
        std::iter::once("log".to_owned()).chain(std::iter::repeat_n(each, n).flatten()).collect::<Vec<_>>()
    };
    assert!(asked(patterns(15)).contains("ended"), "31 words");
    assert!(asked(patterns(16)).contains("more than 32 words"));
    assert!(asked(vec!["log".into(), "--path".into(), "*".repeat(20_000)]).contains("longer than 16.0 KiB"));
}
