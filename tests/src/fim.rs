//! Driving the daemon the way an administrator or a script does: configuration, commands, exit codes, signals.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::record::{Record, parse_lines};
use crate::wait;

/// What a whole run has in common.
#[derive(Clone, Debug)]
pub struct Setting {
    pub fim: PathBuf,
    pub actor: PathBuf,
    pub works: Vec<PathBuf>,
    /// Highest tier the daemon may use.
    pub tier: String,
    /// The tier it must end up with.
    pub expect_tier: String,
    pub full: bool,
    /// How long a condition may take to come true.
    pub patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Restore,
    Alert,
}

impl Policy {
    pub fn name(self) -> &'static str {
        match self {
            Self::Restore => "restore",
            Self::Alert => "alert",
        }
    }

    /// The keys of a `[[watch]]`.
    fn keys(self) -> &'static str {
        match self {
            Self::Restore => {
                "on_modified = \"restore\"\non_deleted = \"restore\"\non_attributes = \"restore\"\n\
                 on_created = \"quarantine\"\n"
            }
            Self::Alert => {
                "on_modified = \"alert\"\non_deleted = \"alert\"\non_attributes = \"alert\"\non_created = \"alert\"\n"
            }
        }
    }
}

/// One installation of fim: a configuration, a state directory, one watched tree and a place outside it.
#[derive(Debug)]
pub struct Fim {
    program: PathBuf,
    /// Everything of this run; removed at the end unless something failed.
    pub home: PathBuf,
    pub config: PathBuf,
    pub watched: PathBuf,
    pub outside: PathBuf,
    pub state: PathBuf,
    patience: Duration,
}

impl Fim {
    /// Makes the directories below `work` and writes the configuration.
    pub fn new(setting: &Setting, work: &Path, name: &str, policy: Policy) -> Result<Self, String> {
        Self::with_tier(setting, work, name, policy, &setting.tier)
    }

    pub fn with_tier(
        setting: &Setting,
        work: &Path,
        name: &str,
        policy: Policy,
        tier: &str,
    ) -> Result<Self, String> {
        let work = work.canonicalize().map_err(|e| format!("{}: {e}", work.display()))?;
        Self::at(setting, work.join(format!("fim-e2e-{}-{name}", std::process::id())), policy, tier)
    }

    /// In a folder of this name, which may be there already.
    pub fn at(setting: &Setting, home: PathBuf, policy: Policy, tier: &str) -> Result<Self, String> {
        let fim = Self {
            program: setting.fim.clone(),
            config: home.join("fim.toml"),
            watched: home.join("watched"),
            outside: home.join("outside"),
            state: home.join("state"),
            home,
            patience: setting.patience,
        };
        fim.prepare(policy, tier).map_err(|e| format!("cannot prepare {}: {e}", fim.home.display()))?;
        Ok(fim)
    }

    fn prepare(&self, policy: Policy, tier: &str) -> std::io::Result<()> {
        for dir in [&self.home, &self.watched, &self.outside] {
            make_open(dir)?;
        }
        std::fs::create_dir_all(&self.state)?;
        self.write_config(&format!(
            "[state]\ndir = {:?}\n\n[sensor]\ntier = \"{tier}\"\n\n[[watch]]\npath = {:?}\n{}",
            self.state,
            self.watched,
            policy.keys()
        ))
    }

    pub fn write_config(&self, text: &str) -> std::io::Result<()> {
        std::fs::write(&self.config, text)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(&self.config).args(args).stdin(Stdio::null());
        command
    }

    /// `fim --config FILE ARGS` as words, for a launcher to start.
    pub fn words(&self, args: &[&str]) -> Vec<String> {
        let own = [&self.program, Path::new("--config"), &self.config].map(|p| p.display().to_string());
        own.into_iter().chain(args.iter().map(|a| (*a).to_owned())).collect()
    }

    /// Runs a command to its end.
    pub fn output(&self, args: &[&str]) -> Result<Output, String> {
        self.command(args).output().map_err(|e| format!("cannot start {}: {e}", self.program.display()))
    }

