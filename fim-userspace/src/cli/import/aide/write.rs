//! The configuration as text: beside each pattern the line it comes from, at the end what could not be carried over.

use std::fmt::Write as _;

use super::line::{Line, Outcome};
use super::place::Watch;
use super::{Import, Policy};
use crate::sink::line::printable;

/// A whole configuration, as `fim config check` takes it. Without a watch it is only the list of what was lost.
pub fn write(import: &Import, file: &str) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = head(&mut out, import, file);
    for watch in &import.watches {
        let _ = one(&mut out, watch, &import.lines);
    }
    let _ = rest(&mut out, import);
    out
}

fn head(out: &mut String, import: &Import, file: &str) -> std::fmt::Result {
    let count = |outcome| import.lines.iter().filter(|line| line.outcome == outcome).count();
    writeln!(
        out,
        "# By `fim import aide` from {}: the line that each thing comes from stands beside it.",
        safe(file)
    )?;
    writeln!(
        out,
        "# Of {} lines {} mean the same here, {} are not needed, {} mean something else, {} are lost: see the end.",
        import.lines.len(),
        count(Outcome::Carried),
        count(Outcome::Needless),
        count(Outcome::Changed),
        count(Outcome::Lost)
    )?;
    writeln!(
        out,
        "# Changes are told and nothing is undone, as with AIDE. To have a file put back write \"restore\"."
    )
}

/// TOML allows no control characters, not even in comments.
fn safe(text: &str) -> String {
    printable(text)
}

fn one(out: &mut String, watch: &Watch, lines: &[Line]) -> std::fmt::Result {
    writeln!(out, "\n# {}", safe(&lines[watch.line].named()))?;
    writeln!(out, "[[watch]]\npath = {}", quoted(&watch.path))?;
    if !watch.exclude.is_empty() {
        list(out, "exclude", &watch.exclude, lines)?;
    }
    policy(out, &watch.policy, false)?;
    for (key, value) in ["on_modified", "on_deleted", "on_attributes", "on_created"].map(|key| (key, "alert"))
    {
        writeln!(out, "{key} = \"{value}\"")?;
    }
    if watch.path == "/" {
        writeln!(
            out,
            "# true would keep a copy of the whole system, for restoring and for showing which lines changed."
        )?;
        writeln!(out, "keep_versions = false")?;
    }
    for rule in &watch.rules {
        writeln!(out, "\n[[watch.rule]]")?;
        list(out, "paths", &rule.paths, lines)?;
        policy(out, &rule.policy, true)?;
    }
    Ok(())
}

/// `all`: say also what is the default, so that a rule leaves nothing to the one before it.
fn policy(out: &mut String, policy: &Policy, all: bool) -> std::fmt::Result {
    const KINDS: [&str; 6] = ["created", "modified", "deleted", "renamed", "attributes", "type"];
    let texts = |each: &[&str]| each.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
    if all || !policy.ignore.is_empty() {
        writeln!(out, "ignore = [{}]", texts(&policy.ignore))?;
    }
    if all || policy.kinds.is_some() {
        writeln!(out, "kinds = [{}]", texts(policy.kinds.as_deref().unwrap_or(&KINDS)))?;
    }
    Ok(())
}

fn list(out: &mut String, key: &str, each: &[(String, usize)], lines: &[Line]) -> std::fmt::Result {
    writeln!(out, "{key} = [")?;
    let mut before = None;
    for (pattern, line) in each {
        let named =
            if before == Some(line) { String::new() } else { format!(" # {}", safe(&lines[*line].named())) };
        before = Some(line);
        writeln!(out, "    {},{named}", quoted(pattern))?;
    }
    writeln!(out, "]")
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn rest(out: &mut String, import: &Import) -> std::fmt::Result {
    let groups = [
        (Outcome::Lost, "Not carried over"),
        (Outcome::Changed, "Means something else here"),
        (Outcome::Needless, "Not needed here"),
    ];
    for (outcome, title) in groups {
        let found: Vec<&Line> = import.lines.iter().filter(|line| line.outcome == outcome).collect();
        if found.is_empty() {
            continue;
        }
        writeln!(out, "\n# {title}:")?;
        for line in found {
            writeln!(out, "#   {}", safe(&line.named()))?;
            for why in &line.why {
                writeln!(out, "#     {}", safe(why))?;
            }
        }
    }
    let other = import.lines.iter().filter(|line| line.outcome == Outcome::Carried && !in_a_list(line));
    let other: Vec<&Line> = other.collect();
    if !other.is_empty() {
        writeln!(out, "\n# Definitions, conditions and files that were read:")?;
    }
    for line in other {
        let became =
            if line.became.is_empty() { String::new() } else { format!(" -> {}", line.became.join("; ")) };
        writeln!(out, "#   {}{}", safe(&line.named()), safe(&became))?;
    }
    Ok(())
}

/// Whether the line stands beside a watch or a pattern already.
fn in_a_list(line: &Line) -> bool {
    line.became.iter().any(|what| what.starts_with("[[watch") || what.starts_with("exclude "))
}
