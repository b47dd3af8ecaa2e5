//! What a person sees: colour and progress on a terminal, and neither where they do not belong. The terminal is a real one, made
//! by script(1) of util-linux.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const RED: &str = "\x1b[31m";
/// What the bar says of a check, and of a first baseline.
const BARS: [(&str, &str); 2] = [("check", "comparing"), ("init", "approving")];

struct World(tempfile::TempDir);

impl World {
    /// `policy`: keys of the watch.
    fn new(policy: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("chmod");
        fs::create_dir(dir.path().join("watched")).expect("made");
        let config = format!(
            "[state]\ndir = {:?}\n[sensor]\ntier = \"scan\"\n[[watch]]\npath = {:?}\n{policy}\n",
            dir.path().join("state"),
            dir.path().join("watched")
        );
        fs::write(dir.path().join("fim.toml"), config).expect("written");
        fs::write(dir.path().join("watched/lines"), "approved\n").expect("written");
        Self(dir)
    }

    /// So many and so large that no processor has digested them before the first drawing; they take no room. A larger one that
    /// is all holes would not be read.
    fn with_large_files(self) -> Self {
        for n in 0..6 {
            let file = File::create(self.0.path().join(format!("watched/large{n}"))).expect("made");
            file.set_len(250 << 20).expect("sparse");
        }
        self
    }

    fn fim(&self, words: &[&str]) -> Vec<String> {
        let config = self.0.path().join("fim.toml");
        let own = [env!("CARGO_BIN_EXE_fim"), "--config", config.to_str().expect("text")];
        own.iter().chain(words).map(|word| (*word).to_owned()).collect()
    }

    /// Standard output and standard error are pipes.
    fn piped(&self, words: &[&str]) -> Output {
        let words = self.fim(words);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env("TERM", "xterm").env_remove("NO_COLOR").stdin(Stdio::null());
        command.output().expect("runs")
    }

    /// What a terminal gets to see.
    fn on_a_terminal(&self, words: &[&str], environment: &[(&str, &str)]) -> String {
        let mut command = Command::new("script");
        // Every word is plain: they are ours. A terminal made without one has no size, and nothing can be drawn on it.
        let line = format!("stty rows 24 cols 100; {}", self.fim(words).join(" "));
        command.args(["-q", "-e", "-c", &line, "/dev/null"]);
        command.env("TERM", "xterm").env_remove("NO_COLOR").stdin(Stdio::null());
        command.envs(environment.iter().copied());
        let output = command.output().expect("script of util-linux runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn coloured(text: &str) -> bool {
    ["\x1b[1m", "\x1b[3"].iter().any(|code| text.contains(code))
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let world = World::new("");
    assert!(world.piped(&["init"]).status.success());
    fs::write(world.0.path().join("watched/lines"), "altered\n").expect("written");
    let file = world.0.path().join("watched/lines");
    let diff = ["diff", path(&file)];

    let seen = world.on_a_terminal(&diff, &[]);
    assert!(seen.contains(&format!("{RED}-approved")), "{seen:?}");
    let seen = world.on_a_terminal(&diff, &[("NO_COLOR", "")]);
    assert!(coloured(&seen), "an empty NO_COLOR is none (no-color.org): {seen:?}");
    for unwanted in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let seen = world.on_a_terminal(&diff, &[unwanted]);
        assert!(seen.contains("-approved") && !seen.contains('\x1b'), "{unwanted:?}: {seen:?}");
    }
    let seen = text(&world.piped(&diff));
    assert!(seen.contains("-approved") && !seen.contains('\x1b'), "{seen:?}");
}

#[test]
fn progress_is_for_terminals_that_can_draw() {
    let world = World::new("keep_versions = false").with_large_files();
    assert!(world.piped(&["init"]).status.success());
    for (command, says) in BARS {
        let words = if command == "init" { vec!["init", "--replace"] } else { vec![command] };
        let seen = world.on_a_terminal(&words, &[]);
        assert!(seen.contains(says) && seen.contains("left") && seen.contains("/s"), "{command}: {seen:?}");
        let seen = world.on_a_terminal(&words, &[("NO_COLOR", "1")]);
        assert!(seen.contains(says) && !coloured(&seen), "{command}: {seen:?}");
        let seen = world.on_a_terminal(&words, &[("TERM", "dumb")]);
        assert!(
            !seen.contains(says) && !seen.contains('\x1b') && seen.contains("entries"),
            "{command}: {seen:?}"
        );
        let seen = text(&world.piped(&words));
        assert!(
            !seen.contains(says) && !seen.contains('\r') && seen.contains("entries"),
            "{command}: {seen:?}"
        );
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("text")
}
