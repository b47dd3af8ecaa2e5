//! `fim show`: one event in full.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Value, json};

use super::log::user_name;
use super::render::{MASKED, Paint, SECRET, TOO_LARGE, harmless, signed, unified};
use super::versions::{self, Name};
use super::view::{Content, kept};
use crate::config::Config;
use crate::core::actor::{Actor, Confidence, ExeFile, ExePlace, Standing};
use crate::core::entry::{Digest, FileType};
use crate::core::event::{Event, Record, State};
use crate::core::linediff::{Line, LineKind};
use crate::core::path::{display, escape, unescape};
use crate::sink::line::{self, printable};
use crate::store::lines::{Compared, Difference, Outcome, Side, Since};
use crate::store::vault::Vault;
use crate::store::{Held, Store};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The event's number, or the beginning of its id (8 digits at least)
    #[arg(value_name = "SEQ|ID")]
    event: String,
    /// Also what the lines of a secret file say: keys, passwords
    #[arg(long)]
    secret: bool,
}

/// What an event tells of two versions.
struct Compare {
    since: Since,
    compared: Compared,
    differences: Vec<Difference>,
    /// With their signs, safe for a terminal; `Err`: why there are none.
    lines: Result<Vec<(LineKind, String)>, String>,
}

/// Who will read it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum For {
    Root,
    /// Somebody who may see the records, and not what stands in the files.
    Member,
}

pub fn run(config: &Config, args: &Args, as_json: bool) -> anyhow::Result<ExitCode> {
    crate::daemon::require_privilege("read the records and the vault")?;
    Ok(ExitCode::from(write(config, args, as_json, For::Root, &mut io::stdout().lock())?))
}

/// The exit code.
pub fn write(
    config: &Config,
    args: &Args,
    as_json: bool,
    reader: For,
    out: &mut dyn Write,
) -> anyhow::Result<u8> {
    let store = Store::open_read_only(&config.state.dir)?;
    let Some(name) = Name::parse(&args.event) else {
        bail!(
            "{:?} names no event; give its number, or at least 8 digits of its id (`fim log --json`)",
            args.event
        );
    };
    let Some(record) = versions::event(&store, &name)? else {
        bail!("there is no event {}; see `fim log`", args.event);
    };
    let copies = store.held_by(record.seq)?;
    let vault = Vault::open_existing(&config.state.dir.join("vault")).ok();
    let masked = |path: &PathBuf| !args.secret && config.secrets.cover(path);
    let old = record.event.old_path.as_deref().and_then(unescape);
    let hidden = old.is_some_and(|old| masked(&OsString::from_vec(old).into()));
    let mut compares = Vec::new();
    for (_, since, compared) in store.compared_by(record.seq, record.seq)? {
        let differences = store.differences(compared.id)?;
        let masked = hidden || masked(&compared.pair.path);
        if reader == For::Member {
            let lines = Err("what the files say is shown to root only".to_owned());
            compares.push((true, Compare { since, compared, differences: Vec::new(), lines }));
            continue;
        }
        let lines = lines(vault.as_ref(), &record.event, since, &compared, &differences, masked);
        compares.push((masked, Compare { since, compared, differences, lines }));
    }
    let mut out = io::BufWriter::new(out);
    if as_json {
        writeln!(out, "{}", harmless(&whole_json(&record, &copies, &compares)))?;
    } else {
        let paint = if reader == For::Root { Paint::for_stdout() } else { Paint::none() };
        in_full(&mut out, paint, &record, &copies, &compares)?;
    }
    out.flush()?;
    Ok(0)
}

/// With the lines around them while the vault has both versions; else what was recorded of them.
fn lines(
    vault: Option<&Vault>,
    event: &Event,
    since: Since,
    compared: &Compared,
    differences: &[Difference],
    masked: bool,
) -> Result<Vec<(LineKind, String)>, String> {
    let before = match since {
        Since::Approved => event.before.as_ref(),
        Since::Previous => event.previous.as_ref().and_then(Option::as_ref),
    };
    let content = |digest: Option<Digest>, state: Option<&State>| match (digest, vault) {
        (None, _) => Content::None,
        (Some(digest), Some(vault)) => kept(vault, &digest, state.map_or(0, |state| state.size)),
        (Some(_), None) => Content::Away("the vault cannot be read".into()),
    };
    let contents =
        (content(compared.pair.before, before), content(compared.pair.after, event.after.as_ref()));
    match (unified(contents, masked), compared.outcome) {
        (Ok(lines), _) => Ok(lines),
        (Err(_), Outcome::Lines) if !differences.is_empty() => Ok(recorded(differences, masked)),
        (Err(_), Outcome::TooLarge) => Err(TOO_LARGE.to_owned()),
        (Err(why), _) => Err(why),
    }
}

