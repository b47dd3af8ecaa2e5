//! `fim init`: the present state becomes the baseline.

use std::process::ExitCode;

use serde_json::json;

use crate::config::Config;
use crate::daemon::take::take;

pub fn run(config: &Config, replace: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    crate::daemon::require_privilege("read every watched file")?;
    let mut complete = true;
    for approved in take(config, replace)? {
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
    super::seal::set_up_once(config, as_json)?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
