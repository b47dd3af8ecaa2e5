//! `fim alert`: try the ways out, and see what waits for them.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use jiff::Zoned;
use serde_json::json;

use super::REPORT;
use crate::config::{AlertConfig, Config};
use crate::core::route::Share;
use crate::daemon::host;
use crate::sink::alert::message::Message;
use crate::sink::alert::plan::lanes;
use crate::sink::alert::queue::{Waiting, queue};
use crate::sink::alert::{Channel, Transport};
use crate::sink::line::printable;
use crate::store::status::Status;
use crate::store::{Store, StoreError};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send a real message to every receiver and show what the other side answered; 1 when one did not take it
    Test {
        /// Only through this alert
        #[arg(value_name = "ALERT")]
        route: Option<String>,
    },
    /// Show what waits for each receiver, and why
    Queue,
}

pub fn run(config: &Config, command: &Command, json: bool) -> anyhow::Result<ExitCode> {
    match command {
        Command::Test { route } => test(config, route.as_deref(), json),
        Command::Queue => show_queue(config, json),
    }
}

fn test(config: &Config, route: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let alerts = chosen(config, route)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the threads for sending cannot be started; raise the limits on processes and memory")?;
    let mut out = io::stdout().lock();
    let mut all = true;
    for alert in alerts {
        // Critical records go to the same receivers.
        for plan in lanes(alert, &|_| false).iter().filter(|plan| plan.share != Share::Critical) {
            let answer = runtime.block_on(send(alert, plan.to.as_deref()));
            all &= answer.is_ok();
            let (ok, said) = match &answer {
                Ok(said) => (true, said),
                Err(said) => (false, said),
            };
            if json {
                writeln!(out, "{}", json!({ "lane": plan.name, "taken": ok, "answer": said }))?;
            } else {
                let how = if ok { "taken" } else { "NOT taken" };
                writeln!(out, "{}: {how}: {}", printable(&plan.name), printable(said))?;
            }
            out.flush()?;
        }
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(REPORT) })
}

fn chosen<'a>(config: &'a Config, route: Option<&str>) -> anyhow::Result<Vec<&'a AlertConfig>> {
    let file = crate::core::path::display(&config.file);
    if config.alerts.is_empty() {
        bail!("{file} has no [[alert]]; docs/alerts.md shows how to add one");
    }
    let Some(route) = route else { return Ok(config.alerts.iter().collect()) };
    match config.alerts.iter().find(|alert| alert.name == route) {
        Some(alert) => Ok(vec![alert]),
        None => {
            let known: Vec<&str> = config.alerts.iter().map(|alert| alert.name.as_str()).collect();
            bail!("{file} has no [[alert]] called {route:?}; there are {}", known.join(", "))
        }
    }
}

async fn send(alert: &AlertConfig, to: Option<&str>) -> Result<String, String> {
    let mut channel = Channel::open(alert, to).map_err(|e| e.to_string())?;
    let time = format!("{:.6}", jiff::Timestamp::now());
    let message = Message::test(&alert.name, &host(), time);
    channel.send(&message).await.map_err(|fault| fault.to_string())
}

fn show_queue(config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let dir = &config.state.dir;
    let store = Store::open_read_only(dir)?;
    let running =
        Status::read(dir).map_err(|source| StoreError::dir(dir, source))?.is_some_and(|s| s.is_alive());
    let mut out = io::stdout().lock();
    for waiting in queue(config, &store, &Zoned::now())? {
        match json {
            true => writeln!(out, "{}", serde_json::to_string(&waiting)?)?,
            false => writeln!(out, "{}", line(&waiting))?,
        }
    }
    if !running && !json {
        writeln!(out, "fim is not running: nothing is sent until `fim run`")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn line(waiting: &Waiting) -> String {
    let mut line = format!("{}: {} waiting", printable(&waiting.lane), waiting.pending);
    if let Some(oldest) = &waiting.oldest {
        line.push_str(&format!(", the first is {} of {}", oldest.seq, oldest.time));
    }
    if let Some(why) = &waiting.why {
        line.push_str(&format!("; {}", printable(why)));
    }
    if waiting.parked > 0 {
        let reason = waiting.parked_reason.as_deref().unwrap_or("no reason given");
        line.push_str(&format!("; {} refused for good ({})", waiting.parked, printable(reason)));
    }
    line
}
