//! `fim init`: the present state becomes the baseline.

use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::progress::{self, At, Unit};
use crate::config::Config;
use crate::daemon::estimate;
use crate::daemon::newcomer::take_missing;
use crate::daemon::take::{Approved, take_telling};
use crate::sensor::scan::ScanProgress;

/// `replace` the baseline that is there, or take only what is `missing`.
pub fn run(config: &Config, (replace, missing): (bool, bool), as_json: bool) -> anyhow::Result<ExitCode> {
    crate::daemon::require_privilege("read every watched file")?;
    let mut complete = true;
    let taken =
        if missing { take_missing(config, &ScanProgress::default()) } else { take_shown(config, replace) };
    for approved in taken? {
        complete &= approved.unreadable.is_empty();
        if as_json {
            let line = json!({
                "watch": approved.watch,
                "entries": approved.entries,
                "kept": approved.kept,
                "bytes": approved.bytes,
                "too_large": approved.too_large,
                "unreadable": approved.unreadable,
            });
            println!("{line}");
            continue;
        }
        println!(
            "{}: {} entries approved, the content of {} files ({} bytes) kept",
            approved.watch, approved.entries, approved.kept, approved.bytes
        );
        if approved.too_large > 0 {
            println!(
                "  {} files are larger than max_file_size: watched, but not restorable",
                approved.too_large
            );
        }
        for sentence in approved.unreadable {
            eprintln!("fim: not in the baseline: {sentence}");
        }
    }
    // A service takes what is missing: its output goes to the journal, where the key of the seals must not stand.
    if !missing {
        super::seal::set_up_once(config, as_json)?;
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// How much there is to read is counted beside the reading, which takes longer.
fn take_shown(config: &Config, replace: bool) -> anyhow::Result<Vec<Approved>> {
    let read = ScanProgress::default();
    if !progress::wanted() {
        return take_telling(config, replace, &read);
    }
    let (total, enough) = (OnceLock::new(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| estimate::all(&config.watches, &enough).map(|bytes| total.set(bytes)));
        let at = || At { done: read.bytes.load(Ordering::Relaxed), total: total.get().copied() };
        let taken = progress::shown("approving", Unit::Bytes, &at, || take_telling(config, replace, &read));
        enough.store(true, Ordering::Relaxed);
        taken
    })
}
