//! `fim vault`: the kept copies. All but `prune` only read, and work beside a running daemon.

mod export;
mod prune;
#[cfg(test)]
mod tests;
mod verify;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use serde_json::json;

use crate::config::Config;
use crate::core::event::rfc3339;
use crate::core::path::display;
use crate::core::size::show;
use crate::store::Store;
use crate::store::vault::Vault;
use crate::store::versions::Copy;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Read every object and compare it with its digest; 1 when one is damaged or missing
    Verify,
    /// List every object with its size and who needs it
    List,
    /// List every copy of a path: the approved one, former ones, and evidence
    Versions {
        #[arg(value_name = "PATH")]
        path: PathBuf,
    },
    /// Write one copy to a file, readable by its owner only
    Export(export::Args),
    /// Remove what is too old or too much; never what the present baseline needs
    Prune(prune::Args),
}

pub fn run(config: &Config, args: &Args, json: bool) -> anyhow::Result<ExitCode> {
    crate::daemon::require_privilege("read the vault")?;
    let mut out = BufWriter::new(io::stdout().lock());
    let code = match &args.command {
        Action::Verify => verify::run(config, json, &mut out)?,
        Action::List => list(config, json, &mut out)?,
        Action::Versions { path } => versions(config, path, json, &mut out)?,
        Action::Export(args) => export::run(config, args, json, &mut out)?,
        Action::Prune(args) => prune::run(config, args, json, &mut out)?,
    };
    out.flush()?;
    Ok(code)
}

/// The database and the vault as they are; nothing is made.
fn open(config: &Config) -> anyhow::Result<(Store, Vault)> {
    let store = Store::open_read_only(&config.state.dir)?;
    let vault = Vault::open_existing(&config.state.dir.join("vault"))?;
    Ok((store, vault))
}

fn list(config: &Config, json: bool, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let (store, vault) = open(config)?;
    let references = store.references()?;
    let (mut count, mut bytes) = (0, 0);
    for object in vault.objects()? {
        let refs = references.get(&object.digest).cloned().unwrap_or_default();
        (count, bytes) = (count + 1, bytes + object.size);
        if json {
            let line = json!({
                "sha256": object.digest.to_string(),
                "form": object.form.as_str(),
                "size": object.size,
                "stored": rfc3339(object.stored_ns),
                "baseline": refs.baseline,
                "former": refs.former,
                "evidence": refs.evidence,
                "newest": refs.newest,
            });
            writeln!(out, "{line}")?;
            continue;
        }
        let needs = [(refs.baseline, "approved"), (refs.former, "former"), (refs.evidence, "evidence")];
        let needs: Vec<String> =
            needs.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        let needs = if needs.is_empty() { "nobody's".into() } else { needs.join(", ") };
        writeln!(out, "{}  {:>10}  {needs}", object.digest, show(object.size))?;
    }
    if !json {
        writeln!(out, "{count} objects, {}", show(bytes))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn versions(config: &Config, path: &Path, json: bool, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let (store, vault) = open(config)?;
    let path = std::path::absolute(path).context("the working directory cannot be had")?;
    let copies = store.copies_at(&path)?;
    for (number, copy) in (1..).zip(&copies) {
        let there = vault.contains(&copy.sha256);
        let event = match copy.seq {
            Some(seq) => store.ledger_after(seq.saturating_sub(1), 1)?.pop().map(|record| record.id),
            None => None,
        };
        if json {
            let line = json!({
                "path": display(&path),
                "number": number,
                "time": copy.time,
                "sha256": copy.sha256.to_string(),
                "size": copy.size,
                "reason": copy.reason,
                "seq": copy.seq,
                "event": event,
                "evidence": copy.evidence,
                "kept": there,
            });
            writeln!(out, "{line}")?;
            continue;
        }
        let time = copy.time.as_deref().unwrap_or("unknown time");
        let event = event.map_or(String::new(), |id| format!("  event {id}"));
        let gone = if there { "" } else { "  (content not kept)" };
        let (digest, size) = (copy.sha256, show(copy.size));
        writeln!(out, "{number:>3}  {time}  {digest}  {size:>10}  {}{event}{gone}", copy.reason)?;
    }
    if copies.is_empty() {
        if !json {
            writeln!(out, "there is no copy of {}", display(&path))?;
        }
        return Ok(ExitCode::from(super::REPORT));
    }
    Ok(ExitCode::SUCCESS)
}

/// The absolute path that a copy belongs to, escaped.
fn place(copy: &Copy) -> String {
    display(&copy.path.below(&copy.watch))
}
