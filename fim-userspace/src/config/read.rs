//! Reads tables of the TOML document key by key, so that every complaint names its line and its key.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::error::{ConfigError, at};
use super::secret::SecretSource;

/// The file being read; finds lines.
#[derive(Clone, Copy)]
pub(super) struct Source<'i> {
    pub file: &'i Path,
    pub text: &'i str,
}

impl Source<'_> {
    pub fn line(&self, offset: usize) -> usize {
        1 + self.text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count()
    }

    pub fn whole(&self, sentence: impl Into<String>) -> ConfigError {
        ConfigError::Whole { file: self.file.into(), sentence: sentence.into() }
    }

    pub fn at(&self, line: usize, sentence: String) -> ConfigError {
        at(self.file, line, sentence)
    }
}

/// One table of the document.
pub(super) struct Section<'i> {
    source: Source<'i>,
    /// As written: `[[watch]]`.
    name: String,
    /// Where the table begins.
    pub line: usize,
    table: DeTable<'i>,
}

/// A value and the line it stands on.
pub(super) struct Put<T> {
    pub value: T,
    pub line: usize,
}

impl<'i> Section<'i> {
    pub fn new(source: Source<'i>, name: &str, value: Spanned<DeValue<'i>>) -> Result<Self, ConfigError> {
        let line = source.line(value.span().start);
        match value.into_inner() {
            DeValue::Table(table) => Ok(Self { source, name: name.into(), line, table }),
            _ => Err(source.at(
                line,
                format!("{name} must be a table; write its keys on lines of their own below {name}"),
            )),
        }
    }

    pub fn document(source: Source<'i>) -> Result<Self, ConfigError> {
        let table = DeTable::parse(source.text).map_err(|e| {
            // The error's own display quotes the line, which may hold what should not be shown.
            let line = e.span().map_or(1, |s| source.line(s.start));
            source
                .at(line, format!("this is not TOML: {}; correct this line", e.message().replace('\n', ", ")))
        })?;
        Ok(Self { source, name: "the file".into(), line: 1, table: table.into_inner() })
    }

    /// Refuses the first key (by place in the file) that is none of `known`.
    pub fn refuse_unknown(&self, known: &[&str]) -> Result<(), ConfigError> {
        let unknown = self
            .table
            .keys()
            .filter(|k| !known.contains(&k.get_ref().as_ref()))
            .min_by_key(|k| k.span().start);
        let Some(key) = unknown else { return Ok(()) };
        let name = key.get_ref().escape_debug().to_string();
        let hint = match nearest(&name, known) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("known keys are {}", list(known)),
        };
        let sentence = format!("unknown key \"{name}\" in {}; {hint}", self.name);
        Err(self.source.at(self.source.line(key.span().start), sentence))
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    fn take_value(&mut self, key: &str) -> Option<(Spanned<DeValue<'i>>, usize)> {
        let value = self.table.remove(key)?;
        let line = self.source.line(value.span().start);
        Some((value, line))
    }

