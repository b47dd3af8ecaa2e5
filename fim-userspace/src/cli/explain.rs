//! `fim explain`: what holds for a path, and which line of the configuration says so.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::REPORT;
use crate::config::{Config, RuleLines, WatchConfig};
use crate::core::change::ChangeKind;
use crate::core::entry::{Entry, FileType, Found};
use crate::core::event::State;
use crate::core::path::{RelPath, display, escape};
use crate::core::policy::{Excluded, IGNORABLE, OnAltered, OnCreated, PathPolicy};
use crate::store::Store;
use crate::store::vault::Vault;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files or folders, whether they exist or not
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// What becomes of links on the way to a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Links {
    Followed,
    /// Following them would tell who asks what he may not see.
    Stay,
}

impl Args {
    /// The paths from the root on.
    pub fn absolute(&self) -> Vec<PathBuf> {
        self.paths.iter().map(|path| absolute(path)).collect()
    }
}

pub fn run(config: &Config, args: &Args, as_json: bool) -> anyhow::Result<ExitCode> {
    let code = write(config, args, as_json, Links::Followed, &mut io::stdout().lock())?;
    Ok(ExitCode::from(code))
}

/// The exit code: 0, or 1 when a path is not watched at all.
pub fn write(
    config: &Config,
    args: &Args,
    as_json: bool,
    links: Links,
    out: &mut dyn Write,
) -> anyhow::Result<u8> {
    let known = Known::open(config);
    let mut all_watched = true;
    for (index, path) in args.paths.iter().enumerate() {
        let told = explain(config, &known, path, links);
        all_watched &= told.watched.is_some();
        match as_json {
            true => writeln!(out, "{}", told.json(config))?,
            false => write!(out, "{}{}", if index > 0 { "\n" } else { "" }, told.text(config))?,
        }
    }
    out.flush()?;
    Ok(if all_watched { 0 } else { REPORT })
}

/// What fim has recorded, as far as it can be read.
pub(super) struct Known {
    store: Result<Store, String>,
    vault: Option<Vault>,
}

impl Known {
    pub(super) fn open(config: &Config) -> Self {
        let dir = config.state.dir.join("vault");
        // Opening a vault would make one.
        let vault = dir.is_dir().then(|| Vault::open(&dir).ok()).flatten();
        Self { store: Store::open_read_only(&config.state.dir).map_err(|e| e.to_string()), vault }
    }
}

pub(super) struct Explained<'c> {
    path: PathBuf,
    pub(super) watched: Option<Watched<'c>>,
}

pub(super) struct Watched<'c> {
    config: &'c WatchConfig,
    /// The pattern and its line; no line for what fim excludes by itself.
    excluded: Option<(String, Option<usize>)>,
    policy: PathPolicy,
    secret: bool,
    rules: Vec<&'c RuleLines>,
    /// `Err`: why it cannot be said.
    approved: Result<Option<Found>, String>,
    /// `Err`: why not.
    restorable: Result<&'static str, String>,
}

/// Which line decides a key.
enum Decided {
    Rule { line: usize },
    Watch { line: usize },
    Default,
}

pub(super) fn explain<'c>(config: &'c Config, known: &Known, path: &Path, links: Links) -> Explained<'c> {
    let spelled = absolute(path);
    let place = |path: &Path| config.watches.iter().find_map(|w| place_in(w, path).map(|place| (w, place)));
    let (path, found) = match place(&spelled) {
        Some(found) => (spelled, Some(found)),
        // Behind a link: the folder as the kernel knows it.
        None => match behind_links(&spelled).filter(|_| links == Links::Followed) {
            Some(real) => {
                let found = place(&real);
                (if found.is_some() { real } else { spelled }, found)
            }
            None => (spelled, None),
        },
    };
    let watched = found.map(|(watch, place)| {
        let secret = config.secrets.cover(&path);
        in_watch(watch, place, &path, (known, secret))
    });
    Explained { path, watched }
}

