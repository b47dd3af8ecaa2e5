//! `fim run`: the daemon in the foreground, as a service or by hand.

use std::io::Write;
use std::process::ExitCode;

use crate::config::Config;
use crate::core::event::Record;
use crate::sink::line;

/// Prints one line `ready` when changes from then on are certain to be caught, and one for each record.
pub fn run(config: &Config, as_json: bool) -> anyhow::Result<ExitCode> {
    let print = move |records: &[Record]| {
        let mut out = std::io::stdout().lock();
        for record in records {
            let text = if as_json {
                serde_json::to_string(record).unwrap_or_default()
            } else {
                line::line(record, &mut |uid| None::<String>.filter(|_| uid > 0))
            };
            // A closed standard output must not stop the daemon: the ledger has it all.
            let _ = writeln!(out, "{text}");
        }
        let _ = out.flush();
    };
    let ready = || {
        println!("ready");
        let _ = std::io::stdout().flush();
        // Without systemd there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    };
    crate::daemon::run(config, Box::new(print), ready)
}
