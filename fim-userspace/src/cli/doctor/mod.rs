//! `fim doctor`: what this kernel and these file systems let fim see, how fim fares, and what would make it better.
//!
//! Each room looks at one side; what it cannot see for want of rights it says in [`Findings::unseen`].

mod advice;
mod host;
mod kernel;
mod print;
mod state;
mod watches;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::{FAILED, REPORT};
use crate::config::{Config, ConfigError, TierChoice};

/// What is printed with `--json`. `null`: not known, or could not be seen.
#[derive(Serialize)]
struct Findings {
    config: ConfigFinding,
    kernel: kernel::Kernel,
    tier: kernel::TierFinding,
    /// Of the running daemon, or else of a trial.
    hooks: Vec<kernel::HookFinding>,
    watches: Vec<watches::WatchFinding>,
    #[serde(flatten)]
    host: host::Host,
    daemon: Option<state::Daemon>,
    database: Option<state::Database>,
    vault: Option<state::VaultFinding>,
    sinks: Vec<state::Sink>,
    #[serde(flatten)]
    notes: Notes,
}

#[derive(Serialize)]
struct ConfigFinding {
    file: String,
    /// Whether it could be read and is sound.
    sound: bool,
}

/// What there is to say at the end.
#[derive(Default, Serialize)]
struct Notes {
    /// Each one sentence that says what to do.
    problems: Vec<String>,
    /// What could not be looked at, and why.
    unseen: Vec<String>,
}

impl Notes {
    fn problem(&mut self, sentence: impl Into<String>) {
        let sentence = sentence.into();
        if !self.problems.contains(&sentence) {
            self.problems.push(sentence);
        }
    }

    fn unseen(&mut self, sentence: impl Into<String>) {
        self.unseen.push(sentence.into());
    }

    fn code(&self) -> u8 {
        match (self.unseen.is_empty(), self.problems.is_empty()) {
            (false, _) => FAILED,
            (true, false) => REPORT,
            (true, true) => 0,
        }
    }
}

pub fn run(file: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let findings = examine(file);
    let mut out = io::stdout().lock();
    match as_json {
        true => writeln!(out, "{}", serde_json::to_string(&findings)?)?,
        false => out.write_all(print::text(&findings).as_bytes())?,
    }
    out.flush()?;
    if let Some(first) = findings.notes.unseen.first() {
        eprintln!("fim: not everything could be looked at: {first}");
    }
    Ok(ExitCode::from(findings.notes.code()))
}

fn examine(file: &Path) -> Findings {
    let mut notes = Notes::default();
    let config = match Config::load(file) {
        Ok(config) => Some(config),
        // Who may not read it has done nothing wrong.
        Err(error @ ConfigError::Unreadable { .. }) => {
            notes.unseen(error.to_string());
            None
        }
        Err(error) => {
            notes.problem(error.to_string());
            None
        }
    };
    let root = crate::daemon::require_privilege("look at the kernel, at watched file systems and at records");
    let root = root.inspect_err(|sentence| notes.unseen(sentence.to_string())).is_ok();
    let state = state::look(config.as_ref(), &mut notes);
    let choice = config.as_ref().map_or(TierChoice::Auto, |config| config.sensor.tier);
    let live = state.live.as_ref();
    let pid = live.map(|status| status.pid);
    let host = host::Host::look(config.as_ref(), pid, root, &mut notes);
    let kernel = kernel::Kernel::look();
    let asked = kernel::Asked { choice, file, missing: host.capabilities.as_ref() };
    let (tier, hooks) = kernel::tiers(&kernel, live, &asked, root, &mut notes);
    let watched = config.as_ref().filter(|_| root).map(|config| watches::look(config, &tier, &mut notes));
    Findings {
        config: ConfigFinding { file: crate::core::path::display(file), sound: config.is_some() },
        kernel,
        tier,
        hooks,
        watches: watched.unwrap_or_default(),
        host,
        daemon: state.daemon,
        database: state.database,
        vault: state.vault,
        sinks: state.sinks,
        notes,
    }
}

#[cfg(test)]
mod tests;
