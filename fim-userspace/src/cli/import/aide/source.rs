//! Reads an aide.conf with what it includes: variables, conditions, and one statement for each line that says something.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

use super::line::{Line, Outcome};
use crate::core::path::display;

/// As deep as AIDE goes.
const DEEPEST: usize = 16;

/// What a line says once variables and conditions are resolved.
#[derive(Debug, PartialEq, Eq)]
pub enum Says {
    Group { name: String, expression: String },
    Option { name: String, value: String },
    Rule { kind: Kind, expression: String, rest: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Select,
    /// `=`: without what is below.
    Equals,
    /// `!`
    Not,
}

/// A statement, and the index of its line.
pub struct Statement {
    pub line: usize,
    pub says: Says,
}

pub struct Source {
    pub lines: Vec<Line>,
    pub statements: Vec<Statement>,
    variables: BTreeMap<String, String>,
    environment: Vec<(String, String)>,
    /// Run programs that `@@x_include` names.
    execute: bool,
    hostname: String,
}

impl Source {
    /// # Errors
    /// When `file` itself cannot be read.
    pub fn read(file: &Path, execute: bool) -> io::Result<Self> {
        let hostname = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
        let mut source = Self {
            lines: Vec::new(),
            statements: Vec::new(),
            variables: [("HOSTNAME".to_owned(), hostname.clone())].into(),
            environment: Vec::new(),
            execute,
            hostname,
        };
        let text = fs::read(file)?;
        source.text(&display(file), &text, "", 0);
        Ok(source)
    }

    fn text(&mut self, file: &str, bytes: &[u8], prefix: &str, depth: usize) {
        let text = String::from_utf8_lossy(bytes);
        // For each open @@if: whether its lines count, as seen from inside it alone.
        let mut conditions: Vec<bool> = Vec::new();
        for (number, raw) in (1..).zip(text.lines()) {
            let trimmed = raw.trim();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let at = self.lines.len();
            self.lines.push(Line {
                file: file.to_owned(),
                line: number,
                text: trimmed.to_owned(),
                outcome: Outcome::Carried,
                became: Vec::new(),
                why: Vec::new(),
            });
            if self.condition(trimmed, at, &mut conditions) {
                continue;
            }
            if conditions.contains(&false) {
                self.lines[at].note(Outcome::Needless, "its condition does not hold on this host");
                continue;
            }
            if raw.contains('\u{fffd}') {
                self.lines[at].note(Outcome::Lost, "it is no UTF-8 text");
                continue;
            }
            self.statement(trimmed, at, prefix, depth);
        }
    }

    /// Whether the line is a condition.
    fn condition(&mut self, text: &str, at: usize, conditions: &mut Vec<bool>) -> bool {
        let mut words = text.split_whitespace();
        let first = words.next().unwrap_or_default();
        let rest: Vec<&str> = words.collect();
        let name = rest.first().copied().unwrap_or_default();
        let holds = match first {
            "@@if" => self.holds(&rest),
            "@@ifdef" => Some(self.variables.contains_key(name)),
            "@@ifndef" => Some(!self.variables.contains_key(name)),
            "@@ifhost" => Some(self.is_host(name)),
            "@@ifnhost" => Some(!self.is_host(name)),
            "@@else" => {
                if let Some(last) = conditions.last_mut() {
                    *last = !*last;
                }
                return true;
            }
            "@@endif" => {
                conditions.pop();
                return true;
            }
            _ => return false,
        };
        if holds.is_none() {
            self.lines[at]
                .note(Outcome::Lost, "this condition is not known; what depends on it was left out");
        }
        conditions.push(holds.unwrap_or(false));
        true
    }

    fn holds(&self, words: &[&str]) -> Option<bool> {
        match words {
            ["not", rest @ ..] => self.holds(rest).map(|holds| !holds),
            ["defined", name] => Some(self.variables.contains_key(*name)),
            ["hostname", name] => Some(self.is_host(name)),
            ["exists", path] => Some(Path::new(&self.expand(path).ok()?).exists()),
            _ => None,
        }
    }

    fn is_host(&self, name: &str) -> bool {
        self.hostname.split('.').next() == Some(name)
    }

