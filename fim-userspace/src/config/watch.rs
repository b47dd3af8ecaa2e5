//! `[[watch]]`: what is guarded, and what is done about changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SEVERITIES;
use super::error::ConfigError;
use super::log::LogConfig;
use super::read::{Section, Source};
use crate::core::change::ChangeKind;
use crate::core::path::display;
use crate::core::policy::{Exclusions, OnAltered, OnCreated, WatchPolicy};

const KEYS: [&str; 10] = [
    "path",
    "exclude",
    "kinds",
    "on_modified",
    "on_deleted",
    "on_attributes",
    "on_created",
    "keep_versions",
    "severity",
    "interval",
];

#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// Absolute; a directory or a single file.
    pub path: PathBuf,
    pub policy: WatchPolicy,
    /// Scan again after each such time, whatever the sensors say.
    pub interval: Option<Duration>,
}

pub(super) fn read_all(
    source: Source<'_>,
    sections: Vec<Section<'_>>,
    state_dir: &Path,
    logs: &[LogConfig],
) -> Result<Vec<WatchConfig>, ConfigError> {
    let mut watches: Vec<(WatchConfig, usize)> = Vec::with_capacity(sections.len());
    for mut section in sections {
        section.refuse_unknown(&KEYS)?;
        let found = section.need_text("path", "\"/etc\"")?;
        let path = section.absolute("path", &found)?;
        if let Some((other, line)) = watches.iter().find(|(w, _)| overlap(&w.path, &path)) {
            return Err(source.at(found.line, one_policy(&path, &other.path, *line)));
        }
        if path.starts_with(state_dir) {
            let sentence = format!(
                "{} cannot be watched: fim keeps its own records in {}; move them with [state] dir or watch something else",
                display(&path),
                display(state_dir)
            );
            return Err(source.at(found.line, sentence));
        }
        if logs.iter().filter_map(LogConfig::file).any(|log| log == path) {
            let sentence = format!(
                "{} cannot be watched: fim writes its log there, and each line would be a change; remove this [[watch]] or the [[log]]",
                display(&path)
            );
            return Err(source.at(found.line, sentence));
        }
        let policy = policy(&mut section, &path, state_dir, logs)?;
        let interval = section.duration("interval", Duration::from_secs(1))?;
        watches.push((WatchConfig { path, policy, interval }, found.line));
    }
    Ok(watches.into_iter().map(|(w, _)| w).collect())
}

fn overlap(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn one_policy(path: &Path, other: &Path, line: usize) -> String {
    let (path_shown, other_shown) = (display(path), display(other));
    if path == other {
        return format!("{path_shown} is watched twice (first on line {line}); keep one [[watch]] for it");
    }
    let (inner, outer) =
        if path.starts_with(other) { (path_shown, other_shown) } else { (other_shown, path_shown) };
    format!(
        "{inner} lies inside {outer} (see line {line}), and a path can only have one policy; \
         remove one of the two [[watch]] or watch the folders of {outer} one by one"
    )
}

fn policy(
    section: &mut Section<'_>,
    path: &Path,
    state_dir: &Path,
    logs: &[LogConfig],
) -> Result<WatchPolicy, ConfigError> {
    let altered = [("alert", OnAltered::Alert), ("restore", OnAltered::Restore)];
    let created =
        [("alert", OnCreated::Alert), ("quarantine", OnCreated::Quarantine), ("delete", OnCreated::Delete)];
    let kinds = ChangeKind::ALL.map(|k| (k.as_str(), k));
    let default = WatchPolicy::restore_everything();
    Ok(WatchPolicy {
        exclude: exclusions(section, path, state_dir, logs)?,
        kinds: section.choices("kinds", &kinds)?.unwrap_or(default.kinds),
        on_modified: section.choice("on_modified", &altered)?.unwrap_or(default.on_modified),
        on_deleted: section.choice("on_deleted", &altered)?.unwrap_or(default.on_deleted),
        on_attributes: section.choice("on_attributes", &altered)?.unwrap_or(default.on_attributes),
        on_created: section.choice("on_created", &created)?.unwrap_or(default.on_created),
        keep_versions: section
            .take::<bool>("keep_versions", "true or false, without quotes")?
            .map_or(default.keep_versions, |p| p.value),
        severity: section.choice("severity", &SEVERITIES)?.unwrap_or(default.severity),
    })
}

/// The configured patterns, and fim's own records where they lie below the watch: else each record would be a change.
fn exclusions(
    section: &mut Section<'_>,
    path: &Path,
    state_dir: &Path,
    logs: &[LogConfig],
) -> Result<Exclusions, ConfigError> {
    let found = section.take::<Vec<String>>("exclude", "a list of patterns in quotes")?;
    let line = found.as_ref().map_or(section.line, |f| f.line);
    let mut patterns = found.map_or(Vec::new(), |f| f.value);
    if let Ok(own) = state_dir.strip_prefix(path) {
        patterns.push(format!("/{}", literal(&own.to_string_lossy())));
    }
    for own in logs.iter().filter_map(LogConfig::file).filter_map(|log| log.strip_prefix(path).ok()) {
        let own = literal(&own.to_string_lossy());
        // The log and what rotation calls its older parts, and nothing that merely begins like them.
        patterns.extend(["", ".[0-9]", ".[0-9][0-9]", ".[0-9][0-9][0-9]"].map(|end| format!("/{own}{end}")));
    }
    Exclusions::new(&patterns).map_err(|e| section.bad(line, "exclude", &format!("is wrong: {e}")))
}

/// A gitignore(5) pattern that matches exactly `text`.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | ' ' | '{' | '}') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
