//! `[[trust]]`: whose changes are authorised.

use std::path::{Path, PathBuf};

use super::WatchConfig;
use super::error::ConfigError;
use super::keys;
use super::read::{Put, Section, Source};
use crate::core::entry::Digest;
use crate::core::path::display;
use crate::core::trust::{PRESETS, Preset, is_interpreter};

/// Who runs a program unless `users` says otherwise.
const ROOT: u32 = 0;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustConfig {
    /// Unique: records name the rule by it.
    pub name: String,
    pub programs: Vec<PathBuf>,
    /// What the executable must hold; without it, what the baseline says.
    pub sha256: Option<Digest>,
    pub descendants: bool,
    /// Paths of watches; `None`: all.
    pub watches: Option<Vec<PathBuf>>,
    pub users: Vec<UserName>,
    /// The root of the system that it installs packages into.
    pub root: PathBuf,
    /// Where the table begins.
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserName {
    Id(u32),
    Login(String),
}

pub(super) fn read_all(
    source: Source<'_>,
    sections: Vec<Section<'_>>,
    watches: &[WatchConfig],
) -> Result<Vec<TrustConfig>, ConfigError> {
    let mut all: Vec<TrustConfig> = Vec::with_capacity(sections.len());
    for section in sections {
        let line = section.line;
        let trust = read(section, source, watches)?;
        if all.iter().any(|other| other.name == trust.name) {
            let shown = trust.name.escape_debug();
            let sentence = format!("two [[trust]] are called \"{shown}\"; give each its own name = \"…\"");
            return Err(source.at(line, sentence));
        }
        all.push(trust);
    }
    Ok(all)
}

fn read(
    mut section: Section<'_>,
    source: Source<'_>,
    watches: &[WatchConfig],
) -> Result<TrustConfig, ConfigError> {
    section.refuse_unknown(&keys::TRUST.names())?;
    let line = section.line;
    let presets = PRESETS.map(|preset| (preset.name, preset));
    let preset = section.choice("preset", &presets)?;
    let (programs, sha256) = programs(&mut section, preset)?;
    let name = match section.text("name")? {
        Some(found) if is_plain(&found.value) => found.value,
        Some(found) => {
            return Err(section.bad(
                found.line,
                "name",
                "must be a word of letters, digits, \"-\", \"_\" or \".\"",
            ));
        }
        None => match (preset, programs.first().and_then(|program| program.file_name())) {
            (Some(preset), _) => preset.name.to_owned(),
            (None, Some(file)) if is_plain(&file.to_string_lossy()) => file.to_string_lossy().into_owned(),
            _ => return Err(section.missing("name", "\"deploy\"")),
        },
    };
    let descendants = section.take::<bool>("descendants", "true or false, without quotes")?.map(|p| p.value);
    let root = match section.text("root")? {
        Some(found) => section.absolute("root", &found)?,
        None => "/".into(),
    };
    Ok(TrustConfig {
        name,
        programs,
        sha256,
        // A package manager works through the scripts of its packages.
        descendants: descendants.unwrap_or(preset.is_some()),
        watches: within(&mut section, source, watches)?,
        users: users(&mut section)?,
        root,
        line,
    })
}

/// The executables, and the digest where one is given.
fn programs(
    section: &mut Section<'_>,
    preset: Option<Preset>,
) -> Result<(Vec<PathBuf>, Option<Digest>), ConfigError> {
    let exe = section.text("exe")?;
    let sha256 = match section.text("sha256")? {
        Some(found) => Some(Digest::from_hex(&found.value).ok_or_else(|| {
            section.bad(found.line, "sha256", "must be 64 hexadecimal digits, as sha256sum(1) prints them")
        })?),
        None => None,
    };
    match (preset, exe) {
        (Some(_), Some(found)) => Err(section.bad(
            found.line,
            "exe",
            "stands beside preset, which names its programs itself; keep one of them",
        )),
        (Some(preset), None) => {
            if sha256.is_some() && preset.programs.len() > 1 {
                let sentence =
                    "cannot be that of all programs of the preset; write a [[trust]] with exe for each";
                return Err(section.bad(section.line, "sha256", sentence));
            }
            Ok((preset.programs.iter().map(PathBuf::from).collect(), sha256))
        }
        (None, Some(found)) => Ok((vec![executable(section, &found)?], sha256)),
        (None, None) => Err(section.missing("exe", "\"/usr/local/bin/deploy\" (or preset = \"dpkg\")")),
    }
}

fn executable(section: &Section<'_>, found: &Put<String>) -> Result<PathBuf, ConfigError> {
    let path = section.absolute("exe", found)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if is_interpreter(&name) {
        let sentence = format!(
            "is {}, which runs whatever it is told to: anybody's script would be trusted; name a compiled program, or open \
             a maintenance window around the script (`fim maintenance start`)",
            display(&path)
        );
        return Err(section.bad(found.line, "exe", &sentence));
    }
    Ok(path)
}

fn within(
    section: &mut Section<'_>,
    source: Source<'_>,
    watches: &[WatchConfig],
) -> Result<Option<Vec<PathBuf>>, ConfigError> {
    let Some(list) = section.texts("watches")? else { return Ok(None) };
    if list.value.is_empty() {
        return Err(section.bad(
            list.line,
            "watches",
            "is empty, so the rule would hold nowhere; remove the key or name some",
        ));
    }
    let mut paths = Vec::with_capacity(list.value.len());
    for found in list.value {
        let path = section.absolute("watches", &found)?;
        if !watches.iter().any(|watch| watch.path == path) {
            let known: Vec<String> = watches.iter().map(|watch| display(&watch.path)).collect();
            let sentence = format!(
                "watches in [[trust]] holds \"{}\", which no [[watch]] has as its path; those are {}",
                found.value.escape_debug(),
                known.join(", ")
            );
            return Err(source.at(found.line, sentence));
        }
        paths.push(path);
    }
    Ok(Some(paths))
}

fn users(section: &mut Section<'_>) -> Result<Vec<UserName>, ConfigError> {
    let Some(list) = section.texts("users")? else { return Ok(vec![UserName::Id(ROOT)]) };
    if list.value.is_empty() {
        return Err(section.bad(
            list.line,
            "users",
            "is empty, so the rule would hold for nobody; name some, such as \"root\"",
        ));
    }
    let user = |found: Put<String>| match found.value.parse() {
        Ok(u32::MAX) => Err(section.bad(found.line, "users", "holds 4294967295, which is nobody's id")),
        Ok(id) => Ok(UserName::Id(id)),
        Err(_) if found.value.trim().is_empty() => {
            Err(section.bad(found.line, "users", "holds an empty name"))
        }
        Err(_) => Ok(UserName::Login(found.value)),
    };
    list.value.into_iter().map(user).collect()
}

/// Fit to be part of `trust:NAME` in records.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+'))
}

/// The rule's programs exist under these paths, links followed: that is what the kernel calls them.
pub fn real_paths(programs: &[PathBuf]) -> Vec<PathBuf> {
    let real = |program: &PathBuf| Path::canonicalize(program).unwrap_or_else(|_| program.clone());
    let mut all: Vec<PathBuf> = programs.iter().map(real).collect();
    all.sort();
    all.dedup();
    all
}