/// Where a path lies in a watch: the folder that is the baseline's root, the path below it, and whether the watch is
/// on this single file.
struct Place {
    root: PathBuf,
    path: RelPath,
    single: bool,
}

fn place_in(watch: &WatchConfig, path: &Path) -> Option<Place> {
    let below = path.strip_prefix(&watch.path).ok()?;
    if below.as_os_str().is_empty() && watch.path.exists() && !watch.path.is_dir() {
        let (root, name) = (watch.path.parent()?.to_path_buf(), watch.path.file_name()?);
        return Some(Place { root, path: RelPath::root().join(name.as_bytes())?, single: true });
    }
    let path = RelPath::new(below.as_os_str().as_bytes())?;
    Some(Place { root: watch.path.clone(), path, single: false })
}

fn in_watch<'c>(
    watch: &'c WatchConfig,
    place: Place,
    absolute: &Path,
    (known, secret): (&Known, bool),
) -> Watched<'c> {
    let approved = match &known.store {
        Ok(store) => store.baseline_get(&place.root, &place.path).map_err(|e| e.to_string()),
        Err(e) => Err(e.clone()),
    };
    let approved_dir =
        approved.as_ref().ok().and_then(Option::as_ref).map(|f| f.entry.kind == FileType::Directory);
    let directory = approved_dir.unwrap_or_else(|| absolute.symlink_metadata().is_ok_and(|m| m.is_dir()));
    let excluded = match watch.policy.exclude.why(&place.path, directory) {
        Some(Excluded::Pattern(pattern)) if !place.single => {
            let line =
                watch.lines.exclude.iter().rev().find(|(known, _)| known == pattern).map(|(_, line)| *line);
            Some((pattern.to_owned(), line))
        }
        _ => None,
    };
    let policy = watch.policy.of(&place.path, directory);
    let rules = watch.policy.rules.matching(&place.path, directory).into_iter();
    let rules = rules.filter_map(|index| watch.lines.rules.get(index)).collect();
    let restorable = match &approved {
        Ok(Some(found)) => restorable(&found.entry, &policy, known),
        Ok(None) => Err("nothing is approved under this name".into()),
        Err(why) => Err(format!("that cannot be said: {why}")),
    };
    Watched { config: watch, excluded, policy, secret, rules, approved, restorable }
}

fn restorable(entry: &Entry, policy: &PathPolicy, known: &Known) -> Result<&'static str, String> {
    match entry.kind {
        FileType::Socket => Err("a socket belongs to the program that listens on it".into()),
        FileType::Regular => {
            let digest = entry.sha256.ok_or("its content could not be read when it was approved")?;
            let Some(vault) = &known.vault else {
                return Err("the vault cannot be opened; run fim as root".into());
            };
            if vault.contains(&digest) {
                return Ok("its content is in the vault");
            }
            let too_large = policy.max_file_size.is_some_and(|most| entry.size > most);
            Err(match (policy.keep_versions, too_large) {
                (false, _) => "its content is not kept (keep_versions = false)".into(),
                (true, true) => format!("its {} bytes are more than max_file_size", entry.size),
                (true, false) => "its content is not in the vault; see `fim log`, or approve it anew".into(),
            })
        }
        _ => Ok("all that it is stands in the baseline"),
    }
}

