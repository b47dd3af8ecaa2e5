//! `fim run`: the daemon in the foreground, as a service or by hand.

use std::collections::HashMap;
use std::io::Write;
use std::process::ExitCode;

use super::log::user_name;
use crate::config::Config;
use crate::core::event::Record;
use crate::sink::line;

/// Prints one line `ready` when changes from then on are certain to be caught, and one for each record.
pub fn run(config: &Config, as_json: bool) -> anyhow::Result<ExitCode> {
    log_to();
    let mut names = HashMap::new();
    let print = move |records: &[Record]| {
        let mut out = std::io::stdout().lock();
        for record in records {
            let text = if as_json {
                serde_json::to_string(record).unwrap_or_default()
            } else {
                line::line(record, &mut |uid| names.entry(uid).or_insert_with(|| user_name(uid)).clone())
            };
            // A closed standard output must not stop the daemon: the ledger has it all.
            let _ = writeln!(out, "{text}");
        }
        let _ = out.flush();
    };
    let ready = || {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "ready").and_then(|()| out.flush());
        // Without systemd there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    };
    crate::daemon::run(config, Box::new(print), ready)
}

/// The daemon's own words go to the journal when systemd started it, else to standard error.
fn log_to() {
    use tracing_subscriber::prelude::*;
    let level = tracing_subscriber::filter::LevelFilter::INFO;
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let plain = journal.is_none().then(|| {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_target(false)
            .without_time()
            .with_ansi(false)
    });
    // Fails only when a logger is there already, which then stays.
    let _ = tracing_subscriber::registry().with(level).with(journal).with(plain).try_init();
}
