//! `fim restore`: the approved version is put back now; with `--version`, another becomes the approved one.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;

use super::order::give;
use super::versions;
use super::view::View;
use crate::config::Config;
use crate::control::{AbsPath, Act, Approve, Way};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Make this version the approved one: the number of an event, or the beginning of a SHA-256
    #[arg(long, value_name = "SEQ|DIGEST")]
    version: Option<String>,
    /// With everything below; what is not approved is left as it is
    #[arg(short, long)]
    recursive: bool,
    /// Why; kept in the ledger
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub fn run(config: &Config, args: &Args, as_json: bool) -> anyhow::Result<ExitCode> {
    let view = View::open(config)?;
    if args.version.is_some() && args.recursive {
        bail!("--version names one version of one file; leave out --recursive");
    }
    let (mut back, mut other, mut unapproved) = (Vec::new(), Vec::new(), 0u64);
    for path in &args.paths {
        let (watch, rel) = view.locate(path)?;
        let own = AbsPath(watch.absolute(&rel));
        if let Some(text) = &args.version {
            match versions::find(&view, &watch, &rel, text)?.version {
                Some(version) => other.push(Approve { path: own, version, recursive: false }),
                None => back.push(own),
            }
        } else if args.recursive {
            for difference in view.below(&watch, &rel)? {
                match difference.change.before {
                    Some(_) => back.push(difference.absolute()),
                    None => unapproved += 1,
                }
            }
        } else {
            view.one(&watch, &rel)?;
            back.push(own);
        }
    }
    back.sort();
    if unapproved > 0 {
        eprintln!("fim: {unapproved} names below are not approved and are left as they are; see `fim diff`");
    }
    if back.is_empty() && other.is_empty() {
        if !as_json {
            println!("nothing differs from what is approved");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let reason = || args.reason.clone();
    let restore = Act::Restore { paths: back, reason: reason() };
    let approve = Act::Approve { items: other, way: Way::Restore, reason: reason() };
    give(config, vec![restore, approve], as_json)
}