impl Watched<'_> {
    /// Every key with its value, and which line decides it: the last rule that names it, else the watch.
    fn decisions(&self) -> Vec<(&'static str, String, Decided)> {
        let p = &self.policy;
        let kinds: Vec<&str> = p.kinds.list().map(ChangeKind::as_str).collect();
        let kinds = if kinds.len() == ChangeKind::ALL.len() { "all".into() } else { kinds.join(", ") };
        let ignored: Vec<&str> = IGNORABLE
            .iter()
            .filter(|(_, aspect)| p.ignore.contains(*aspect))
            .map(|(name, _)| *name)
            .collect();
        let ignored = if ignored.is_empty() { "nothing".into() } else { ignored.join(", ") };
        let values: [(&str, String); 13] = [
            ("kinds", kinds),
            ("on_modified", p.on_modified.as_str().into()),
            ("on_deleted", p.on_deleted.as_str().into()),
            ("on_attributes", p.on_attributes.as_str().into()),
            ("on_created", p.on_created.as_str().into()),
            ("keep_versions", p.keep_versions.to_string()),
            ("max_file_size", p.max_file_size.map_or("none".into(), |bytes| format!("{bytes} bytes"))),
            ("severity", p.severity.as_str().into()),
            ("dry_run", p.dry_run.to_string()),
            ("ignore", ignored),
            ("repeat_limit", p.repeat_limit.to_string()),
            ("repeat_window", format!("{}s", p.repeat_window.as_secs())),
            ("secret", self.secret.to_string()),
        ];
        let decided = |key: &str| {
            let by_rule = self.rules.iter().rev().find_map(|rule| rule.keys.get(key));
            match (by_rule, self.config.lines.keys.get(key)) {
                (Some(line), _) => Decided::Rule { line: *line },
                (None, Some(line)) => Decided::Watch { line: *line },
                (None, None) => Decided::Default,
            }
        };
        values.into_iter().map(|(key, value)| (key, value, decided(key))).collect()
    }

    /// What fim does about each kind of change.
    fn answers(&self) -> Vec<(ChangeKind, String)> {
        let p = &self.policy;
        let put_back = |on: OnAltered| match (on, &self.restorable) {
            (OnAltered::Alert, _) => "told",
            (OnAltered::Restore, Ok(_)) => "restored",
            (OnAltered::Restore, Err(_)) => "told as not restorable",
        };
        let attributes = match p.on_attributes {
            OnAltered::Alert => "told",
            OnAltered::Restore => "restored",
        };
        let removed = match p.on_created {
            OnCreated::Alert => "told",
            OnCreated::Quarantine => "quarantined",
            OnCreated::Delete => "deleted (the vault keeps a copy)",
        };
        let renamed = match (p.on_deleted, p.on_created) {
            (OnAltered::Restore, OnCreated::Alert) => {
                format!("{}, the new name is told", put_back(p.on_deleted))
            }
            (OnAltered::Restore, _) => "renamed back".into(),
            (OnAltered::Alert, _) => format!("told, the new name is {removed}"),
        };
        let answer = |kind: ChangeKind| match kind {
            ChangeKind::Created => removed.to_owned(),
            ChangeKind::Deleted => put_back(p.on_deleted).into(),
            ChangeKind::Modified | ChangeKind::Type => put_back(p.on_modified).into(),
            ChangeKind::Attributes => attributes.into(),
            ChangeKind::Renamed => renamed.clone(),
        };
        let whole = |kind: ChangeKind| match (p.kinds.contains(kind), p.dry_run) {
            (false, _) => "not even told (kinds)".to_owned(),
            (true, true) => match answer(kind).as_str() {
                "told" => "told".into(),
                answer => format!("would be {answer}, and is told (dry_run)"),
            },
            (true, false) => answer(kind),
        };
        ChangeKind::ALL.into_iter().map(|kind| (kind, whole(kind))).collect()
    }

    fn baseline(&self) -> String {
        let found = match &self.approved {
            Err(why) => return format!("cannot be read: {why}"),
            Ok(None) => return "nothing is approved under this name".into(),
            Ok(Some(found)) => found,
        };
        let State { kind, size, mode, uid, gid, target, .. } = State::from(&found.entry);
        let size = match found.entry.kind {
            FileType::Regular => format!(", {size} bytes"),
            _ => target.map(|target| format!(" to {target}")).unwrap_or_default(),
        };
        let kind = json!(kind).as_str().unwrap_or_default().replace('_', " ");
        format!("{kind}{size}, mode {mode}, uid {uid}, gid {gid}")
    }
}

