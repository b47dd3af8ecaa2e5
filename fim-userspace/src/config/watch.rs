//! `[[watch]]`: what is guarded, and what is done about changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SEVERITIES;
use super::error::ConfigError;
use super::keys;
use super::log::LogConfig;
use super::read::{Section, Source};
use crate::core::change::ChangeKind;
use crate::core::path::display;
use crate::core::policy::{
    Exclusions, IGNORABLE, OnAltered, OnCreated, Override, PathPolicy, Patterns, Rule, Rules, WatchPolicy,
    literal,
};

/// More repetitions than this before something is said of them would be remembered for nothing.
const MOST_REPEATS: u32 = 1000;

#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// Absolute; a directory or a single file.
    pub path: PathBuf,
    pub policy: WatchPolicy,
    /// Scan again after each such time, whatever the sensors say.
    pub interval: Option<Duration>,
    pub lines: Lines,
}

/// Where in the file a watch says what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Where the table begins.
    pub table: usize,
    pub keys: BTreeMap<String, usize>,
    /// Each pattern as written.
    pub exclude: Vec<(String, usize)>,
    /// In the order of the policy's rules.
    pub rules: Vec<RuleLines>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleLines {
    pub table: usize,
    pub paths: Vec<String>,
    pub keys: BTreeMap<String, usize>,
}

pub(super) fn read_all(
    source: Source<'_>,
    sections: Vec<Section<'_>>,
    state_dir: &Path,
    logs: &[LogConfig],
) -> Result<Vec<WatchConfig>, ConfigError> {
    let mut watches: Vec<(WatchConfig, usize)> = Vec::with_capacity(sections.len());
    for mut section in sections {
        section.refuse_unknown(&keys::names(&[&keys::WATCH, &keys::POLICY]))?;
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
        let mut lines = Lines { table: section.line, keys: section.lines(), ..Lines::default() };
        let exclude = exclusions(&mut section, &path, (state_dir, logs), &mut lines)?;
        let base = says(&mut section)?.over(PathPolicy::restore_everything());
        let rules = rules(&mut section, &mut lines)?;
        let interval = section.duration("interval", Duration::from_secs(1))?;
        let policy = WatchPolicy { base, rules, exclude };
        watches.push((WatchConfig { path, policy, interval, lines }, found.line));
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

/// The keys that a watch and a rule have in common.
fn says(section: &mut Section<'_>) -> Result<Override, ConfigError> {
    let altered = [OnAltered::Alert, OnAltered::Restore].map(|on| (on.as_str(), on));
    let created = [OnCreated::Alert, OnCreated::Quarantine, OnCreated::Delete].map(|on| (on.as_str(), on));
    let kinds = ChangeKind::ALL.map(|k| (k.as_str(), k));
    const SWITCH: &str = "true or false, without quotes";
    Ok(Override {
        kinds: section.choices("kinds", &kinds)?.map(|kinds| kinds.into_iter().collect()),
        on_modified: section.choice("on_modified", &altered)?,
        on_deleted: section.choice("on_deleted", &altered)?,
        on_attributes: section.choice("on_attributes", &altered)?,
        on_created: section.choice("on_created", &created)?,
        keep_versions: section.take::<bool>("keep_versions", SWITCH)?.map(|p| p.value),
        max_file_size: section.size("max_file_size", 0)?,
        severity: section.choice("severity", &SEVERITIES)?,
        dry_run: section.take::<bool>("dry_run", SWITCH)?.map(|p| p.value),
        ignore: section.choices_or_none("ignore", &IGNORABLE)?.map(|p| p.value.into_iter().collect()),
        repeat_limit: repeat_limit(section)?,
        repeat_window: section.duration("repeat_window", Duration::from_secs(1))?,
        secret: section.take::<bool>("secret", SWITCH)?.map(|p| p.value),
    })
}

fn repeat_limit(section: &mut Section<'_>) -> Result<Option<u32>, ConfigError> {
    const KEY: &str = "repeat_limit";
    let what = format!("a whole number from 0 (never) to {MOST_REPEATS}, without quotes");
    match section.take::<u32>(KEY, &what)? {
        Some(found) if found.value > MOST_REPEATS => {
            Err(section.bad(found.line, KEY, &format!("is {}; it must be {what}", found.value)))
        }
        found => Ok(found.map(|p| p.value)),
    }
}

fn rules(section: &mut Section<'_>, lines: &mut Lines) -> Result<Rules, ConfigError> {
    let known = keys::names(&[&keys::RULE, &keys::POLICY]);
    let mut rules = Vec::new();
    for mut section in section.tables_within("watch.", "rule")? {
        section.refuse_unknown(&known)?;
        let keys = section.lines();
        let paths = section.need_list("paths", "[\"*.conf\", \"/ssh/**\"]")?;
        let patterns = Patterns::new(&paths.value)
            .map_err(|e| section.bad(paths.line, "paths", &format!("is wrong: {e}")))?;
        if !patterns.can_match() {
            let sentence = "matches nothing: each pattern is empty, a comment, or begins with \"!\"; name what the rule is for";
            return Err(section.bad(paths.line, "paths", sentence));
        }
        let says = says(&mut section)?;
        if says == Override::default() {
            let sentence = "stands alone; add what holds for them, for example severity = \"critical\"";
            return Err(section.bad(section.line, "paths", sentence));
        }
        let table = section.line;
        lines.rules.push(RuleLines { table, paths: paths.value.clone(), keys });
        rules.push(Rule { paths: paths.value, says });
    }
    Rules::new(&rules).map_err(|e| section.bad(section.line, "rule", &format!("is wrong: {e}")))
}

/// The configured patterns, and fim's own records where they lie below the watch: else each record would be a change.
fn exclusions(
    section: &mut Section<'_>,
    path: &Path,
    (state_dir, logs): (&Path, &[LogConfig]),
    lines: &mut Lines,
) -> Result<Exclusions, ConfigError> {
    let found = section.texts("exclude")?;
    let line = found.as_ref().map_or(section.line, |f| f.line);
    lines.exclude = found.into_iter().flat_map(|f| f.value).map(|p| (p.value, p.line)).collect();
    let mut patterns: Vec<String> = lines.exclude.iter().map(|(pattern, _)| pattern.clone()).collect();
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