/// What the database has of the lines.
fn recorded(differences: &[Difference], masked: bool) -> Vec<(LineKind, String)> {
    let mut out = Vec::new();
    let span = |side: &Side| match side.lines {
        1 => side.line.to_string(),
        n => format!("{},{n}", side.line),
    };
    for difference in differences {
        let text = format!("@@ -{} +{} @@", span(&difference.old), span(&difference.new));
        out.push((LineKind::Hunk, text));
        for (side, kind) in [(&difference.old, LineKind::Removed), (&difference.new, LineKind::Added)] {
            let lines = match &side.text {
                Some(text) if !masked => text.split_inclusive('\n').map(str::to_owned).collect(),
                _ => vec![SECRET.to_owned(); side.lines.min(1) as usize],
            };
            let line =
                |text: String| Line { kind, text: text.strip_suffix('\n').unwrap_or(&text).to_owned() };
            out.extend(lines.into_iter().map(|text| signed(line(text))));
        }
    }
    out
}

fn in_full(
    out: &mut impl Write,
    paint: Paint,
    record: &Record,
    copies: &[Held],
    compares: &[(bool, Compare)],
) -> io::Result<()> {
    let event = &record.event;
    let title = format!("event {} ({})", record.seq, record.id);
    writeln!(out, "{}", paint.title(&title))?;
    writeln!(out, "  {}", line::line(record, &mut user_name))?;
    for (name, text) in facts(event) {
        writeln!(out, "  {name:<9} {text}")?;
    }
    for (role, actor) in
        event.actor.iter().map(|a| ("who", a)).chain(event.other_actors.iter().map(|a| ("or", a)))
    {
        for (n, text) in who(actor).into_iter().enumerate() {
            writeln!(out, "  {:<9} {text}", if n == 0 { role } else { "" })?;
        }
    }
    for text in attributes(event.before.as_ref(), event.after.as_ref()) {
        writeln!(out, "  {:<9} {text}", "differs")?;
    }
    for copy in copies {
        let digest = copy.digest.map_or("no content".into(), |digest| format!("sha256 {digest}"));
        let fate = copy.fate.map_or(String::new(), |fate| format!(", {}", fate.as_str()));
        let path = escape(place(copy).as_os_str().as_bytes());
        writeln!(out, "  {:<9} {} {path}, {}, {digest}{fate}", "copy", copy.id, copy.reason.as_str())?;
    }
    for (masked, Compare { since, compared, lines, .. }) in compares {
        let path = escape(compared.pair.path.as_os_str().as_bytes());
        let old = since.as_str();
        match lines {
            Err(why) => writeln!(out, "  {:<9} since the {old} version: {}", "lines", printable(why))?,
            Ok(lines) => {
                if *masked {
                    writeln!(out, "  {:<9} {MASKED}", "lines")?;
                }
                writeln!(out, "{}", paint.line(LineKind::Removed, &format!("--- {path} ({old})")))?;
                writeln!(
                    out,
                    "{}",
                    paint.line(LineKind::Added, &format!("+++ {path} (event {})", record.seq))
                )?;
                for (kind, text) in lines {
                    writeln!(out, "{}", paint.line(*kind, text))?;
                }
            }
        }
    }
    Ok(())
}

/// What is known of the event besides who and what.
fn facts(event: &Event) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    let mut add = |name, text: Option<String>| out.extend(text.map(|text| (name, text)));
    add("watch", event.watch.as_deref().map(printable));
    let rules: Vec<String> = event.rules.iter().map(|rule| printable(rule)).collect();
    add(
        "rule",
        event.kind.is_change().then(|| match rules.is_empty() {
            true => "the watch's own keys".to_owned(),
            false => format!("for {}", rules.join("; then for ")),
        }),
    );
    let verdict = event.verdict.map(|verdict| json!(verdict).as_str().unwrap_or_default().to_owned());
    let by = event.authorised_by.as_deref().map(|by| format!(" by {}", printable(by)));
    add("verdict", verdict.map(|verdict| verdict + &by.unwrap_or_default()));
    let package = event.package.as_deref().map(printable).unwrap_or_default();
    add(
        "vouched for",
        event.vouched.map(|right| {
            if right { format!("by {package}") } else { format!("no: {package} lists another content") }
        }),
    );
    add("response", event.kind.is_change().then(|| event.response.as_str().to_owned()));
    add("planned", event.planned.map(|planned| planned.as_str().to_owned()));
    add("method", event.method.as_deref().map(printable));
    let seen: Vec<String> = event.seen_by.iter().map(|s| format!("{s:?}").to_lowercase()).collect();
    add(
        "seen by",
        (!seen.is_empty()).then(|| format!("{} ({} tier)", seen.join(", "), printable(&event.tier))),
    );
    out
}

