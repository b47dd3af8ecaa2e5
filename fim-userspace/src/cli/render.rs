//! Two states of a path, for people: attributes and lines.

use std::io::{self, IsTerminal, Write};

use serde_json::{Value, json};

use super::view::{Content, Difference, View};
use crate::core::entry::{Entry, FileType};
use crate::core::event::{State, rfc3339};
use crate::core::linediff::{self, Comparison, LineKind};
use crate::core::path::escape;

/// What is said of contents that are beyond what is compared.
pub const TOO_LARGE: &str = "changed, too large to compare by line";
/// What stands for a line that is nobody's business.
pub const SECRET: &str = "(secret)";
/// Said where lines were masked.
pub const MASKED: &str = "what these lines say is secret; --secret shows them";

/// Colours, where a terminal shows them and nobody minds (no-color.org).
#[derive(Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    pub fn for_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self(io::stdout().is_terminal() && !unwanted && !dumb)
    }

    pub fn none() -> Self {
        Self(false)
    }

    pub fn line(self, kind: LineKind, text: &str) -> String {
        let code = match kind {
            LineKind::Hunk => "36",
            LineKind::Removed => "31",
            LineKind::Added => "32",
            LineKind::Context | LineKind::NoNewline => return text.to_owned(),
        };
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn title(self, text: &str) -> String {
        if self.0 { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Bytes of a file's line, safe for a terminal: tabs and backslashes stay, what is unprintable does not.
pub fn visible(bytes: &[u8]) -> String {
    let mut out = String::new();
    for piece in bytes.split_inclusive(|b| matches!(b, b'\t' | b'\\')) {
        match piece.split_last() {
            Some((last @ (b'\t' | b'\\'), rest)) => {
                out.push_str(&escape(rest));
                out.push(char::from(*last));
            }
            _ => out.push_str(&escape(piece)),
        }
    }
    out
}

/// What two states of a path differ in: attributes, and what can be said of the content.
pub struct Shown {
    pub attributes: Vec<String>,
    /// Lines of a unified diff with their signs, safe for a terminal.
    pub lines: Vec<(LineKind, String)>,
}

/// `masked`: the content is secret, and of its lines only their numbers are shown.
pub fn compare(
    old: Option<&Entry>,
    new: Option<&Entry>,
    contents: (Content, Content),
    masked: bool,
) -> Shown {
    let mut shown = Shown { attributes: attributes(old, new), lines: Vec::new() };
    let digest = |entry: Option<&Entry>| entry.and_then(|e| e.sha256);
    if digest(old) == digest(new) {
        return shown;
    }
    let told = |entry: Option<&Entry>| match entry.and_then(|e| e.sha256.map(|d| (e.size, d))) {
        Some((size, digest)) => format!("{digest} ({size} bytes)"),
        None => "nothing".to_owned(),
    };
    match unified(contents, masked) {
        Ok(lines) => shown.lines = lines,
        Err(why) => shown.attributes.insert(0, format!("{why}: {} -> {}", told(old), told(new))),
    }
    if masked && !shown.lines.is_empty() {
        shown.attributes.push(MASKED.to_owned());
    }
    shown
}

/// The lines of a unified diff with their signs, safe for a terminal, or why there are none.
pub fn unified(contents: (Content, Content), masked: bool) -> Result<Vec<(LineKind, String)>, String> {
    let bytes = |content| match content {
        Content::None => Ok(Vec::new()),
        Content::Whole(content) => Ok(content),
        Content::Long => Err(TOO_LARGE.to_owned()),
        Content::Away(why) => Err(format!("content differs, and cannot be shown since {why}")),
    };
    match linediff::compare(bytes(contents.0)?, bytes(contents.1)?) {
        Comparison::Lines(lines) if lines.rows.is_empty() => {
            Err(format!("encoding {} -> {}", lines.old.encoding(), lines.new.encoding()))
        }
        Comparison::Lines(lines) => {
            let lines = lines.unified().into_iter();
            Ok(lines.map(|line| signed(if masked { mask(line) } else { line })).collect())
        }
        Comparison::Binary => Err("binary files differ".to_owned()),
        Comparison::TooLarge => Err(TOO_LARGE.to_owned()),
    }
}

fn mask(line: linediff::Line) -> linediff::Line {
    match line.kind {
        LineKind::Hunk | LineKind::NoNewline => line,
        kind => linediff::Line { kind, text: SECRET.to_owned() },
    }
}

pub fn signed(line: linediff::Line) -> (LineKind, String) {
    let sign = match line.kind {
        LineKind::Hunk | LineKind::NoNewline => "",
        LineKind::Context => " ",
        LineKind::Removed => "-",
        LineKind::Added => "+",
    };
    (line.kind, format!("{sign}{}", visible(line.text.as_bytes())))
}

/// A line for each attribute that differs: `mode 0644 -> 0666`. For something that came or went, what it is.
fn attributes(old: Option<&Entry>, new: Option<&Entry>) -> Vec<String> {
    let (Some(old), Some(new)) = (old, new) else {
        return old.or(new).map(describe).into_iter().collect();
    };
    if old.kind != new.kind {
        return vec![format!("type {} -> {}", describe(old), describe(new))];
    }
    let mut out = Vec::new();
    let mut add = |name: &str, was: String, is: String| {
        if was != is {
            out.push(format!("{name} {was} -> {is}"));
        }
    };
    let link = |e: &Entry| e.target.as_deref().map(escape).unwrap_or_default();
    add("target", link(old), link(new));
    add("device", device(old), device(new));
    if old.kind != FileType::Symlink {
        add("mode", format!("{:04o}", old.mode), format!("{:04o}", new.mode));
    }
    add("owner", old.uid.to_string(), new.uid.to_string());
    add("group", old.gid.to_string(), new.gid.to_string());
    add("mtime", rfc3339(old.mtime_ns), rfc3339(new.mtime_ns));
    let names = old.xattrs.0.keys().chain(new.xattrs.0.keys());
    let names: std::collections::BTreeSet<_> = names.collect();
    for name in names {
        let value =
            |e: &Entry| e.xattrs.0.get(name).map_or("none".into(), |v| format!("\"{}\"", escape(&v.0)));
        add(&format!("xattr {}", escape(&name.0)), value(old), value(new));
    }
    out
}

fn device(entry: &Entry) -> String {
    format!("{}:{}", rustix::fs::major(entry.rdev), rustix::fs::minor(entry.rdev))
}

/// `regular file, 12 bytes, mode 0644, owner 0, group 0`
pub fn describe(entry: &Entry) -> String {
    let kind = match entry.kind {
        FileType::Regular => format!("regular file, {} bytes", entry.size),
        FileType::Directory => "directory".into(),
        FileType::Symlink => {
            format!("symlink to {}", entry.target.as_deref().map(escape).unwrap_or_default())
        }
        FileType::Fifo => "fifo".into(),
        FileType::Socket => "socket".into(),
        FileType::CharDevice => format!("character device {}", device(entry)),
        FileType::BlockDevice => format!("block device {}", device(entry)),
    };
    format!("{kind}, mode {:04o}, owner {}, group {}", entry.mode, entry.uid, entry.gid)
}

/// The two names over a diff.
#[derive(Clone, Copy)]
pub struct Names {
    pub old: &'static str,
    pub new: &'static str,
}

/// Prints a difference whose contents have been fetched.
pub fn print(
    out: &mut impl Write,
    paint: Paint,
    difference: &Difference,
    shown: &Shown,
    names: Names,
) -> io::Result<()> {
    let change = &difference.change;
    let path = escape(&difference.absolute().0);
    writeln!(out, "{}", paint.title(&format!("{} {path}", change.kind.as_str())))?;
    for line in &shown.attributes {
        writeln!(out, "  {line}")?;
    }
    if !shown.lines.is_empty() {
        writeln!(out, "{}", paint.line(LineKind::Removed, &format!("--- {path} ({})", names.old)))?;
        writeln!(out, "{}", paint.line(LineKind::Added, &format!("+++ {path} ({})", names.new)))?;
    }
    for (kind, text) in &shown.lines {
        writeln!(out, "{}", paint.line(*kind, text))?;
    }
    Ok(())
}

/// JSON as a terminal may show it: what stands in strings says the same, but nothing in it is obeyed or turns the writing.
pub fn harmless(json: &Value) -> String {
    let mut out = String::new();
    // Outside of strings JSON is ASCII.
    for c in json.to_string().chars() {
        match c.is_ascii() || escape(c.encode_utf8(&mut [0; 4]).as_bytes()).chars().eq([c]) {
            true if c != '\u{7f}' => out.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    out
}

pub fn as_json(difference: &Difference, shown: &Shown) -> Value {
    let change = &difference.change;
    let lines: Vec<&String> = shown.lines.iter().map(|(_, text)| text).collect();
    json!({
        "kind": change.kind,
        "path": difference.absolute(),
        "differences": change.aspects,
        "before": change.before.as_ref().map(State::from),
        "after": change.after.as_ref().map(|found| State::from(&found.entry)),
        "attributes": shown.attributes,
        "lines": lines,
    })
}

/// The approved version of a path against what is there.
pub fn against_present(view: &View, difference: &Difference) -> anyhow::Result<Shown> {
    let (change, watch) = (&difference.change, &difference.watch);
    let (old, new) = (change.before.as_ref(), change.after.as_ref().map(|found| &found.entry));
    let contents = (view.kept(old), view.standing(watch, &change.path, new)?);
    Ok(compare(old, new, contents, view.masks(&difference.absolute().0)))
}

/// The approved version of a path against another that is in the vault.
pub fn against_kept(view: &View, difference: &Difference) -> Shown {
    let change = &difference.change;
    let (old, new) = (change.before.as_ref(), change.after.as_ref().map(|found| &found.entry));
    compare(old, new, (view.kept(old), view.kept(new)), view.masks(&difference.absolute().0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::entry::tests::regular;
    use crate::core::entry::{Digest, XattrName, XattrValue};

    #[test]
    fn lines_are_safe_for_a_terminal_and_still_readable() {
        assert_eq!(visible(b"a\tb\\n\x1b[31m\xff\xc3\xa4"), "a\tb\\n\\x1b[31m\\xffä");
    }

    #[test]
    fn json_reads_back_and_moves_no_cursor() {
        let value = json!({ "text": "a\n\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\u{e9}\u{1f600}\\" });
        let said = harmless(&value);
        assert!(said.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{said:?}");
        assert!(said.contains("\u{e9}\u{1f600}"), "{said}");
        assert_eq!(serde_json::from_str::<Value>(&said).expect("JSON"), value);
    }

    #[test]
    fn each_attribute_has_its_line() {
        let (old, mut new) = (regular(1), regular(1));
        (new.mode, new.uid, new.gid, new.mtime_ns) = (0o4755, 71, 72, 1_000_000_000);
        new.xattrs.0.insert(XattrName(b"user.a\n".into()), XattrValue(b"\x1b".into()));
        let shown = compare(Some(&old), Some(&new), (Content::None, Content::None), false);
        let expected = [
            "mode 0644 -> 4755",
            "owner 1 -> 71",
            "group 2 -> 72",
            "mtime 1970-01-01T00:00:00.000000Z -> 1970-01-01T00:00:01.000000Z",
            "xattr user.a\\x0a none -> \"\\x1b\"",
        ];
        assert_eq!(shown.attributes, expected);
        let fifo = Entry { kind: FileType::Fifo, sha256: None, ..regular(1) };
        let told = attributes(Some(&old), Some(&fifo));
        assert_eq!(
            told,
            ["type regular file, 10 bytes, mode 0644, owner 1, group 2 -> fifo, mode 0644, owner 1, group 2"]
        );
    }

    #[test]
    fn content_is_shown_as_lines_or_as_digests() {
        let (old, new) = (regular(1), Entry { sha256: Some(Digest([8; 32])), ..regular(1) });
        let text = |t: &str| Content::Whole(t.into());
        let shown = compare(Some(&old), Some(&new), (text("a\nb\n"), text("a\n\x1b\n")), false);
        let lines: Vec<&str> = shown.lines.iter().map(|(_, t)| t.as_str()).collect();
        assert_eq!(lines, ["@@ -1,2 +1,2 @@", " a", "-b", "+\\x1b"]);
        let shown = compare(Some(&old), Some(&new), (text("a"), text("\0")), false);
        assert!(shown.lines.is_empty() && shown.attributes[0].starts_with("binary files differ: 0101"));
        let shown = compare(Some(&old), None, (text("a\n"), Content::None), false);
        assert_eq!(shown.lines.len(), 2);
        let shown = compare(Some(&old), Some(&new), (text("a\nkey\n"), text("a\nother\n")), true);
        let lines: Vec<&str> = shown.lines.iter().map(|(_, t)| t.as_str()).collect();
        assert_eq!(lines, ["@@ -1,2 +1,2 @@", " (secret)", "-(secret)", "+(secret)"]);
        assert_eq!(shown.attributes, [MASKED]);
    }
}