impl Explained<'_> {
    fn shown(&self) -> String {
        display(&self.path)
    }

    pub(super) fn text(&self, config: &Config) -> String {
        let file = display(&config.file);
        let mut out = format!("{}\n", self.shown());
        let mut put = |name: &str, text: &str| out.push_str(&format!("  {name:<13} {text}\n"));
        let Some(w) = &self.watched else {
            let watches: Vec<String> = config.watches.iter().map(|w| display(&w.path)).collect();
            put("not watched", &format!("it lies in none of {} ({file})", watches.join(", ")));
            return out;
        };
        put("watch", &format!("{}, line {} of {file}", display(&w.config.path), w.config.lines.table));
        match &w.excluded {
            Some((pattern, Some(line))) => {
                put("excluded", &format!("by \"{}\", line {line}: not watched", pattern.escape_debug()));
                return out;
            }
            Some((_, None)) => {
                put("excluded", "fim's own records are not watched");
                return out;
            }
            None => {}
        }
        let rules: Vec<String> =
            w.rules.iter().map(|r| format!("line {} ({})", r.table, quoted(&r.paths))).collect();
        put("rules", &if rules.is_empty() { "none matches".into() } else { rules.join(", ") });
        put("baseline", &w.baseline());
        match &w.restorable {
            Ok(why) => put("restorable", &format!("yes, {why}")),
            Err(why) => put("restorable", &format!("not now, {why}")),
        }
        out.push_str("\n  when it is    then it is\n");
        w.answers()
            .iter()
            .for_each(|(kind, answer)| out.push_str(&format!("  {:<13} {answer}\n", kind.as_str())));
        out.push_str("\n  key           value               decided by\n");
        for (key, value, decided) in w.decisions() {
            let by = match decided {
                Decided::Rule { line } => format!("rule, line {line}"),
                Decided::Watch { line } => format!("watch, line {line}"),
                Decided::Default => "default".into(),
            };
            out.push_str(&format!("  {key:<13} {value:<19} {by}\n"));
        }
        out
    }

    pub(super) fn json(&self, config: &Config) -> Value {
        let bytes = self.path.as_os_str().as_bytes();
        let Some(w) = &self.watched else {
            return json!({ "path": escape(bytes), "config": display(&config.file), "watch": null });
        };
        let decisions = w.decisions().into_iter().map(|(key, value, decided)| {
            let (by, line) = match decided {
                Decided::Rule { line } => ("rule", Some(line)),
                Decided::Watch { line } => ("watch", Some(line)),
                Decided::Default => ("default", None),
            };
            (key.to_owned(), json!({ "value": value, "by": by, "line": line }))
        });
        let answers = w.answers().into_iter().map(|(kind, answer)| (kind.as_str().to_owned(), json!(answer)));
        json!({
            "path": escape(bytes),
            "config": display(&config.file),
            "watch": display(&w.config.path),
            "watch_line": w.config.lines.table,
            "excluded": w.excluded.as_ref().map(|(pattern, line)| json!({ "pattern": pattern, "line": line })),
            "rules": w.rules.iter().map(|r| json!({ "line": r.table, "paths": r.paths })).collect::<Vec<_>>(),
            "baseline": w.approved.as_ref().ok().and_then(Option::as_ref).map(|f| State::from(&f.entry)),
            "baseline_error": w.approved.as_ref().err(),
            "restorable": w.restorable.is_ok(),
            "restorable_why": w.restorable.as_ref().map_or_else(String::clone, |why| (*why).to_owned()),
            "answers": answers.collect::<serde_json::Map<_, _>>(),
            "keys": decisions.collect::<serde_json::Map<_, _>>(),
        })
    }
}

fn quoted(patterns: &[String]) -> String {
    patterns.iter().map(|p| format!("\"{}\"", p.escape_debug())).collect::<Vec<_>>().join(", ")
}

/// From the root on, without `.` and `..`, no link followed.
fn absolute(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut out = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

/// The path with every link in the folders above it followed, not the last name's own.
fn behind_links(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?.canonicalize().ok()?;
    Some(folder.join(path.file_name()?))
}

#[cfg(test)]
mod tests;