fn who(actor: &Actor) -> Vec<String> {
    let mut out = vec![process(actor)];
    out.extend(ids(actor));
    let file = |exe: &str, file: Option<&ExeFile>| printable(exe) + &file.map(program).unwrap_or_default();
    out.extend(
        actor
            .exe
            .as_deref()
            .or(actor.comm.as_deref())
            .map(|exe| format!("program {}", file(exe, actor.exe_file.as_ref()))),
    );
    let called = actor.exe.as_deref().and_then(|exe| exe.rsplit('/').next());
    out.extend(
        actor
            .comm
            .as_deref()
            .filter(|comm| called.is_some_and(|called| !called.starts_with(comm)))
            .map(|comm| format!("calls itself {}", printable(comm))),
    );
    out.extend(actor.script.as_deref().map(|script| format!("script {}", printable(script))));
    if !actor.cmdline.is_empty() {
        let words: Vec<String> = actor.cmdline.iter().map(|word| printable(word)).collect();
        out.push(format!("command {}", words.join(" ")));
    }
    out.extend(actor.cwd.as_deref().map(|cwd| format!("in {}", printable(cwd))));
    let runtime = actor.runtime.as_deref().map_or(String::new(), |name| format!(" ({})", printable(name)));
    out.extend(actor.container.as_deref().map(|c| format!("container {}{runtime}", printable(c))));
    out.extend(actor.unit.as_deref().map(|unit| format!("unit {}", printable(unit))));
    out.extend(actor.cgroup.as_deref().map(|group| format!("control group {}", printable(group))));
    if !actor.ancestors.is_empty() {
        out.push("started by".into());
    }
    // The origin of all first, each below the one that started it.
    for (depth, ancestor) in actor.ancestors.iter().rev().enumerate() {
        let exe = ancestor.exe.as_deref().or(ancestor.comm.as_deref()).unwrap_or("?");
        let user = ancestor.uid.map_or(String::new(), |uid| format!(", {}", named(uid, user_name(uid))));
        let text = file(exe, ancestor.exe_file.as_ref());
        let branch = if depth == 0 { String::new() } else { "   ".repeat(depth - 1) + "└─ " };
        out.push(format!("  {branch}{text}, pid {}{user}", ancestor.pid));
    }
    out
}

fn process(actor: &Actor) -> String {
    let mut parts = Vec::new();
    parts.extend(actor.pid.map(|pid| format!("pid {pid}")));
    parts.extend(actor.tid.filter(|tid| Some(*tid) != actor.pid).map(|tid| format!("thread {tid}")));
    parts.extend(actor.inner_pid.map(|pid| format!("pid {pid} in its own namespace")));
    parts.extend(actor.ppid.map(|pid| format!("parent {pid}")));
    parts.push(match actor.confidence {
        Confidence::Exact => "confidence exact".into(),
        Confidence::Several => "confidence several: one of those named here".into(),
        Confidence::Unknown => "confidence unknown".into(),
    });
    parts.join(", ")
}

