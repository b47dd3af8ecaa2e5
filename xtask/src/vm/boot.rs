//! One boot: QEMU with its console read line by line, a verdict at the end.
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::kernels::Kernel;
use crate::sh;

const WITH_BPF: &str = "lockdown,capability,landlock,yama,apparmor,bpf";
const WITHOUT_BPF: &str = "lockdown,capability,landlock,yama,apparmor";

/// Kernel messages after which nothing that follows can be trusted.
const FATAL: [&str; 6] =
    ["Kernel panic", "Oops:", "BUG: ", "general protection fault", "INFO: task ", "soft lockup - CPU"];

pub struct Boot {
    pub name: String,
    pub kernel: Kernel,
    pub bpf_lsm: bool,
    pub config: String,
}

pub struct Limits {
    /// Longest time without a line on the console.
    pub silence: Duration,
    pub overall: Duration,
}

#[derive(Default)]
pub struct Outcome {
    pub passed: u64,
    pub failed: u64,
    /// Why it failed, when it is more than a failed test.
    pub problems: Vec<String>,
    pub runs: Vec<String>,
    pub took: Duration,
    pub log: PathBuf,
}

impl Boot {
    fn qemu(&self, initrd: &Path, disks: &[PathBuf]) -> Result<Command> {
        let lsm = if self.bpf_lsm { WITH_BPF } else { WITHOUT_BPF };
        let program = sh::tool("qemu-system-x86_64")?;
        // A machine must not outlive the command that started it.
        let mut qemu = sh::tool("setpriv")?;
        qemu.args(["--pdeathsig", "KILL", "--"]).arg(program.get_program());
        // la57 panics some kernels under some QEMUs.
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-m", "1G", "-smp", "2"]);
        qemu.args(["-nographic", "-no-reboot", "-nic", "none"]);
        qemu.arg("-kernel").arg(&self.kernel.vmlinuz).arg("-initrd").arg(initrd);
        for disk in disks {
            qemu.arg("-drive").arg(format!("file={},if=virtio,format=raw,cache=unsafe", disk.display()));
        }
        qemu.arg("-append")
            .arg(format!("console=ttyS0 panic=-1 oops=panic quiet lsm={lsm} systemd.show_status=0"));
        Ok(qemu)
    }

    /// With the terminal, for a person.
    pub fn interactive(&self, initrd: &Path, disks: &[PathBuf]) -> Result<()> {
        sh::run(&mut self.qemu(initrd, disks)?)
    }

    pub fn run(&self, initrd: &Path, disks: &[PathBuf], log: PathBuf, limits: &Limits) -> Result<Outcome> {
        self.run_until(initrd, disks, log, limits, None)
    }

    /// With `cut`: killed, as by a power cut, that long after the machine has said that it is at work. What had failed by
    /// then still counts, and so does an end before the cut.
    pub fn run_until(
        &self,
        initrd: &Path,
        disks: &[PathBuf],
        log: PathBuf,
        limits: &Limits,
        cut: Option<Duration>,
    ) -> Result<Outcome> {
        let started = Instant::now();
        let mut file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = self
            .qemu(initrd, disks)?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start qemu-system-x86_64")?;
        let lines = console(&mut child)?;
        let mut console = Console::new(&self.name);
        let mut moment = None;
        let stalled = loop {
            let wait = match moment {
                Some(moment) if moment <= Instant::now() => {
                    return console.cut_off(child, started, log);
                }
                Some(moment) => moment - Instant::now(),
                None => limits.silence.min(limits.overall.saturating_sub(started.elapsed())),
            };
            match lines.recv_timeout(wait) {
                Ok(line) => {
                    writeln!(file, "{:8.2} {line}", started.elapsed().as_secs_f64())?;
                    console.line(&line);
                    if let Some(cut) = cut.filter(|_| line.contains("FIM-VM-CUT")) {
                        moment = Some(Instant::now() + cut);
                    }
                }
                Err(RecvTimeoutError::Timeout) if moment.is_some() => {}
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) => {
                    let all = started.elapsed() >= limits.overall;
                    break Some(if all { ("no end", limits.overall) } else { ("no output", limits.silence) });
                }
            }
        };
        if let Some((what, limit)) = stalled {
            console.outcome.problems.push(format!("{what} within {} s", limit.as_secs()));
            child.kill().context("cannot stop QEMU")?;
        }
        let status = child.wait()?;
        if !status.success() && stalled.is_none() {
            console.outcome.problems.push(format!("QEMU ended with {status}"));
        }
        if cut.is_some() {
            console.outcome.problems.push("it ended before it was cut off".to_owned());
        }
        let mut outcome = console.finish();
        outcome.took = started.elapsed();
        outcome.log = log;
        Ok(outcome)
    }
}

/// Standard output and standard error as lines; ends when QEMU has closed both.
fn console(child: &mut Child) -> Result<Receiver<String>> {
    let (sender, lines) = channel();
    let streams: [Box<dyn std::io::Read + Send>; 2] = [
        Box::new(child.stdout.take().context("no standard output")?),
        Box::new(child.stderr.take().context("no standard error")?),
    ];
    for stream in streams {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = printable(&line);
                line.clear();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
    }
    Ok(lines)
}

