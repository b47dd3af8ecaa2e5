//! `fim config`: what is in force.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;

use crate::config::{Config, show};
use crate::core::path::display;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print the configuration with every default filled in; secrets and what may hold one are left out
    Show,
}

pub fn run(config: &Config, command: &Command, json: bool) -> anyhow::Result<ExitCode> {
    let Command::Show = command;
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
