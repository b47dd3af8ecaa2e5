//! An installation with a daemon that can be stopped, and what the commands answered.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::fim::{Daemon, Fim, Policy, Setting};
use crate::record::Record;
use crate::wait;

/// Newline, escape, invalid UTF-8, backslash.
pub const ODD: &[u8] = b"odd\n\x1b[31m\xff\\ name";

pub struct World<'a> {
    pub setting: &'a Setting,
    pub fim: Fim,
    pub daemon: Option<Daemon>,
}

impl<'a> World<'a> {
    /// Makes the tree, takes the baseline and starts the daemon.
    pub fn new(
        setting: &'a Setting,
        name: &str,
        policy: Policy,
        make: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Result<Self, String> {
        let work = setting.works.first().ok_or("no work directory")?;
        let fim = Fim::new(setting, work, name, policy)?;
        make(&fim.watched).map_err(|e| format!("the tree cannot be made: {e}"))?;
        fim.init()?;
        let daemon = Some(fim.start()?);
        Ok(Self { setting, fim, daemon })
    }

    /// Ends the daemon, if `running` says that none is wanted from here on.
    pub fn only_if(&mut self, running: bool) -> Result<(), String> {
        match self.daemon.take_if(|_| !running) {
            Some(daemon) => daemon.stop(self.setting.patience),
            None => Ok(()),
        }
    }

    pub fn path(&self, name: impl AsRef<[u8]>) -> PathBuf {
        self.fim.watched.join(OsStr::from_bytes(name.as_ref()))
    }

    pub fn run(&self, args: &[&OsStr]) -> Result<Answered, String> {
        let mut command = self.fim.command(&[]);
        let output = command.args(args).output().map_err(|e| e.to_string())?;
        Answered::new(output, args)
    }

    /// A command with one path at its end.
    pub fn about(&self, args: &[&str], path: &Path) -> Result<Answered, String> {
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).chain([path.as_os_str()]).collect();
        self.run(&args)
    }

    pub fn words(&self, args: &[&str]) -> Result<Answered, String> {
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        self.run(&args)
    }

    /// Waits for a record of that kind about the path.
    pub fn recorded(&self, path: &Path, kind: &str, response: &str) -> Result<Record, String> {
        let shown = shown(path);
        wait::until(self.setting.patience, || {
            let records = self.fim.log_after(0)?;
            let fits =
                |r: &&Record| r.path.as_deref() == Some(&shown) && r.kind == kind && r.response == response;
            records.iter().rev().find(fits).cloned().ok_or_else(|| {
                let all: Vec<String> = records.iter().map(Record::brief).collect();
                format!("no record {kind}/{response} of {shown} among {}", all.join(" "))
            })
        })
    }

    /// Nothing differs from the baseline any more, and what was decided outlives a restart of the daemon.
    pub fn settled(mut self) -> Result<(), String> {
        let (code, text) = self.fim.check()?;
        if code != 0 {
            return Err(format!("something differs from the baseline: {text}"));
        }
        if let Some(daemon) = self.daemon.take() {
            daemon.stop(self.setting.patience)?;
        }
        let head = self.fim.log_head()?;
        let daemon = self.fim.start()?;
        let changes: Vec<String> =
            self.fim.log_after(head)?.iter().filter(|r| r.is_change()).map(Record::brief).collect();
        daemon.stop(self.setting.patience)?;
        if !changes.is_empty() {
            return Err(format!("the next daemon sees changes: {}", changes.join(" ")));
        }
        self.fim.remove();
        Ok(())
    }

    /// `fim quarantine list --json`.
    pub fn list(&self, more: &[&str]) -> Result<Vec<Value>, String> {
        let text = self.words(&[&["quarantine", "list", "--json"], more].concat())?.expect(0)?;
        text.lines().map(|line| serde_json::from_str(line).map_err(|e| format!("{e}: {line}"))).collect()
    }

    /// The number in quarantine of what was at `path`.
    pub fn number(&self, path: &Path) -> Result<String, String> {
        let shown = shown(path);
        let list = self.list(&[])?;
        let row = list.iter().rev().find(|row| row["path"] == shown.as_str());
        row.map(|row| row["id"].to_string()).ok_or(format!("{shown} is not in quarantine: {list:?}"))
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Answered {
    what: String,
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Answered {
    fn new(output: Output, args: &[&OsStr]) -> Result<Self, String> {
        let what: Vec<String> = args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
        let what = what.join(" ");
        let code = output.status.code().ok_or_else(|| format!("fim {what} was killed"))?;
        let out = String::from_utf8(output.stdout).map_err(|_| format!("fim {what} printed no UTF-8"))?;
        let err =
            String::from_utf8(output.stderr).map_err(|_| format!("fim {what} complained in no UTF-8"))?;
        if let Some(c) = out.chars().chain(err.chars()).find(|c| c.is_control() && !matches!(c, '\n' | '\t'))
        {
            return Err(format!("fim {what} printed the control character {c:?}"));
        }
        Ok(Self { what, code, out, err })
    }

    /// Wants that exit code; gives what was printed.
    pub fn expect(self, code: i32) -> Result<String, String> {
        if self.code == code {
            return Ok(self.out);
        }
        Err(format!("fim {} ended with {}, not {code}: {}{}", self.what, self.code, self.out, self.err))
    }

    /// Wants a refusal that has these words.
    pub fn refused(self, words: &[&str]) -> Result<String, String> {
        match words.iter().find(|w| !self.err.contains(**w)) {
            _ if self.code != 2 => {
                Err(format!("fim {} ended with {}, not 2: {}{}", self.what, self.code, self.out, self.err))
            }
            Some(word) => Err(format!("`{word}` is not in the answer: {}", self.err)),
            None => Ok(self.err),
        }
    }
}

pub fn has(text: &str, words: &[&str]) -> Result<(), String> {
    match words.iter().find(|w| !text.contains(**w)) {
        Some(word) => Err(format!("`{word}` is missing in: {text}")),
        None => Ok(()),
    }
}

/// As fim shows it: what is not printable is `\xNN`, a backslash doubled.
pub fn shown(path: &Path) -> String {
    let mut out = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
                c => out.push(c),
            }
        }
        chunk.invalid().iter().for_each(|b| out.push_str(&format!("\\x{b:02x}")));
    }
    out
}
