//! `fim blame`: who last changed each line of a file.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde_json::json;

use super::log::user_name;
use super::render::{SECRET, harmless, visible};
use super::view::{Content, View};
use crate::config::Config;
use crate::core::blame::{Origin, Run, Step, blame};
use crate::core::entry::Entry;
use crate::core::event::{EventKind, Record};
use crate::core::linediff::{self, Comparison};
use crate::core::path::{RelPath, escape, unescape};
use crate::daemon::watch::Watch;
use crate::sink::line::printable;
use crate::store::lines::{Outcome, Since};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The approved version instead of the one that is there
    #[arg(long)]
    accepted: bool,
    /// Also what the lines of a secret file say: keys, passwords
    #[arg(long)]
    secret: bool,
}

/// Renames that are followed.
const MOST_NAMES: usize = 64;

/// By their numbers.
type Records = HashMap<u64, Arc<Record>>;

/// Who a line is from, as far as fim knows.
enum From {
    Record(Arc<Record>),
    /// As above, if it changed this line at all.
    Perhaps(Arc<Record>),
    /// No record tells of it yet.
    Unrecorded,
    Baseline,
}

pub fn run(config: &Config, args: &Args, as_json: bool) -> anyhow::Result<ExitCode> {
    let view = View::open(config)?.revealing(args.secret);
    let (watch, rel) = view.locate(&args.path)?;
    let shown = escape(&watch.absolute(&rel));
    let (entry, content) = version(&view, &watch, &rel, args.accepted)?;
    let content = match content {
        Content::Whole(content) => content,
        Content::Long => bail!("{shown} is too large to be told line by line"),
        Content::None => bail!("{shown} has no lines"),
        Content::Away(why) => bail!("{shown} cannot be told line by line, since {why}"),
    };
    let lines = match linediff::compare(Vec::new(), content.clone()) {
        Comparison::Lines(lines) => lines,
        Comparison::Binary => bail!("{shown} is no text"),
        Comparison::TooLarge => bail!("{shown} is too large to be told line by line"),
    };
    let count = lines.rows.first().map_or(0, |row| row.new.len());
    let texts: Vec<String> = (0..count).map(|line| lines.new.lines(&(line..line + 1))).collect();
    let from = origins(&view, &watch, &rel, &entry, content, count)?;
    let masked = view.masks(&watch.absolute(&rel));
    let texts = texts.iter().map(|text| match masked {
        true => SECRET.to_owned(),
        false => visible(text.strip_suffix('\n').unwrap_or(text).as_bytes()),
    });
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut names = HashMap::new();
    let baseline = view.store.baseline_taken()?;
    let baseline = baseline.map_or((String::new(), String::new()), |taken| (taken.time, taken.by));
    for (number, (from, text)) in (1..).zip(from.iter().zip(texts)) {
        if as_json {
            writeln!(out, "{}", harmless(&line_json(&shown, number, from, &text, masked, &baseline)))?;
        } else {
            writeln!(out, "{} {number:>5} | {text}", who_and_when(from, &baseline, &mut names))?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The version that is asked for.
fn version(view: &View, watch: &Watch, rel: &RelPath, accepted: bool) -> anyhow::Result<(Entry, Content)> {
    let shown = escape(&watch.absolute(rel));
    if accepted {
        let entry = view.approved(watch, rel)?.with_context(|| format!("{shown} is not approved"))?;
        let content = view.kept(Some(&entry));
        return Ok((entry, content));
    }
    let found = view.present(watch, rel)?;
    let Some(found) = found else { bail!("{shown} is not there; --accepted tells of the approved version") };
    let content = view.standing(watch, rel, Some(&found.entry))?;
    Ok((found.entry, content))
}

fn origins(
    view: &View,
    watch: &Watch,
    rel: &RelPath,
    entry: &Entry,
    content: Vec<u8>,
    count: usize,
) -> anyhow::Result<Vec<From>> {
    let Some(target) = entry.sha256 else { bail!("its content cannot be read") };
    let path = rel.below(watch.path());
    let (mut history, records) = history(view, &path)?;
    let approved = view.approved(watch, rel)?;
    // What is there may not be recorded yet: then it follows the last version that is known.
    let known = history.iter().any(|step| step.after == Some(target));
    if !known && approved.as_ref().and_then(|entry| entry.sha256) != Some(target) {
        let last = history.last().map(|step| step.after);
        let before = last.unwrap_or_else(|| approved.as_ref().and_then(|entry| entry.sha256));
        let old = before.map_or(Some(Vec::new()), |digest| view.vault.read(&digest).ok());
        let runs = old.and_then(|old| match linediff::compare(old, content) {
            Comparison::Lines(lines) => Some(lines.rows.iter().map(run_of).collect()),
            Comparison::Binary | Comparison::TooLarge => None,
        });
        history.push(Step { seq: u64::MAX, before, after: Some(target), runs });
    }
    let of = |seq: u64, perhaps: bool| match records.get(&seq) {
        Some(record) if perhaps => From::Perhaps(record.clone()),
        Some(record) => From::Record(record.clone()),
        None => From::Unrecorded,
    };
    let origins = blame(target, count, &history);
    Ok(origins
        .into_iter()
        .map(|origin| match origin {
            Origin::Event(seq) => of(seq, false),
            Origin::Perhaps(seq) => of(seq, true),
            Origin::Beginning => From::Baseline,
        })
        .collect())
}

/// Every change of content under this name, and under those that it had before, with their records.
fn history(view: &View, path: &Path) -> anyhow::Result<(Vec<Step>, Records)> {
    let (mut steps, mut records) = (Vec::new(), HashMap::new());
    let mut names = vec![path.to_path_buf()];
    let (mut seen, mut read) = (BTreeSet::new(), HashMap::new());
    while let Some(name) = names.pop().filter(|_| seen.len() < MOST_NAMES) {
        if !seen.insert(name.clone()) {
            continue;
        }
        let mut by_record: HashMap<u64, (Since, i64, Step)> = HashMap::new();
        for (seq, since, compared) in view.store.compared_at(&name)? {
            // What was known before says more than what was approved.
            if since == Since::Approved && by_record.contains_key(&seq) {
                continue;
            }
            let runs = match compared.outcome {
                Outcome::Lines => Some(runs(view, compared.id, &mut read)?),
                _ => None,
            };
            let step = Step { seq, before: compared.pair.before, after: compared.pair.after, runs };
            by_record.insert(seq, (since, compared.id, step));
        }
        let seqs: Vec<u64> = by_record.keys().copied().collect();
        for record in view.store.records_at(&seqs)? {
            if record.event.kind == EventKind::Renamed
                && let Some(old) = record.event.old_path.as_deref().and_then(unescape)
            {
                names.push(OsString::from_vec(old).into());
            }
            records.insert(record.seq, Arc::new(record));
        }
        steps.extend(by_record.into_values().map(|(_, _, step)| step));
    }
    steps.sort_by_key(|step: &Step| step.seq);
    Ok((steps, records))
}

/// What a comparison found; `read`: those that were asked for before.
fn runs(view: &View, comparison: i64, read: &mut HashMap<i64, Arc<[Run]>>) -> anyhow::Result<Arc<[Run]>> {
    if let Some(runs) = read.get(&comparison) {
        return Ok(runs.clone());
    }
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let differences = view.store.differences(comparison)?;
    let runs: Arc<[Run]> = differences
        .iter()
        .map(|d| Run {
            old_line: number(d.old.line),
            old_lines: number(d.old.lines),
            new_line: number(d.new.line),
            new_lines: number(d.new.lines),
        })
        .collect();
    read.insert(comparison, runs.clone());
    Ok(runs)
}

fn run_of(row: &linediff::Row) -> Run {
    let line = |range: &std::ops::Range<usize>| if range.is_empty() { range.start } else { range.start + 1 };
    Run {
        old_line: line(&row.old),
        old_lines: row.old.len(),
        new_line: line(&row.new),
        new_lines: row.new.len(),
    }
}

/// `     42 2026-11-22 01:02:03Z ann (1000), dash`, all of one width.
fn who_and_when(
    from: &From,
    (time, by): &(String, String),
    names: &mut HashMap<u32, Option<String>>,
) -> String {
    let (seq, time, who) = match from {
        From::Record(record) => (record.seq.to_string(), record.event.time.as_str(), who(record, names)),
        From::Perhaps(record) => (format!("{}?", record.seq), record.event.time.as_str(), who(record, names)),
        From::Unrecorded => ("-".into(), "", "not recorded yet".into()),
        From::Baseline => ("baseline".into(), time.as_str(), printable(by)),
    };
    let time = time.get(..19).unwrap_or_default().replace('T', " ");
    format!("{seq:>8} {time:<19} {:<28}", cut(&who, 28))
}

fn who(record: &Record, names: &mut HashMap<u32, Option<String>>) -> String {
    let Some(actor) = &record.event.actor else { return "nobody that was seen".into() };
    let mut parts = Vec::new();
    if let Some(uid) = actor.auid.or(actor.uid) {
        let name = names.entry(uid).or_insert_with(|| user_name(uid));
        parts.push(name.as_ref().map_or(format!("uid {uid}"), |name| format!("{} ({uid})", printable(name))));
    }
    if let Some(program) = actor.exe.as_ref().or(actor.comm.as_ref()) {
        parts.push(printable(program.rsplit('/').next().unwrap_or(program)));
    }
    if parts.is_empty() { "an unknown process".into() } else { parts.join(", ") }
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

fn line_json(
    path: &str,
    number: usize,
    from: &From,
    text: &str,
    masked: bool,
    (time, by): &(String, String),
) -> serde_json::Value {
    let text = (!masked).then_some(text);
    let mut line = json!({ "path": path, "line": number, "text": text, "secret": masked });
    let origin = match from {
        From::Record(record) | From::Perhaps(record) => json!({
            "seq": record.seq,
            "id": record.id,
            "time": record.event.time,
            "kind": record.event.kind,
            "verdict": record.event.verdict,
            "actor": record.event.actor,
            "certain": matches!(from, From::Record(_)),
        }),
        From::Unrecorded => json!(null),
        From::Baseline => json!({ "baseline": true, "time": time, "by": by }),
    };
    if let Some(map) = line.as_object_mut() {
        map.insert("from".into(), origin);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_by_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
    }
}
