//! `fim diff`: what is approved against what is there, attribute by attribute and line by line.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::render::{self, Names, Paint, Shown};
use super::view::{Difference, View};
use super::{REPORT, versions};
use crate::config::Config;
use crate::core::change::compare;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files or folders; a folder stands for everything below it
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Compare this version with what is there: the number of an event, or the beginning of a SHA-256
    #[arg(long, value_name = "SEQ|DIGEST")]
    version: Option<String>,
    /// Also what secret files say: keys, passwords
    #[arg(long)]
    secret: bool,
}

/// Exit codes: 0 nothing differs, 1 something does.
pub fn run(config: &Config, args: &Args, as_json: bool) -> anyhow::Result<ExitCode> {
    let view = View::open(config)?.revealing(args.secret);
    let (mut out, paint) = (io::stdout().lock(), Paint::for_stdout());
    let mut differs = false;
    for path in &args.paths {
        let (watch, rel) = view.locate(path)?;
        let (differences, old) = match &args.version {
            Some(text) => {
                let known = versions::find(&view, &watch, &rel, text)?;
                let now = view.present(&watch, &rel)?;
                let change = compare(&rel, Some(&known.entry), now.as_ref());
                let differences: Vec<Difference> =
                    change.map(|change| Difference { watch, change }).into_iter().collect();
                (differences, "that version")
            }
            None => {
                let own = view.one(&watch, &rel)?;
                let below = view.below(&watch, &rel)?;
                (if below.is_empty() { own.into_iter().collect() } else { below }, "approved")
            }
        };
        for difference in &differences {
            differs = true;
            let shown: Shown = render::against_present(&view, difference)?;
            if as_json {
                writeln!(out, "{}", render::as_json(difference, &shown))?;
            } else {
                render::print(&mut out, paint, difference, &shown, Names { old, new: "present" })?;
            }
        }
    }
    out.flush()?;
    Ok(if differs { ExitCode::from(REPORT) } else { ExitCode::SUCCESS })
}
