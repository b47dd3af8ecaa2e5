//! One copy out of the vault into a file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::json;

use super::open;
use crate::cli::output::{Output, Taken};
use crate::config::Config;
use crate::core::entry::Digest;
use crate::core::path::display;
use crate::core::size::show;
use crate::store::Store;
use crate::store::vault::Vault;
use crate::store::versions::choose;

/// So much of a digest must be given at least.
const PREFIX: usize = 8;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A digest (its first 8 digits at least), or a path whose copy is wanted
    #[arg(value_name = "DIGEST|PATH")]
    what: PathBuf,
    /// Which copy of a path: its number or digest in `fim vault versions`; without it the approved one
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Where to write it. The content may be hostile: it gets mode 0600 and is never executable
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Replace FILE if there is one; a link is replaced itself, not what it points to
    #[arg(long)]
    force: bool,
    /// Also what secret files say: keys, passwords
    #[arg(long)]
    secret: bool,
}

pub fn run(config: &Config, args: &Args, json: bool, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let (store, vault) = open(config)?;
    let digest = find(&store, &vault, args)?;
    // The same content may lie under several paths.
    let copies = store.paths_of(&digest)?;
    let hidden =
        copies.iter().map(|copy| copy.path.below(&copy.watch)).find(|path| config.secrets.cover(path));
    if let Some(path) = hidden.filter(|_| !args.secret) {
        bail!("{} is secret; add --secret to have it written all the same", display(&path));
    }
    let size = write(&vault, &digest, &args.to, args.force)?;
    let to = display(&args.to);
    if json {
        writeln!(out, "{}", json!({"sha256": digest.to_string(), "size": size, "to": to}))?;
    } else {
        writeln!(out, "{digest} ({}) written to {to}", show(size))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn find(store: &Store, vault: &Vault, args: &Args) -> anyhow::Result<Digest> {
    if let Some(prefix) = as_prefix(&args.what) {
        if args.version.is_some() {
            bail!("--version chooses among the copies of a path, and a digest is one already; leave it out");
        }
        let mut found: Vec<Digest> = vault.find(&prefix)?.into_iter().map(|object| object.digest).collect();
        found.dedup();
        return match found[..] {
            [digest] => Ok(digest),
            [] => bail!("the vault holds no object {prefix}; see `fim vault list`"),
            _ => bail!("{} objects begin with {prefix}; write more of the digest", found.len()),
        };
    }
    let path = std::path::absolute(&args.what).context("the working directory cannot be had")?;
    let copies = store.copies_at(&path)?;
    let copy = choose(&copies, args.version.as_deref()).with_context(|| display(&path))?;
    Ok(copy.sha256)
}

/// Hexadecimal digits alone are a digest; a file of such a name is `./deadbeef`.
fn as_prefix(what: &Path) -> Option<String> {
    let text = what.to_str()?;
    let hex = (PREFIX..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| text.to_lowercase())
}

/// A damaged object leaves nothing.
fn write(vault: &Vault, digest: &Digest, to: &Path, force: bool) -> anyhow::Result<u64> {
    let mut out = Output::beside(to, if force { Taken::FileOrLink } else { Taken::Nothing })?;
    let size = vault.copy_to(digest, &mut out.file)?;
    out.finish().with_context(|| format!("{} cannot be written", display(to)))?;
    Ok(size)
}
