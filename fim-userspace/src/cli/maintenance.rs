//! `fim maintenance`: a time in which changes are meant to be.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use serde_json::json;

use super::order;
use crate::config::{Config, parse_duration};
use crate::control::{Act, Maintain};
use crate::core::path::display;
use crate::daemon::window_left;
use crate::sink::line::printable;
use crate::store::{Store, StoreError};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Open a window: what changes from now on is authorised, recorded under its number and approved
    Start {
        /// How long; it ends by itself
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        length: Duration,
        /// What is going to be done, for the records
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Only in this watch; may be given several times
        #[arg(long, value_name = "PATH")]
        watch: Vec<std::path::PathBuf>,
    },
    /// Close it before its time
    Stop {
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Show whether one is open, until when, by whom and why
    Status,
}

fn duration(text: &str) -> Result<Duration, String> {
    let length = parse_duration(text).filter(|length| *length >= Duration::from_secs(1));
    length.ok_or_else(|| "write for example 30m, 2h or 1h30m; 7d at most".to_owned())
}

/// Exit codes: 0; 2 where it could not be done.
pub fn run(config: &Config, command: &Command, as_json: bool) -> anyhow::Result<ExitCode> {
    let wish = match command {
        Command::Status => return status(config, as_json),
        Command::Start { length, reason, watch } => {
            if reason.trim().is_empty() {
                bail!("--reason is empty; say what is going to be done");
            }
            let tidy =
                |path: &std::path::PathBuf| display(&path.components().collect::<std::path::PathBuf>());
            let watches = watch.iter().map(tidy).collect();
            Maintain::Start { seconds: length.as_secs(), reason: reason.clone(), watches }
        }
        Command::Stop { reason } => Maintain::Stop { reason: reason.clone() },
    };
    order::give(config, vec![Act::Maintain(wish)], as_json)
}

fn status(config: &Config, as_json: bool) -> anyhow::Result<ExitCode> {
    crate::daemon::require_privilege("read the records")?;
    let window = match Store::open_read_only(&config.state.dir) {
        Ok(store) => store.window_open()?,
        Err(StoreError::Absent(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let left = window.as_ref().map(window_left).transpose()?;
    match (&window, as_json) {
        (_, true) => {
            let left = left.map(|(left, _)| left.as_secs());
            let ends = window.as_ref().map(|window| window.ends());
            println!("{}", json!({ "window": window, "ends": ends, "seconds_left": left }));
        }
        (Some(window), false) => {
            let left = left.map(|(_, text)| text).unwrap_or_default();
            let place =
                if window.watches.is_empty() { "all watches".into() } else { window.watches.join(", ") };
            println!(
                "maintenance window {} is open for {place}, until {} ({left})",
                window.id,
                window.ends()
            );
            println!("  {}", printable(&window.opened_by));
        }
        (None, false) => println!("no maintenance window is open"),
    }
    Ok(ExitCode::SUCCESS)
}
