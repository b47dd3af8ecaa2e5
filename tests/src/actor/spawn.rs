//! The harness's end of `fim-actor`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::{Done, SelfReport};

/// Never equal to each other, to a pid in a small system, or to root.
pub const UID: u32 = 1234;
pub const GID: u32 = 2345;
/// A group the actor is in besides its own.
pub const EXTRA_GROUP: u32 = 4567;

/// One actor process, started.
#[derive(Debug)]
pub struct Running {
    pub me: SelfReport,
    child: Child,
    out: BufReader<ChildStdout>,
}

/// Starts the actor as the unprivileged user and reads who it says it is.
pub fn start(program: &Path, args: &[String], linger: bool) -> Result<Running, String> {
    let mut command = Command::new(program);
    command.args([
        "--uid",
        &UID.to_string(),
        "--gid",
        &GID.to_string(),
        "--groups",
        &EXTRA_GROUP.to_string(),
    ]);
    if linger {
        command.arg("--linger");
    }
    let mut child = command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start {}: {e}", program.display()))?;
    let mut out = BufReader::new(child.stdout.take().ok_or("the actor has no stdout")?);
    let mut line = String::new();
    out.read_line(&mut line).map_err(|e| e.to_string())?;
    match serde_json::from_str::<SelfReport>(&line) {
        Ok(me) if me.pid == child.id() => Ok(Running { me, child, out }),
        _ => Err(failure(child, args)),
    }
}

fn failure(child: Child, args: &[String]) -> String {
    match child.wait_with_output() {
        Ok(o) => format!(
            "the actor failed at {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&o.stderr).trim_end()
        ),
        Err(e) => format!("the actor failed at {}: {e}", args.join(" ")),
    }
}

impl Running {
    /// Waits until the operation is over; the paths a tree operation touched.
    pub fn acted(&mut self) -> Result<Vec<String>, String> {
        let mut line = String::new();
        self.out.read_line(&mut line).map_err(|e| e.to_string())?;
        if line.is_empty() {
            // It says nothing more: it failed, which `finish` tells, or was to vanish at once.
            return Ok(Vec::new());
        }
        serde_json::from_str::<Done>(&line).map(|d| d.touched).map_err(|e| format!("{e}: {line}"))
    }

    /// Closes its stdin and waits for it to succeed.
    pub fn finish(mut self) -> Result<(), String> {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output().map_err(|e| e.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!(
            "the actor ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        ))
    }
}