    /// Runs a command that has to succeed; its stdout.
    pub fn ok(&self, args: &[&str]) -> Result<String, String> {
        let output = self.output(args)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!(
            "fim {} ended with {}: {}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        ))
    }

    pub fn init(&self) -> Result<(), String> {
        self.ok(&["init"]).map(drop)
    }

    /// All records with a greater sequence number.
    pub fn log_after(&self, seq: u64) -> Result<Vec<Record>, String> {
        if seq == 0 {
            return parse_lines(&self.ok(&["log", "--json"])?);
        }
        let mut count = self.log_head()?.saturating_sub(seq);
        loop {
            let mut records = parse_lines(&self.ok(&["log", "--json", "-n", &count.to_string()])?)?;
            match records.first() {
                // Others came in between the two commands.
                Some(first) if first.seq > seq + 1 => count += first.seq - seq,
                _ => {
                    records.retain(|r| r.seq > seq);
                    return Ok(records);
                }
            }
        }
    }

    /// Sequence number of the newest record; 0 for an empty ledger.
    pub fn log_head(&self) -> Result<u64, String> {
        Ok(parse_lines(&self.ok(&["log", "--json", "-n", "1"])?)?.last().map_or(0, |r| r.seq))
    }

    /// What the daemon says about itself: `daemon` of `fim status --json`, whatever problems it reports.
    pub fn status(&self) -> Result<Value, String> {
        let output = self.output(&["status", "--json"])?;
        let text = String::from_utf8_lossy(&output.stdout);
        let report: Value = serde_json::from_str(&text).map_err(|e| {
            let stderr = String::from_utf8_lossy(&output.stderr);
            format!(
                "fim status --json printed no JSON ({e}) and ended with {}: {text}{stderr}",
                output.status
            )
        })?;
        report.get("daemon").filter(|d| d.is_object()).cloned().ok_or(format!("no daemon in {report}"))
    }

    /// Nothing waits to be looked at or written, and no gap is open.
    pub fn at_rest(&self) -> Result<(), String> {
        let status = self.status()?;
        let busy = |at: &&&str| status.pointer(at).and_then(Value::as_u64).is_none_or(|n| n > 0);
        match ["/waiting", "/unwritten", "/gaps/open"].iter().find(busy) {
            Some(at) => Err(format!("fim status does not come to rest: {at} is {:?}", status.pointer(at))),
            None => Ok(()),
        }
    }

    /// `fim check --json`: exit code and stdout.
    pub fn check(&self) -> Result<(i32, String), String> {
        let output = self.output(&["check", "--json"])?;
        let code = output.status.code().ok_or("fim check was killed")?;
        if code > 1 {
            return Err(format!(
                "fim check ended with {code}: {}",
                String::from_utf8_lossy(&output.stderr).trim_end()
            ));
        }
        Ok((code, String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    /// Starts `fim run` and waits for `ready`.
    pub fn start(&self) -> Result<Daemon, String> {
        let mut daemon = self.spawn(self.command(&["run"]))?;
        daemon.wait_ready(self.patience)?;
        Ok(daemon)
    }

    /// Starts a command that becomes the daemon, without waiting.
    pub fn spawn(&self, mut command: Command) -> Result<Daemon, String> {
        let stderr = self.home.join("stderr");
        let log = File::options().create(true).append(true).open(&stderr).map_err(|e| e.to_string())?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|e| format!("cannot start the daemon: {e}"))?;
        let stdout = child.stdout.take().ok_or("the daemon has no stdout")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // After the test has what it wants, the rest is only drained.
                let _ = sender.send(line);
            }
        });
        Ok(Daemon { child, lines, stderr })
    }

    /// Takes everything away.
    pub fn remove(self) {
        // What cannot be removed is in the way of nobody but the disk.
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// A directory that anybody may write in, whatever the umask says.
pub fn make_open(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777))
}

/// A running `fim run`. Dropped, it is killed.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    lines: Receiver<String>,
    stderr: PathBuf,
}

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has open: the database's descriptors apart, and all others.
    pub fn descriptors(&self) -> Result<(Vec<String>, Vec<String>), String> {
        let dir = format!("/proc/{}/fd", self.pid());
        let entries = std::fs::read_dir(&dir).map_err(|e| format!("{dir}: {e}"))?;
        let target = |entry: std::fs::DirEntry| std::fs::read_link(entry.path()).ok();
        let targets = entries.flatten().filter_map(target).map(|path| path.display().to_string());
        Ok(targets.partition(|path| path.contains("/fim.db")))
    }

    pub fn wait_ready(&mut self, patience: Duration) -> Result<(), String> {
        self.wait_line("ready", patience)
    }

    /// Waits until it says this word.
    pub fn wait_line(&mut self, word: &str, patience: Duration) -> Result<(), String> {
        let start = std::time::Instant::now();
        loop {
            let left = patience.saturating_sub(start.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) if line == word => return Ok(()),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!(
                        "no line `{word}` within {} s; {}",
                        patience.as_secs(),
                        self.last_words()
                    ));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().map_err(|e| e.to_string())?;
                    return Err(format!(
                        "the daemon ended before `{word}` with {status}; {}",
                        self.last_words()
                    ));
                }
            }
        }
    }

    /// The next line that it prints.
    pub fn next_line(&mut self, patience: Duration) -> Result<String, String> {
        let missing = |_| format!("the daemon printed nothing within {patience:?}; {}", self.last_words());
        self.lines.recv_timeout(patience).map_err(missing)
    }

    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.stderr).unwrap_or_default();
        let tail: Vec<&str> = text.lines().rev().take(5).collect();
        format!("stderr: {}", tail.into_iter().rev().collect::<Vec<_>>().join(" | "))
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("not a pid")?;
        kill_process(pid, signal).map_err(|e| format!("cannot signal the daemon: {e}"))
    }

    /// Asks it to end (SIGTERM) and wants exit code 0.
    pub fn stop(mut self, patience: Duration) -> Result<(), String> {
        self.signal(Signal::TERM)?;
        let status = wait::until(patience, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("the daemon does not end after SIGTERM".into()),
            Err(e) => Err(e.to_string()),
        })?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("after SIGTERM the daemon ended with {status}; {}", self.last_words()))
        }
    }

    /// Tells it that its log files were renamed, and to read its configuration again.
    pub fn hang_up(&self) -> Result<(), String> {
        self.signal(Signal::HUP)
    }

    /// Ends it as a crash would.
    pub fn abort(mut self) -> Result<std::process::ExitStatus, String> {
        self.signal(Signal::ABORT)?;
        self.child.wait().map_err(|e| e.to_string())
    }

    /// kill -9, and gone when this returns.
    pub fn kill(mut self) -> Result<(), String> {
        self.signal(Signal::KILL)?;
        self.child.wait().map(drop).map_err(|e| e.to_string())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
