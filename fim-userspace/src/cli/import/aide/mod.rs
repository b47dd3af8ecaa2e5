//! An aide.conf as a configuration of fim, and line for line what became of it.
//!
//! [`source`] reads, [`globs`] and [`groups`] translate, [`place`] decides what is watched where, [`write`](mod@write) prints.

mod globs;
mod groups;
mod line;
mod options;
mod place;
mod source;
mod write;

use std::io;
use std::path::Path;

use groups::{Groups, Policy};
pub use line::{Line, Outcome};
use place::{Host, Rule, Types};
use source::{Kind, Says, Source};
pub use write::write;

pub struct Import {
    pub lines: Vec<Line>,
    pub watches: Vec<place::Watch>,
}

impl Import {
    /// # Errors
    /// When the file cannot be read.
    pub fn read(file: &Path, execute: bool) -> io::Result<Self> {
        Ok(Self::of(Source::read(file, execute)?, &on_this_host))
    }

    fn of(source: Source, host: &dyn Fn(&Path) -> Host) -> Self {
        let mut lines = source.lines;
        let mut groups = Groups::new();
        let mut rules = Vec::new();
        for statement in source.statements {
            let line = &mut lines[statement.line];
            match statement.says {
                Says::Option { name, value } => options::translate(line, &name, &value),
                Says::Group { name, expression } => define(&mut groups, line, &name, &expression),
                Says::Rule { kind, expression, rest } => {
                    match rule(&groups, line, kind, &expression, &rest) {
                        Ok(found) => rules.push(Rule { line: statement.line, ..found }),
                        Err(why) => line.note(Outcome::Lost, why),
                    }
                }
            }
        }
        let watches = place::watches(&rules, &mut lines, host);
        Self { lines, watches }
    }

    /// Whether something means something else now, or is not there.
    pub fn is_whole(&self) -> bool {
        self.lines.iter().all(|line| line.outcome < Outcome::Changed)
    }
}

fn on_this_host(path: &Path) -> Host {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => Host::Folder,
        Ok(meta) if meta.is_symlink() => Host::Link,
        Ok(_) => Host::Other,
        Err(_) => Host::Nothing,
    }
}

fn define(groups: &mut Groups, line: &mut Line, name: &str, expression: &str) {
    match groups.read(expression) {
        Ok((all, named)) => {
            let policy = Policy::of(&all);
            let ignore = if policy.ignore.is_empty() { "nothing".into() } else { policy.ignore.join(", ") };
            line.became(format!("ignore: {ignore}"));
            if let Some(kinds) = &policy.kinds {
                line.became(format!("kinds: {}", kinds.join(", ")));
            }
            for difference in groups::differences(&named) {
                line.note(Outcome::Changed, difference);
            }
            groups.define(name, all);
        }
        Err(why) => line.note(Outcome::Lost, why),
    }
}

fn rule(groups: &Groups, line: &mut Line, kind: Kind, expression: &str, rest: &str) -> Result<Rule, String> {
    let (types, attributes) = restriction(kind, rest);
    let types = types_of(types)?;
    let mut globs = globs::translate(expression).map_err(|why| format!("no pattern can say this: {why}"))?;
    if kind == Kind::Equals {
        globs.each.iter_mut().for_each(globs::Glob::without_what_is_below);
    }
    if let Some(rough) = &globs.rough {
        line.note(Outcome::Changed, rough.clone());
    }
    let policy = match kind {
        Kind::Not => None,
        Kind::Select | Kind::Equals => {
            let (all, named) = groups.read(attributes)?;
            for difference in groups::differences(&named) {
                line.note(Outcome::Changed, difference);
            }
            Some(Policy::of(&all))
        }
    };
    Ok(Rule { line: 0, kind, globs, types, policy })
}

/// The types of file, and the attributes.
fn restriction(kind: Kind, rest: &str) -> (&str, &str) {
    let letters = |word: &str| {
        word.split(',').all(|one| matches!(one, "f" | "d" | "l" | "c" | "b" | "p" | "s" | "D" | "P" | "0"))
    };
    let (first, more) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let more = more.trim();
    match kind {
        Kind::Not => (first, ""),
        _ if letters(first) && !more.is_empty() && !more.starts_with(['+', '-']) => (first, more),
        _ => ("", rest),
    }
}

fn types_of(letters: &str) -> Result<Types, String> {
    let each: Vec<&str> = letters.split(',').filter(|letter| !matches!(*letter, "" | "0")).collect();
    let folders = each.contains(&"d");
    match (each.len(), folders) {
        (0, _) => Ok(Types::All),
        (1, true) => Ok(Types::Folders),
        (_, false) => Ok(Types::Others),
        (_, true) => Ok(Types::All),
    }
}

#[cfg(test)]
mod tests;
