//! A root of its own below the watched folder: enough of a system for packages and their scripts.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::fim::{Daemon, Fim, Policy, Setting};
use crate::record::Record;
use crate::wait;

pub const DPKG: &str = "/usr/bin/dpkg";
/// Two real packages without dependencies: one with scripts, both with conffiles.
pub const NETBASE: &str = "netbase";
pub const MEDIA_TYPES: &str = "media-types";

/// An installation of fim that watches such a root.
pub struct System<'a> {
    pub setting: &'a Setting,
    pub fim: Fim,
    pub daemon: Option<Daemon>,
}

impl<'a> System<'a> {
    /// `more` is added to the configuration.
    pub fn new(setting: &'a Setting, name: &str, more: impl FnOnce(&Fim) -> String) -> Result<Self, String> {
        Self::with_policy(setting, name, Policy::Restore, more)
    }

    pub fn with_policy(
        setting: &'a Setting,
        name: &str,
        policy: Policy,
        more: impl FnOnce(&Fim) -> String,
    ) -> Result<Self, String> {
        let work = setting.works.first().ok_or("no work directory")?;
        let fim = Fim::new(setting, work, name, policy)?;
        prepare(&fim.watched).map_err(|e| format!("the root cannot be made: {e}"))?;
        let add = || {
            let text = fs::read_to_string(&fim.config)?;
            fim.write_config(&format!("{text}\n{}", more(&fim)))
        };
        add().map_err(|e| format!("the configuration cannot be written: {e}"))?;
        fim.init()?;
        let daemon = Some(fim.start()?);
        Ok(Self { setting, fim, daemon })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.fim.watched.join(name)
    }

    /// Installs, removes or purges with this dpkg; how it ended.
    pub fn dpkg(&self, program: &Path, args: &[&OsStr]) -> Result<Output, String> {
        let mut command = Command::new(program);
        command.arg(format!("--root={}", self.fim.watched.display()));
        command.arg(format!("--log={}", self.path("var/log/dpkg.log").display()));
        run(command.args(args))
    }

    /// Waits until nothing is being looked at any more.
    pub fn at_rest(&self) -> Result<(), String> {
        wait::until(self.setting.patience, || self.fim.at_rest())
    }

    pub fn changes(&self, after: u64) -> Result<Vec<Record>, String> {
        Ok(self.fim.log_after(after)?.into_iter().filter(Record::is_change).collect())
    }

    /// Nothing was told to anybody: no unauthorised change, no trouble, no gap, and the baseline is what is there.
    pub fn quiet(&self, after: u64) -> Result<Vec<Record>, String> {
        self.at_rest()?;
        let records = self.fim.log_after(after)?;
        nobody_told(&records)?;
        self.equal()?;
        Ok(records.into_iter().filter(Record::is_change).collect())
    }

    /// Nothing differs from the baseline, once what was taken out of its place has been put away.
    pub fn equal(&self) -> Result<(), String> {
        self.at_rest()?;
        wait::until(self.setting.patience, || match self.fim.check()? {
            (0, _) => Ok(()),
            (_, text) => Err(format!("something differs from the baseline: {text}")),
        })
    }

    /// The next daemon finds nothing to tell of either.
    pub fn settled(mut self) -> Result<(), String> {
        self.equal()?;
        if let Some(daemon) = self.daemon.take() {
            daemon.stop(self.setting.patience)?;
        }
        let head = self.fim.log_head()?;
        let daemon = self.fim.start()?;
        let changes: Vec<String> = self.changes(head)?.iter().map(Record::brief).collect();
        daemon.stop(self.setting.patience)?;
        if !changes.is_empty() {
            return Err(format!("the next daemon sees changes: {}", changes.join(" ")));
        }
        self.fim.ok(&["log", "verify"])?;
        self.fim.remove();
        Ok(())
    }

    /// As [`settled`](Self::settled), and nothing was told in all that time.
    pub fn settled_quietly(mut self) -> Result<(), String> {
        self.equal()?;
        if let Some(daemon) = self.daemon.take() {
            daemon.stop(self.setting.patience)?;
        }
        nobody_told(&self.fim.log_after(0)?)?;
        self.daemon = Some(self.fim.start()?);
        self.settled()
    }
}

fn nobody_told(records: &[Record]) -> Result<(), String> {
    let loud = |r: &&Record| {
        r.verdict.as_deref() == Some("unauthorised")
            || matches!(r.kind.as_str(), "trouble" | "coverage_gap" | "escalated" | "interrupted")
    };
    let told: Vec<String> =
        records.iter().filter(loud).map(|r| format!("{} {:?}", r.brief(), r.message)).collect();
    if told.is_empty() { Ok(()) } else { Err(format!("{} alerts: {}", told.len(), told.join(" "))) }
}

/// The program itself is watched, and told of only.
pub fn watch_alone(program: &Path) -> String {
    format!(
        "[[watch]]\npath = {program:?}\non_modified = \"alert\"\non_deleted = \"alert\"\non_attributes = \"alert\"\n\
         on_created = \"alert\"\n"
    )
}

/// Installed packages and a shell for their scripts.
fn prepare(root: &Path) -> std::io::Result<()> {
    for dir in [
        "etc",
        "tmp",
        "usr/bin",
        "var/log",
        "var/lib/dpkg/info",
        "var/lib/dpkg/updates",
        "var/lib/dpkg/triggers",
    ] {
        fs::create_dir_all(root.join(dir))?;
    }
    symlink("usr/bin", root.join("bin"))?;
    for file in ["var/lib/dpkg/status", "var/lib/dpkg/available", "var/log/dpkg.log"] {
        fs::write(root.join(file), "")?;
    }
    for program in ["sh", "cat"] {
        let from = Path::new("/bin").join(program).canonicalize()?;
        fs::copy(&from, root.join("usr/bin").join(program))?;
        for library in libraries(&from)? {
            let to = root.join(library.strip_prefix("/").unwrap_or(&library));
            fs::create_dir_all(to.parent().unwrap_or(root))?;
            fs::copy(&library, to)?;
        }
    }
    Ok(())
}

/// What ldd(1) says the program needs.
fn libraries(program: &Path) -> std::io::Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = |word: &str| word.starts_with('/').then(|| PathBuf::from(word));
    Ok(text.lines().filter_map(|line| line.split_whitespace().find_map(path)).collect())
}

/// The package's archive, from the machine's own mirror.
pub fn fetch(name: &str, into: &Path) -> Result<PathBuf, String> {
    let download = || {
        let mut command = Command::new("apt-get");
        command.args(["download", "-q", "-o", "APT::Sandbox::User=root", name]).current_dir(into);
        run(&mut command).and_then(succeeded)
    };
    if download().is_err() {
        run(Command::new("apt-get").args(["update", "-q"])).and_then(succeeded)?;
        download()?;
    }
    let entries = fs::read_dir(into).map_err(|e| e.to_string())?;
    let found = entries.flatten().map(|entry| entry.path()).find(|path| {
        path.file_name().and_then(OsStr::to_str).is_some_and(|file| file.starts_with(&format!("{name}_")))
    });
    found.ok_or_else(|| format!("apt-get downloaded no {name}"))
}

pub fn run(command: &mut Command) -> Result<Output, String> {
    command
        .stdin(Stdio::null())
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .map_err(|e| format!("cannot start {}: {e}", command.get_program().to_string_lossy()))
}

pub fn succeeded(output: Output) -> Result<String, String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(text),
        false => Err(format!("{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr))),
    }
}