/// The firmware clears the screen and sets colours; a terminal must not obey a log.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut out = String::new();
    let mut chars = text.trim_end().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' if chars.peek() == Some(&'[') => {
                while chars.next().is_some_and(|c| !c.is_ascii_alphabetic()) {}
            }
            '\t' => out.push(' '),
            '\x1b' => drop(chars.next()),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

struct Console<'a> {
    name: &'a str,
    tail: Vec<String>,
    result: Option<(u64, u64)>,
    /// Cases told so far, for a machine that gives no result.
    passes: u64,
    fails: u64,
    outcome: Outcome,
}

impl<'a> Console<'a> {
    fn new(name: &'a str) -> Self {
        Self { name, tail: Vec::new(), result: None, passes: 0, fails: 0, outcome: Outcome::default() }
    }

    fn line(&mut self, line: &str) {
        if let Some(found) = result_line(line) {
            self.result = Some(found);
        } else if let Some((_, run)) = line.split_once("FIM-VM-RUN ") {
            println!("[{}] {run}", self.name);
            self.outcome.runs.push(run.to_owned());
            // What had ended before a crash still counts.
            let (passed, failed) = run_counts(run).unwrap_or((0, 1));
            self.outcome.passed += passed;
            self.outcome.failed += failed;
        } else if let Some((_, note)) = line.split_once("FIM-VM-NOTE ") {
            println!("[{}] note: {note}", self.name);
            self.outcome.runs.push(format!("note: {note}"));
        } else if let Some((_, run)) = line.split_once("FIM-VM-BEGIN ") {
            println!("[{}] {run}: begins", self.name);
        } else if line.starts_with("FAIL") || line.contains("FAILED") {
            println!("[{}] {}", self.name, shortened(line));
            self.fails += 1;
        } else if line.starts_with("ok ") {
            self.passes += 1;
        }
        if FATAL.iter().any(|sign| line.contains(sign)) && self.outcome.problems.len() < 5 {
            self.outcome.problems.push(format!("the kernel said: {}", line.trim()));
        }
        if self.tail.len() == 60 {
            self.tail.remove(0);
        }
        self.tail.push(line.to_owned());
    }

    /// Kills the machine; what it said until then is all there is.
    fn cut_off(mut self, mut child: Child, started: Instant, log: PathBuf) -> Result<Outcome> {
        child.kill().context("cannot stop QEMU")?;
        child.wait()?;
        self.outcome.failed = self.fails;
        self.outcome.passed = self.passes;
        self.outcome.took = started.elapsed();
        self.outcome.log = log;
        Ok(self.outcome)
    }

    fn finish(mut self) -> Outcome {
        match self.result {
            Some((passed, failed)) => (self.outcome.passed, self.outcome.failed) = (passed, failed),
            None => self.outcome.problems.push("no result line".to_owned()),
        }
        if !self.outcome.problems.is_empty() {
            self.outcome.failed += 1;
            println!("[{}] the end of the console:", self.name);
            for line in &self.tail {
                println!("[{}] | {}", self.name, shortened(line));
            }
        }
        self.outcome
    }
}

/// A failure may carry a whole status; the log has all of it.
fn shortened(line: &str) -> String {
    match line.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// "NAME: N passed, N failed in N s"
fn run_counts(run: &str) -> Option<(u64, u64)> {
    let (passed, rest) = run.rsplit_once(": ")?.1.split_once(" passed, ")?;
    Some((passed.parse().ok()?, rest.split_once(" failed")?.0.parse().ok()?))
}

/// "FIM-VM-RESULT passed=N failed=N", also behind a kernel message on the same line.
fn result_line(line: &str) -> Option<(u64, u64)> {
    let (_, rest) = line.split_once("FIM-VM-RESULT passed=")?;
    let (passed, failed) = rest.split_once(" failed=")?;
    Some((passed.parse().ok()?, failed.split_whitespace().next()?.parse().ok()?))
}

pub fn prepare(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(lines: &[&str]) -> Outcome {
        let mut console = Console::new("t");
        lines.iter().for_each(|line| console.line(line));
        console.finish()
    }

    #[test]
    fn a_result_line_counts_and_its_absence_fails() {
        let good = outcome(&["FIM-VM-RUN lsm: 3 passed, 1 failed", "FIM-VM-RESULT passed=3 failed=1"]);
        assert_eq!((good.passed, good.failed, good.problems.len(), good.runs.len()), (3, 1, 0, 1));
        let none = outcome(&["something", "FIM-VM-RESULT passed="]);
        assert_eq!((none.passed, none.failed, none.problems.len()), (0, 1, 1));
        let half = outcome(&["FIM-VM-RUN lsm: 3 passed, 1 failed in 7 s", "FIM-VM-BEGIN fentry"]);
        assert_eq!((half.passed, half.failed), (3, 2));
    }

    #[test]
    fn a_panic_fails_even_with_a_result_line() {
        let bad =
            outcome(&["[ 3.1] BUG: kernel NULL pointer dereference", "FIM-VM-RESULT passed=3 failed=0"]);
        assert_eq!((bad.passed, bad.failed), (3, 1));
        assert!(bad.problems[0].contains("NULL pointer"));
    }

    #[test]
    fn control_sequences_never_reach_the_terminal() {
        assert_eq!(printable(b"\x1bc\x1b[2J\x1b[1;31mSeaBIOS\x07\tx\r\n"), "SeaBIOS x");
    }
}
