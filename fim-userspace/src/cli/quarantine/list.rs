//! `fim quarantine list`.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::json;

use super::{Tree, abs, trees};
use crate::control::AbsPath;
use crate::core::entry::FileType;
use crate::core::path::escape;
use crate::sink::line::printable;
use crate::store::Store;

pub fn run(store: &Store, all: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    let trees = trees(store, all)?;
    let mut out = io::stdout().lock();
    if !as_json {
        match trees.is_empty() {
            true => writeln!(out, "nothing is in quarantine")?,
            false => writeln!(
                out,
                "{:>6}  {:<19}  {:<11}  {:>5}  {:>10}  PATH",
                "ID", "TIME (UTC)", "REASON", "FILES", "BYTES"
            )?,
        }
    }
    for tree in &trees {
        one(store, tree, as_json, &mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn one(store: &Store, tree: &Tree, as_json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let Some(top) = tree.top() else { return Ok(()) };
    let bytes: u64 = tree.0.iter().map(|held| held.found.entry.size).sum();
    let record = store.record(top.seq)?;
    if as_json {
        let line = json!({
            "id": top.id,
            "seq": top.seq,
            "event": record.as_ref().map(|r| &r.id),
            "time": top.time,
            "path": AbsPath(abs(top)),
            "type": top.found.entry.kind,
            "reason": top.reason.as_str(),
            "files": tree.0.len(),
            "bytes": bytes,
            "sha256": top.digest,
            "fate": top.fate.map(|f| f.as_str()),
            "fate_time": top.fate_time,
            "actor": record.and_then(|r| r.event.actor),
        });
        writeln!(out, "{line}")?;
        return Ok(());
    }
    let time = top.time.get(..19).unwrap_or(&top.time).replace('T', " ");
    let kind = match top.found.entry.kind {
        FileType::Regular => "",
        FileType::Directory => "/",
        FileType::Symlink => " (symlink)",
        FileType::Fifo => " (fifo)",
        FileType::Socket => " (socket)",
        FileType::CharDevice | FileType::BlockDevice => " (device)",
    };
    let who = record
        .and_then(|r| r.event.actor)
        .and_then(|a| a.exe.or(a.comm))
        .map(|exe| format!(", {}", printable(&exe)));
    let fate = top.fate.map(|fate| format!(" [{}]", fate.as_str())).unwrap_or_default();
    writeln!(
        out,
        "{:>6}  {time:<19}  {:<11}  {:>5}  {bytes:>10}  {}{kind}{}{fate}",
        top.id,
        top.reason.as_str(),
        tree.0.len(),
        escape(&abs(top)),
        who.unwrap_or_default(),
    )?;
    Ok(())
}
