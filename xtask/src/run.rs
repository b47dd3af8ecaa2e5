//! `cargo xtask run`: fim in the foreground, on a demo tree or on a path of the user's own.
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;

use crate::sh;

#[derive(Args)]
pub struct Options {
    /// The directory to watch; without it, a copy of /etc
    path: Option<PathBuf>,
    /// Undo changes below PATH too, instead of only reporting them
    #[arg(long, requires = "path")]
    restore: bool,
}

struct Demo {
    dir: PathBuf,
    watched: PathBuf,
    restore: bool,
}

pub fn main(options: &Options) -> Result<ExitCode> {
    crate::setup::setup(false)?;
    sh::run(sh::cargo().args(["build", "--package", "fim-userspace", "--bin", "fim"]))?;
    let fim = sh::target_dir().join("debug/fim");
    let demo = prepare(options)?;
    let config = demo.dir.join("fim.toml");
    fs::write(&config, demo.config()?).with_context(|| format!("cannot write {}", config.display()))?;
    println!("\nTaking the baseline of {}", demo.watched.display());
    sh::run(sh::as_root(&fim).arg("--config").arg(&config).arg("init"))?;
    demo.say_how_to_try();
    foreground(sh::as_root(&fim).arg("--config").arg(&config).arg("run"))
}

fn prepare(options: &Options) -> Result<Demo> {
    let dir = sh::target_dir().join("demo");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let dir = dir.canonicalize()?;
    // A baseline from an earlier run would report everything that happened since.
    let state = dir.join("state");
    sh::quiet(sh::as_root("rm").arg("-rf").arg("--").arg(&state))?;
    let watched = match &options.path {
        Some(path) => {
            let path = path.canonicalize().with_context(|| format!("cannot watch {}", path.display()))?;
            if !path.is_dir() {
                bail!("{} is not a directory; name the directory it is in", path.display());
            }
            path
        }
        None => {
            let tree = dir.join("tree");
            println!("setup: copying /etc to {}", tree.display());
            sh::quiet(sh::as_root("rm").arg("-rf").arg("--").arg(&tree))?;
            sh::quiet(sh::as_root("cp").args(["-a", "--", "/etc"]).arg(&tree))?;
            tree
        }
    };
    Ok(Demo { dir, watched, restore: options.restore || options.path.is_none() })
}

impl Demo {
    fn config(&self) -> Result<String> {
        let mut text = format!("[state]\ndir = {}\n\n[[watch]]\n", quoted(&self.dir.join("state"))?);
        text.push_str(&format!("path = {}\n", quoted(&self.watched)?));
        // fim's own records change all the time.
        if let Ok(own) = self.dir.strip_prefix(&self.watched) {
            text.push_str(&format!("exclude = [{}]\n", quoted(&Path::new("/").join(own))?));
        }
        if !self.restore {
            for key in ["on_modified", "on_deleted", "on_attributes", "on_created"] {
                text.push_str(&format!("{key} = \"alert\"\n"));
            }
        }
        Ok(text)
    }

    fn say_how_to_try(&self) {
        let does = if self.restore { "undoing and reporting" } else { "reporting" };
        println!("\nWatching {}, {does} every change. Ctrl-C ends it.", self.watched.display());
        println!("Try in another terminal:\n");
        let (sudo, tree) = (if sh::is_root() { "" } else { "sudo " }, shell_quoted(&self.watched));
        if self.watched.starts_with(&self.dir) {
            println!("    {sudo}sh -c 'echo \"eve::0:0::/:/bin/sh\" >> \"$1\"/passwd' sh {tree}");
            println!("    {sudo}chmod 666 {tree}/shadow");
            println!("    {sudo}rm -r {tree}/apt");
        }
        println!("    {sudo}touch {tree}/fim-was-here\n");
    }
}

/// A JSON string is a TOML string too.
fn quoted(path: &Path) -> Result<String> {
    let text = path
        .to_str()
        .with_context(|| format!("{} is not UTF-8, so no TOML file can hold it", path.display()))?;
    Ok(serde_json::Value::from(text).to_string())
}

fn shell_quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Waits for it to end; what would end this process ends it first.
fn foreground(command: &mut Command) -> Result<ExitCode> {
    // Started first: a child inherits what is blocked.
    let mut child = command.spawn().context("cannot start fim")?;
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGCHLD] {
        signals.add(signal);
    }
    signals.thread_block().context("cannot block signals")?;
    let fd = SignalFd::new(&signals).context("cannot wait for signals")?;
    loop {
        if let Some(status) = child.try_wait()? {
            return finish(status);
        }
        let Some(received) = fd.read_signal()? else {
            continue;
        };
        let signal = Signal::try_from(i32::try_from(received.ssi_signo)?)?;
        // Ctrl-C reaches everything on the terminal, so only what was sent to this process alone is passed on.
        let from_terminal = received.ssi_code != 0;
        if signal != Signal::SIGCHLD && !from_terminal {
            pass_on(&child, signal)?;
        }
    }
}

fn pass_on(child: &Child, signal: Signal) -> Result<()> {
    let pid = i32::try_from(child.id())?;
    match kill(Pid::from_raw(pid), signal) {
        Err(Errno::EPERM) => sh::quiet(Command::new("sudo").args([
            "kill",
            "-s",
            signal.as_str().trim_start_matches("SIG"),
            &pid.to_string(),
        ])),
        other => other.with_context(|| format!("cannot pass {signal} on to fim")),
    }
}

fn finish(status: ExitStatus) -> Result<ExitCode> {
    if let Some(signal) = status.signal() {
        bail!("fim was ended by signal {signal}");
    }
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo(watched: &str, restore: bool) -> Demo {
        Demo { dir: "/src/target/demo".into(), watched: watched.into(), restore }
    }

    #[test]
    fn never_watches_its_own_records() {
        let config = demo("/src", false).config().expect("a config");
        assert!(config.contains("exclude = [\"/target/demo\"]"), "{config}");
        assert!(config.contains("on_created = \"alert\""), "{config}");
        let config = demo("/etc \"x", true).config().expect("a config");
        assert!(config.contains(r#"path = "/etc \"x""#) && !config.contains("exclude"), "{config}");
        assert!(!config.contains("alert"), "{config}");
    }
}