    /// The value of `key`, if it is there; `what` says what it must be (`a text in quotes`).
    pub fn take<T: DeserializeOwned>(
        &mut self,
        key: &str,
        what: &str,
    ) -> Result<Option<Put<T>>, ConfigError> {
        let Some((value, line)) = self.take_value(key) else {
            return Ok(None);
        };
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(value) => Ok(Some(Put { value, line })),
            Err(_) => Err(self.bad(line, key, &format!("must be {what}"))),
        }
    }

    pub fn text(&mut self, key: &str) -> Result<Option<Put<String>>, ConfigError> {
        self.take(key, "a text in quotes")
    }

    pub fn need_text(&mut self, key: &str, example: &str) -> Result<Put<String>, ConfigError> {
        let found = self.text(key)?;
        let found = found.ok_or_else(|| self.missing(key, example))?;
        if found.value.trim().is_empty() {
            return Err(self.bad(found.line, key, &format!("is empty; write for example {key} = {example}")));
        }
        Ok(found)
    }

    /// A list of texts with at least one element.
    pub fn need_list(&mut self, key: &str, example: &str) -> Result<Put<Vec<String>>, ConfigError> {
        let found = self.take::<Vec<String>>(key, "a list of texts in quotes")?;
        let found = found.ok_or_else(|| self.missing(key, example))?;
        if found.value.is_empty() {
            return Err(self.bad(found.line, key, &format!("is empty; write for example {key} = {example}")));
        }
        Ok(found)
    }

    /// One of `allowed`, by name.
    pub fn choice<T: Copy>(&mut self, key: &str, allowed: &[(&str, T)]) -> Result<Option<T>, ConfigError> {
        let Some(found) = self.text(key)? else {
            return Ok(None);
        };
        self.pick(key, &found.value, found.line, allowed).map(Some)
    }

    pub fn choices<T: Copy>(
        &mut self,
        key: &str,
        allowed: &[(&str, T)],
    ) -> Result<Option<Vec<T>>, ConfigError> {
        if !self.has(key) {
            return Ok(None);
        }
        let found = self.need_list(key, &format!("[\"{}\"]", allowed[0].0))?;
        let mut seen = BTreeSet::new();
        let names = found.value.iter().filter(|name| seen.insert(name.as_str()));
        names.map(|name| self.pick(key, name, found.line, allowed)).collect::<Result<_, _>>().map(Some)
    }

    fn pick<T: Copy>(
        &self,
        key: &str,
        name: &str,
        line: usize,
        allowed: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        if let Some((_, value)) = allowed.iter().find(|(n, _)| *n == name) {
            return Ok(*value);
        }
        let names: Vec<&str> = allowed.iter().map(|(n, _)| *n).collect();
        let hint = nearest(name, &names).map_or(String::new(), |near| format!("; did you mean \"{near}\"?"));
        let sentence = format!("cannot be \"{}\"; it is one of {}{hint}", name.escape_debug(), list(&names));
        Err(self.bad(line, key, &sentence))
    }

    /// A duration such as `30s`, `5m` or `24h`, at least `least`.
    pub fn duration(&mut self, key: &str, least: Duration) -> Result<Option<Duration>, ConfigError> {
        let Some(found) = self.text(key)? else {
            return Ok(None);
        };
        match parse_duration(&found.value) {
            Some(d) if d >= least => Ok(Some(d)),
            Some(_) => Err(self.bad(
                found.line,
                key,
                &format!("is too short; the shortest is \"{}s\"", least.as_secs()),
            )),
            None => {
                let sentence = format!(
                    "cannot be \"{}\"; write a duration such as \"30s\", \"5m\", \"24h\" or \"7d\"",
                    found.value.escape_debug()
                );
                Err(self.bad(found.line, key, &sentence))
            }
        }
    }

    /// A size such as `100MiB` or `2GB`, or a number of bytes.
    pub fn size(&mut self, key: &str) -> Result<Option<u64>, ConfigError> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Size {
            Bytes(u64),
            Text(String),
        }
        let example = "a size such as \"100MiB\" or \"2GB\", or a number of bytes";
        let Some(found) = self.take::<Size>(key, example)? else {
            return Ok(None);
        };
        match found.value {
            Size::Bytes(bytes) => Ok(Some(bytes)),
            Size::Text(text) => parse_size(&text).map(Some).ok_or_else(|| {
                let sentence = format!("cannot be \"{}\"; write {example}", text.escape_debug());
                self.bad(found.line, key, &sentence)
            }),
        }
    }

    /// An absolute path without `..`, tidied (no doubled or trailing slashes).
    pub fn absolute(&self, key: &str, found: &Put<String>) -> Result<PathBuf, ConfigError> {
        let path = Path::new(&found.value);
        let shown = found.value.escape_debug();
        if !path.is_absolute() {
            return Err(self.bad(
                found.line,
                key,
                &format!("is \"{shown}\", which is relative; write the path from / on"),
            ));
        }
        if path.components().any(|c| c == std::path::Component::ParentDir) || found.value.contains('\0') {
            return Err(self.bad(found.line, key, &format!("is \"{shown}\"; write the path without \"..\"")));
        }
        Ok(path.components().collect())
    }

    /// The one of `BASE_file`, `BASE_credential` and `BASE_env` that is given.
    pub fn secret(&mut self, base: &str) -> Result<Option<SecretSource>, ConfigError> {
        let keys = ["file", "credential", "env"].map(|how| format!("{base}_{how}"));
        let given: Vec<&String> = keys.iter().filter(|k| self.has(k)).collect();
        if let [first, second, ..] = given[..] {
            let sentence = format!("{} has both {first} and {second}; keep one of them", self.name);
            return Err(self.source.at(self.line, sentence));
        }
        let Some(key) = given.first().map(|k| k.to_string()) else {
            return Ok(None);
        };
        let found = self.need_text(&key, "\"…\"")?;
        Ok(Some(if key == keys[0] {
            SecretSource::File(self.absolute(&key, &found)?)
        } else if found.value.contains(['/', '\0', '=']) {
            return Err(self.bad(found.line, &key, "must be a plain name"));
        } else if key == keys[1] {
            SecretSource::Credential(found.value)
        } else {
            SecretSource::Env(found.value)
        }))
    }

    pub fn need_secret(&mut self, base: &str) -> Result<SecretSource, ConfigError> {
        let found = self.secret(base)?;
        found.ok_or_else(|| {
            let sentence = format!(
                "{} has no {base}_file (nor {base}_credential or {base}_env); add for example {base}_file = \"/etc/fim/{base}\"",
                self.name
            );
            self.source.at(self.line, sentence)
        })
    }

    /// The tables of `[[key]]`, in order.
    pub fn tables(&mut self, key: &str) -> Result<Vec<Section<'i>>, ConfigError> {
        let name = format!("[[{key}]]");
        let Some((value, line)) = self.take_value(key) else {
            return Ok(Vec::new());
        };
        match value.into_inner() {
            DeValue::Array(items) => {
                items.into_iter().map(|item| Section::new(self.source, &name, item)).collect()
            }
            _ => Err(self.source.at(line, format!("\"{key}\" is written with two brackets: {name}"))),
        }
    }

    pub fn table(&mut self, key: &str) -> Result<Option<Section<'i>>, ConfigError> {
        let Some((value, _)) = self.take_value(key) else {
            return Ok(None);
        };
        Section::new(self.source, &format!("[{key}]"), value).map(Some)
    }

    pub fn bad(&self, line: usize, key: &str, sentence: &str) -> ConfigError {
        self.source.at(line, format!("{key} in {} {sentence}", self.name))
    }

    pub fn missing(&self, key: &str, example: &str) -> ConfigError {
        self.source
            .at(self.line, format!("{} has no \"{key}\"; add for example {key} = {example}", self.name))
    }

    /// Calls the section by a more telling name in later complaints.
    pub fn rename(&mut self, name: String) {
        self.name = name;
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ")
}

/// The name that was most likely meant.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name = name.to_lowercase();
    let score = |k: &str| strsim::jaro_winkler(&name, k);
    // `secret` means `secret_file`, the first of its family, rather than the shortest.
    let family = known.iter().find(|k| k.strip_prefix(&name).is_some_and(|rest| rest.starts_with('_')));
    family.copied().or_else(|| best(known, score))
}

fn best<'a>(known: &[&'a str], score: impl Fn(&str) -> f64) -> Option<&'a str> {
    known
        .iter()
        .map(|k| (*k, score(k)))
        .filter(|(_, s)| *s > 0.75)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(k, _)| k)
}

/// `1h30m`: whole numbers, each with `ms`, `s`, `m`, `h` or `d`.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u32 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3_600),
            "d" => Duration::from_secs(86_400),
            _ => return None,
        };
        total = total.checked_add(unit.checked_mul(number)?)?;
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(total)
}

/// `100MiB`: a whole number with a binary or decimal unit, or of bytes.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit: u64 = match text[digits..].trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.checked_mul(unit)
}
