//! A real mail server: aiosmtpd, from the system's packages.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::Seen;

const PROGRAM: &str = include_str!("../../data/smtp/server.py");

/// Ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub port: u64,
    said: Seen<Value>,
}

impl Server {
    /// `arguments` are the program's.
    pub fn start(arguments: &[&str]) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("the mail server does not start: {e}; `cargo xtask setup`");
        // Debian's own, whatever other Python there is: it has the module.
        let mut command = Command::new("/usr/bin/python3");
        command.arg("-").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (mut program, output) = pipes.ok_or("the mail server has no pipes")?;
        program.write_all(PROGRAM.as_bytes()).map_err(failed)?;
        drop(program);
        let mut lines = BufReader::new(output).lines();
        let first =
            lines.next().ok_or("python3-aiosmtpd is not there; `cargo xtask setup`")?.map_err(failed)?;
        let first: Value = serde_json::from_str(&first).map_err(|e| format!("{e}: {first}"))?;
        let port = first["port"].as_u64().ok_or("the mail server names no port")?;
        let said = Seen::default();
        let list = said.clone();
        std::thread::spawn(move || {
            let values = lines.map_while(Result::ok);
            values.map_while(|line| serde_json::from_str(&line).ok()).for_each(|value| list.push(value));
        });
        Ok(Self { child, port, said })
    }

    /// What it took and what it answered otherwise. It comes through a pipe, a moment later.
    pub fn said(&self) -> Vec<Value> {
        self.said.all()
    }

    /// Mails that it took.
    pub fn mails(&self) -> Vec<Value> {
        self.said().into_iter().filter(|said| said["body"].is_string()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