    fn statement(&mut self, text: &str, at: usize, prefix: &str, depth: usize) {
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        match word {
            "@@define" => {
                let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                match self.expand(value.trim()) {
                    Ok(value) => drop(self.variables.insert(name.to_owned(), value)),
                    Err(why) => self.lines[at].note(Outcome::Lost, why),
                }
            }
            "@@undef" => drop(self.variables.remove(rest)),
            "@@x_include_setenv" => {
                let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                self.environment.push((name.to_owned(), value.trim().to_owned()));
            }
            "@@include" => self.include(rest, at, prefix, depth, false),
            "@@x_include" => self.include(rest, at, prefix, depth, true),
            _ if word.starts_with("@@") && !word.starts_with("@@{") => {
                self.lines[at].note(Outcome::Lost, format!("{word} is not known"));
            }
            _ => match self.expand(text).and_then(|text| says(&text, prefix)) {
                Ok(says) => self.statements.push(Statement { line: at, says }),
                Err(why) => self.lines[at].note(Outcome::Lost, why),
            },
        }
    }

    /// With variables replaced. AIDE takes an undefined one for nothing, which would select other paths than were meant.
    fn expand(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("@@{") {
            let (name, behind) = after.split_once('}').ok_or("a @@{ is not closed")?;
            let value = self.variables.get(name).ok_or_else(|| {
                format!("@@{{{name}}} is not defined, or only by a program that was not run (see --execute)")
            })?;
            out.push_str(before);
            out.push_str(value);
            rest = behind;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn include(&mut self, rest: &str, at: usize, prefix: &str, depth: usize, programs: bool) {
        if depth >= DEEPEST {
            self.lines[at].note(Outcome::Lost, "files that include each other go deeper than AIDE allows");
            return;
        }
        let words: Result<Vec<String>, String> =
            rest.split_whitespace().map(|word| self.expand(word)).collect();
        let found = words.and_then(|words| match words.as_slice() {
            [file] => Ok((vec![PathBuf::from(file)], String::new())),
            [folder, names] => Ok((listed(folder, names)?, String::new())),
            [folder, names, prefix] => Ok((listed(folder, names)?, prefix.clone())),
            _ => Err("it names nothing".into()),
        });
        let (files, more) = match found {
            Ok(found) => found,
            Err(why) => return self.lines[at].note(Outcome::Lost, why),
        };
        let prefix = format!("{prefix}{more}");
        for file in files {
            match self.content(&file, programs) {
                Ok(bytes) => {
                    self.lines[at].became(format!("what {} says", display(&file)));
                    self.text(&display(&file), &bytes, &prefix, depth + 1);
                }
                Err(why) => self.lines[at].note(Outcome::Lost, format!("{}: {why}", display(&file))),
            }
        }
    }

    fn content(&self, file: &Path, programs: bool) -> Result<Vec<u8>, String> {
        let meta = fs::metadata(file).map_err(|e| format!("it cannot be read ({e})"))?;
        if !programs || meta.permissions().mode() & 0o111 == 0 {
            return fs::read(file).map_err(|e| format!("it cannot be read ({e})"));
        }
        if !self.execute {
            return Err("it is a program; with --execute it is run, as AIDE does".into());
        }
        // AIDE's own conditions.
        let own = rustix::process::geteuid().as_raw();
        if (meta.uid() != 0 && meta.uid() != own) || meta.permissions().mode() & 0o022 != 0 {
            return Err("it is a program that others may change, so it was not run".into());
        }
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        let output = Command::new(file).env_clear().envs(environment).output();
        let output = output.map_err(|e| format!("it cannot be run ({e})"))?;
        if !output.status.success() || !output.stderr.is_empty() {
            return Err(format!("as a program it failed ({})", output.status));
        }
        Ok(output.stdout)
    }
}

fn listed(folder: &str, names: &str) -> Result<Vec<PathBuf>, String> {
    let regex = Regex::new(names).map_err(|_| format!("{names:?} is no regular expression that is known"))?;
    let entries = fs::read_dir(folder).map_err(|e| format!("{folder} cannot be listed ({e})"))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| regex.is_match(name)))
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    Ok(files)
}

fn says(text: &str, prefix: &str) -> Result<Says, String> {
    let (kind, path) = match text.chars().next() {
        Some('!') => (Kind::Not, &text[1..]),
        Some('=') => (Kind::Equals, &text[1..]),
        _ => (Kind::Select, text),
    };
    if path.starts_with('/') {
        let (expression, rest) = first_word(path);
        return Ok(Says::Rule { kind, expression: format!("{prefix}{expression}"), rest });
    }
    let (name, value) = text.split_once('=').ok_or("it is neither a rule nor an option")?;
    let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
    // Options are written in small letters with underscores; AIDE knows them, and so does the translation.
    if super::options::is_option(&name) {
        return Ok(Says::Option { name, value });
    }
    Ok(Says::Group { name, expression: value })
}

/// Up to the first blank that has no backslash before it; `\\`, `\ ` and `\@` are one character each.
fn first_word(text: &str) -> (String, String) {
    let mut word = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c.is_whitespace() {
            return (word, text[at..].trim().to_owned());
        }
        match (c, chars.peek()) {
            ('\\', Some((_, next @ ('\\' | ' ' | '@')))) => {
                // A blank that was meant as one.
                match next {
                    ' ' => word.push_str("%20"),
                    other => word.push(*other),
                }
                chars.next();
            }
            _ => word.push(c),
        }
    }
    (word, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)], execute: bool) -> (tempfile::TempDir, Source) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(&path, text.replace("DIR", &dir.path().to_string_lossy())).expect("written");
            let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        }
        let source = Source::read(&dir.path().join(files[0].0), execute).expect("read");
        (dir, source)
    }

    fn rules(source: &Source) -> Vec<String> {
        let told = source.statements.iter().map(|statement| match &statement.says {
            Says::Rule { kind, expression, rest } => format!("{kind:?} {expression} {rest}"),
            Says::Group { name, expression } => format!("{name}: {expression}"),
            Says::Option { name, value } => format!("{name} is {value}"),
        });
        told.collect()
    }

    #[test]
    fn variables_conditions_and_blanks_are_as_in_aide() {
        let text = "# c\n@@define LOG /var/log\nG = p+u\n@@ifdef LOG\n@@{LOG}/a\\\\.1$ f G\n@@else\n/b G\n@@endif\n\
                    @@if not defined LOG\n/c G\n@@endif\n@@ifndef X\n!/d\\ e\n@@endif\n@@undef LOG\n@@{LOG}/x G\n=/f$ G\n\
                    database_in=file:/x\n@@if exists /proc\n/g G\n@@endif\n@@if version_ge 3\n/h G\n@@endif\n";
        let (_dir, source) = read(&[("aide.conf", text)], false);
        assert_eq!(
            rules(&source),
            [
                "G: p+u",
                "Select /var/log/a\\.1$ f G",
                "Not /d%20e ",
                "Equals /f$ G",
                "database_in is file:/x",
                "Select /g G"
            ]
        );
        let lost: Vec<usize> =
            source.lines.iter().filter(|l| l.outcome == Outcome::Lost).map(|l| l.line).collect();
        assert_eq!(lost, [16, 22], "an undefined variable, an unknown condition");
    }

    #[test]
    fn files_are_included_in_order_and_programs_only_when_asked() {
        let files = [
            (
                "aide.conf",
                "@@x_include_setenv WHAT /w\n@@x_include DIR/d ^[a-z0-9_]+$ /sys\n@@include DIR/one\n/last G\n",
            ),
            ("d/20_b", "/b G\n"),
            ("d/10_a", "!/a\n"),
            ("d/30_run", "#!/bin/sh\necho \"$WHAT G\"\n"),
            ("d/not.this", "/no G\n"),
            ("one", "/one G\n@@include DIR/missing\n"),
        ];
        let (_dir, source) = read(&files, false);
        let usual = ["Not /sys/a ", "Select /sys/b G", "Select /one G", "Select /last G"];
        assert_eq!(rules(&source), usual);
        let why = source.lines.iter().flat_map(|line| &line.why).cloned().collect::<Vec<_>>().join("\n");
        assert!(
            why.contains("30_run: it is a program") && why.contains("missing: it cannot be read"),
            "{why}"
        );
        let (_dir, source) = read(&files, true);
        assert!(rules(&source).contains(&"Select /sys/w G".to_owned()), "{:?}", rules(&source));
        // A file that includes itself ends.
        let (_dir, source) = read(&[("aide.conf", "/x G\n@@include DIR/aide.conf\n")], false);
        assert_eq!(rules(&source).len(), DEEPEST + 1);
    }
}
