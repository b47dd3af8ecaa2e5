//! `fim run`: the daemon in the foreground, as a service or by hand.

use std::collections::HashMap;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::Sender;

use super::log::user_name;
use crate::config::Config;
use crate::core::event::Record;
use crate::daemon::{Notice, Start};
use crate::metrics::Metrics;
use crate::sink::line::{self, printable};

/// Batches of records that may wait for the printer.
const WAITING: usize = 1024;

/// Prints one line `ready` when changes from then on are certain to be caught, and one for each record.
///
/// With `dry_run` nothing is carried out, whatever the configuration says.
pub fn run(config: &Config, dry_run: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    log_to();
    crate::sys::memory::by_small_pages();
    crate::daemon::require_privilege("watch and restore files")?;
    // Before there is any other thread: each has its own.
    crate::daemon::reduce_privileges()?;
    let metrics = Metrics::new()?;
    let reader = super::ask::reader(&config.file);
    let _readers = crate::daemon::control::offer(&config.control, reader, metrics.clone())
        .inspect_err(|e| tracing::error!("{}", super::sentence(e)));
    let (lines, printer) = printer(as_json)?;
    let mut unprinted = 0;
    let print = move |records: &[Record]| {
        // A terminal that stands still must not stop the daemon: the ledger has it all.
        match lines.try_send((records.to_vec(), unprinted)) {
            Ok(()) => unprinted = 0,
            Err(_) => unprinted += records.len(),
        }
    };
    let watchdog = sd_notify::watchdog_enabled();
    let start = Start { dry_run, watchdog, tell: Arc::new(told), metrics };
    let ended = crate::daemon::run(config, start, Box::new(print));
    // What is still under way to a reader that reads is printed.
    for _ in 0..20 {
        if printer.is_finished() {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    ended
}

/// Passes on what the daemon says, to who reads standard output and to systemd; without systemd there is nobody to tell.
fn told(notice: Notice<'_>) {
    use sd_notify::NotifyState as State;
    let say = |word: &str| {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{word}").and_then(|()| out.flush());
    };
    let notify = |states: &[State<'_>]| drop(sd_notify::notify(states));
    match notice {
        Notice::Ready => {
            say("ready");
            notify(&[State::Ready, State::Status("watching")]);
        }
        Notice::Reloading => match State::monotonic_usec_now() {
            Ok(now) => notify(&[State::Reloading, now, State::Status("reloading the configuration")]),
            Err(error) => tracing::warn!("systemd cannot be told of the reload ({error})"),
        },
        Notice::Reloaded => {
            say("reloaded");
            notify(&[State::Ready, State::Status("watching, by a reloaded configuration")]);
        }
        Notice::Unchanged => notify(&[State::Ready, State::Status("watching")]),
        Notice::Refused(sentence) => {
            tracing::error!("{}", printable(sentence));
            notify(&[
                State::Ready,
                State::Status("watching by the old configuration: the new one was refused"),
            ]);
        }
        Notice::Alive => notify(&[State::Watchdog]),
        Notice::Stopping => notify(&[State::Stopping]),
    }
}

type Lines = Sender<(Vec<Record>, usize)>;

/// A thread that prints records, and how many before them it was too slow for.
fn printer(as_json: bool) -> anyhow::Result<(Lines, JoinHandle<()>)> {
    let (sender, receiver) = crossbeam_channel::bounded::<(Vec<Record>, usize)>(WAITING);
    let thread = std::thread::Builder::new()
        .name("fim-print".into())
        .spawn(move || {
            let mut names = HashMap::new();
            for (records, skipped) in receiver {
                let mut out = std::io::stdout().lock();
                if skipped > 0 && !as_json {
                    let _ = writeln!(out, "({skipped} records were not printed; see `fim log`)");
                }
                // One path's thousandth change is told by the record that closes the muted time.
                for record in records.iter().filter(|r| !r.event.muted) {
                    let text = if as_json {
                        serde_json::to_string(record).unwrap_or_default()
                    } else {
                        line::line(record, &mut |uid| {
                            names.entry(uid).or_insert_with(|| user_name(uid)).clone()
                        })
                    };
                    // Closed, nobody reads it: the ledger has it all.
                    let _ = writeln!(out, "{text}");
                }
                let _ = out.flush();
            }
        })
        .context("the printing thread cannot be started; raise the limits on processes and memory")?;
    Ok((sender, thread))
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
