//! `fim quarantine show`.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;

use super::{abs, find};
use crate::cli::log::user_name;
use crate::cli::render::{describe, visible};
use crate::config::Config;
use crate::control::AbsPath;
use crate::core::event::rfc3339;
use crate::core::linediff::is_binary;
use crate::core::path::escape;
use crate::sink::line;
use crate::store::vault::Vault;
use crate::store::{Held, Store};

/// How much of a text is shown.
const LINES: usize = 40;
const LONGEST: u64 = 1 << 20;

/// `content`: the first lines are wanted; `secret`: those of a secret file too.
pub fn run(
    config: &Config,
    id: i64,
    (content, secret): (bool, bool),
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let store = Store::open_read_only(&config.state.dir)?;
    let vault = Vault::open(&config.state.dir.join("vault"))?;
    let tree = find(&store, id)?;
    let mut out = io::stdout().lock();
    for held in &tree.0 {
        let record = store.record(held.seq)?;
        let masked = !secret && config.secrets.cover(&held.path.below(&held.watch));
        let text = content.then(|| match masked {
            true => vec!["(secret; --secret shows it)".to_owned()],
            false => first_lines(&vault, held),
        });
        if as_json {
            let line = json!({
                "id": held.id,
                "seq": held.seq,
                "path": AbsPath(abs(held)),
                "reason": held.reason.as_str(),
                "fate": held.fate.map(|f| f.as_str()),
                "fate_time": held.fate_time,
                "state": held.found.entry,
                "event": record,
                "content": text,
            });
            writeln!(out, "{line}")?;
            continue;
        }
        writeln!(out, "{} {}", held.id, escape(&abs(held)))?;
        let entry = &held.found.entry;
        writeln!(out, "  what     {}", describe(entry))?;
        if let Some(digest) = held.digest {
            writeln!(out, "  sha256   {digest}")?;
        }
        writeln!(out, "  changed  {}", rfc3339(entry.mtime_ns))?;
        for (name, value) in &entry.xattrs.0 {
            writeln!(out, "  xattr    {} = \"{}\"", escape(&name.0), escape(&value.0))?;
        }
        writeln!(out, "  reason   {}", held.reason.as_str())?;
        if let Some(fate) = held.fate {
            writeln!(out, "  fate     {} {}", fate.as_str(), held.fate_time.as_deref().unwrap_or_default())?;
        }
        if let Some(record) = record {
            writeln!(out, "  event    {} ({})", record.seq, record.id)?;
            writeln!(out, "           {}", line::line(&record, &mut user_name))?;
        }
        for line in text.into_iter().flatten() {
            writeln!(out, "  | {line}")?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The beginning of a text, safe for a terminal; for anything else a sentence.
fn first_lines(vault: &Vault, held: &Held) -> Vec<String> {
    let Some(digest) = held.digest else { return vec!["(no content)".into()] };
    if held.found.entry.size > LONGEST {
        return vec![format!("({} bytes, too long to be shown)", held.found.entry.size)];
    }
    let content = match vault.read(&digest) {
        Ok(content) if is_binary(&content) => return vec!["(binary)".into()],
        Ok(content) => content,
        Err(error) => return vec![format!("({})", line::printable(&error.to_string()))],
    };
    let lines: Vec<&[u8]> = content.split_inclusive(|b| *b == b'\n').collect();
    let shown = |line: &&[u8]| visible(line.strip_suffix(b"\n").unwrap_or(line));
    let mut out: Vec<String> = lines.iter().take(LINES).map(shown).collect();
    if lines.len() > LINES {
        out.push(format!("({} more lines)", lines.len() - LINES));
    }
    out
}
