//! `fim config`: what is in force, and whether a file could be.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use super::REPORT;
use crate::config::{Config, ConfigError, show};
use crate::core::path::display;
use crate::sink::line::printable;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print the configuration with every default filled in; secrets and what may hold one are left out
    Show,
    /// Say whether the configuration is sound, without using it; 1 when there is a mistake
    Check,
}

/// As the daemon reads it at its start.
pub fn check(file: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let config = match Config::load(file) {
        Ok(config) => Ok(config),
        Err(error @ (ConfigError::Missing(_) | ConfigError::Unreadable { .. })) => return Err(error.into()),
        Err(mistake) => Err(mistake.to_string()),
    };
    let problems = match &config {
        Ok(config) => config.watches.iter().filter_map(|watch| missing(&watch.path)).collect(),
        Err(mistake) => vec![mistake.clone()],
    };
    let watches = config.map_or(0, |config| config.watches.len());
    let mut out = io::stdout().lock();
    let sound = problems.is_empty();
    if json {
        let told = json!({ "file": display(file), "sound": sound, "watches": watches, "problems": problems });
        writeln!(out, "{told}")?;
    } else if sound {
        writeln!(out, "{} is sound: {watches} watches", display(file))?;
    }
    out.flush()?;
    if !json {
        problems.iter().for_each(|problem| eprintln!("fim: {}", printable(problem)));
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(REPORT) })
}

/// The daemon would not start.
fn missing(watch: &Path) -> Option<String> {
    let gone = watch.metadata().is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
    gone.then(|| {
        format!("there is no {}; create it, correct `path`, or remove the [[watch]]", display(watch))
    })
}

pub fn run(config: &Config, command: &Command, json: bool) -> anyhow::Result<ExitCode> {
    if matches!(command, Command::Check) {
        return check(&config.file, json);
    }
    let file = &config.file;
    let changed = || format!("{} was changed just now; run this again", display(file));
    let text = std::fs::read_to_string(file).with_context(changed)?;
    let shown = show::effective(config, &text).with_context(changed)?;
    let mut out = io::stdout().lock();
    match json {
        true => writeln!(out, "{}", serde_json::to_string(&shown)?)?,
        false => write!(out, "{}", toml::to_string(&shown)?)?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