/// The ids with the names they had when it happened, or else have now.
fn ids(actor: &Actor) -> Option<String> {
    let user = |uid: u32, name: &Option<String>| named(uid, name.clone().or_else(|| user_name(uid)));
    let names = &actor.names;
    let other = |id: Option<u32>| id.filter(|id| Some(*id) != actor.uid);
    let mut parts = Vec::new();
    parts.extend(actor.uid.map(|uid| format!("user {}", user(uid, &names.uid))));
    parts.extend(other(actor.euid).map(|uid| format!("acting as {}", user(uid, &names.euid))));
    let files = actor.fsuid.filter(|fsuid| Some(*fsuid) != actor.euid);
    parts.extend(files.map(|uid| format!("on files as {}", user(uid, &names.fsuid))));
    parts.extend(actor.gid.map(|gid| format!("group {}", named(gid, names.gid.clone()))));
    parts.extend(actor.auid.map(|uid| format!("logged in as {}", user(uid, &names.auid))));
    parts.extend(actor.from.as_deref().map(|from| format!("from {}", printable(from))));
    parts.extend(actor.session.map(|session| format!("session {session}")));
    parts.extend(actor.tty.as_deref().map(|tty| format!("terminal {}", printable(tty))));
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn named(id: u32, name: Option<String>) -> String {
    name.map_or_else(|| id.to_string(), |name| format!("{} ({id})", printable(&name)))
}

/// What is known of the file that ran, where that is worth a word.
fn program(file: &ExeFile) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(match file.place {
        ExePlace::Linked | ExePlace::Memfd => None,
        ExePlace::Deleted => Some("deleted".to_owned()),
        ExePlace::Elsewhere => Some("not at that path as the host sees it".to_owned()),
    });
    parts.extend(file.baseline.map(|standing| {
        match standing {
            Standing::Approved => "approved",
            Standing::Altered => "ALTERED: not what was approved",
            Standing::Unapproved => "watched, not approved",
            Standing::Unverified => "approved, but what ran could not be compared",
        }
        .to_owned()
    }));
    parts.extend(file.sha256.map(|digest| format!("sha256 {digest}")));
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

/// `mode 0644 -> 0666`, a line for each that differs; for something that came or went, what it is.
fn attributes(before: Option<&State>, after: Option<&State>) -> Vec<String> {
    let kind = |s: &State| json!(s.kind).as_str().unwrap_or_default().replace('_', " ");
    let (old, new) = match (before, after) {
        (Some(old), Some(new)) => (old, new),
        (Some(one), None) => {
            return vec![format!("gone: {}, {} bytes, mode {}", kind(one), one.size, one.mode)];
        }
        (None, Some(one)) => {
            return vec![format!("new: {}, {} bytes, mode {}", kind(one), one.size, one.mode)];
        }
        (None, None) => return Vec::new(),
    };
    let mut out = Vec::new();
    let mut add = |name: &str, was: String, is: String| {
        if was != is {
            out.push(format!("{name} {was} -> {is}"));
        }
    };
    let text = |text: &Option<String>| text.as_deref().map_or("none".into(), printable);
    add("type", kind(old), kind(new));
    add("target", text(&old.target), text(&new.target));
    add("mode", old.mode.clone(), new.mode.clone());
    add("owner", old.uid.to_string(), new.uid.to_string());
    add("group", old.gid.to_string(), new.gid.to_string());
    add("flags", text(&old.flags), text(&new.flags));
    add("mtime", text(&old.mtime), text(&new.mtime));
    if old.kind == FileType::Regular && new.kind == FileType::Regular {
        add("size", old.size.to_string(), new.size.to_string());
        add("sha256", text(&old.sha256), text(&new.sha256));
    }
    out
}

fn place(held: &Held) -> PathBuf {
    held.path.below(&held.watch)
}

fn whole_json(record: &Record, copies: &[Held], compares: &[(bool, Compare)]) -> Value {
    let copy = |held: &Held| {
        json!({
            "id": held.id,
            "path": display(&place(held)),
            "reason": held.reason.as_str(),
            "sha256": held.digest,
            "fate": held.fate.map(|fate| fate.as_str()),
        })
    };
    let side = |side: &Side, masked: bool| {
        let text = side.text.as_ref().filter(|_| !masked);
        json!({ "line": side.line, "lines": side.lines, "text": text, "digest": side.digest })
    };
    let compare = |(masked, compare): &(bool, Compare)| {
        let Compare { since, compared, differences, lines } = compare;
        let rows: Vec<Value> = differences
            .iter()
            .map(|d| {
                json!({
                    "operation": d.operation,
                    "old": side(&d.old, *masked),
                    "new": side(&d.new, *masked),
                    "omitted": d.omitted.map(|omitted| omitted.as_str()),
                })
            })
            .collect();
        let texts = lines.as_ref().map(|lines| lines.iter().map(|(_, text)| text).collect::<Vec<_>>());
        json!({
            "since": since.as_str(),
            "before": compared.pair.before,
            "after": compared.pair.after,
            "outcome": compared.outcome.as_str(),
            "encodings": [compared.old_encoding, compared.new_encoding],
            "secret": masked,
            "differences": rows,
            "lines": texts.unwrap_or_default(),
        })
    };
    json!({
        "event": record,
        "attributes": attributes(record.event.before.as_ref(), record.event.after.as_ref()),
        "copies": copies.iter().map(copy).collect::<Vec<_>>(),
        "compared": compares.iter().map(compare).collect::<Vec<_>>(),
    })
}
