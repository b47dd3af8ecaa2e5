//! Two versions of a text, line by line, within bounds that hold for any content.
//!
//! A line is what ends with a newline. What both versions begin and end with is left out before anything is counted, so
//! that a change in a long file costs what the change is long.

mod myers;
mod text;
mod unified;

use std::collections::HashMap;
use std::ops::Range;

pub use text::is_binary;
pub use unified::{Line, LineKind};

use text::Text;

/// Bytes of one version: with longer ones nothing is compared. Memory is taken for both, as they are and as UTF-8.
pub const MOST_BYTES: u64 = 4 << 20;
/// Lines of one version between what is the same at the beginning and at the end.
const MOST_LINES: usize = 1 << 17;
/// Steps of the search (`myers`), each a few nanoseconds at most.
const MOST_STEPS: u64 = 6_000_000;
/// Runs of lines that differ.
const MOST_ROWS: usize = 4096;
/// Unchanged lines shown around a change.
const CONTEXT: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    Insert,
    Update,
    Delete,
}

impl RowKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// One run of lines that differ: which of the old ones (from 0) stand for which of the new ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub kind: RowKind,
    pub old: Range<usize>,
    pub new: Range<usize>,
}

/// What two contents are to each other.
#[derive(Debug)]
pub enum Comparison {
    Lines(Lines),
    /// One of them is no text.
    Binary,
    /// They are longer, or differ in more, than is compared.
    TooLarge,
}

/// Two texts and where they differ.
#[derive(Debug)]
pub struct Lines {
    pub rows: Vec<Row>,
    pub old: Version,
    pub new: Version,
}

/// One text, with the places of the lines that may differ and a few around them.
#[derive(Debug)]
pub struct Version {
    text: Text,
    /// The number of the first line in the window.
    first: usize,
    /// Where each line of the window begins, and where the last one ends.
    starts: Vec<u32>,
}

impl Version {
    /// By its name in the Encoding Standard (`UTF-8`, `UTF-16LE`, `windows-1252`).
    pub fn encoding(&self) -> &'static str {
        self.text.encoding
    }

    /// Lines by number (from 0), which lie in the window, as text with their newlines.
    pub fn lines(&self, range: &Range<usize>) -> String {
        self.text.shown(self.bytes(range))
    }

    fn bytes(&self, range: &Range<usize>) -> &[u8] {
        let place = |line: usize| {
            let last = self.starts.len() - 1;
            self.starts[line.saturating_sub(self.first).min(last)] as usize
        };
        &self.text.content[place(range.start)..place(range.end)]
    }

    fn count(&self) -> usize {
        self.starts.len() - 1
    }

    fn window(&self) -> Range<usize> {
        self.first..self.first + self.count()
    }
}

/// Compares two contents.
pub fn compare(old: Vec<u8>, new: Vec<u8>) -> Comparison {
    if old.len().max(new.len()) as u64 > MOST_BYTES {
        return Comparison::TooLarge;
    }
    let Some((old, new)) = text::read(old, new) else { return Comparison::Binary };
    let (head, tail) = same(&old.content, &new.content);
    let windowed = |text: Text| version(text, head, tail);
    let (Some(old), Some(new)) = (windowed(old), windowed(new)) else { return Comparison::TooLarge };
    let numbers = (old.count(), new.count());
    let (a, b) = numbered(&old, &new);
    let Ok(changed) = myers::compare(&a, &b, MOST_STEPS) else { return Comparison::TooLarge };
    match rows(&changed, numbers, (old.first, new.first)) {
        Some(rows) => Comparison::Lines(Lines { rows, old, new }),
        None => Comparison::TooLarge,
    }
}

/// How many bytes both begin and end with, in whole lines.
fn same(old: &[u8], new: &[u8]) -> (usize, usize) {
    let equal = |(a, b): &(&u8, &u8)| a == b;
    let head = old.iter().zip(new).take_while(equal).count();
    let head = memchr::memrchr(b'\n', &old[..head]).map_or(0, |at| at + 1);
    let (left, right) = (&old[head..], &new[head..]);
    let tail = left.iter().rev().zip(right.iter().rev()).take_while(equal).count();
    let begins = |side: &[u8]| side.len() == tail || side[side.len() - tail - 1] == b'\n';
    if tail == 0 || (begins(left) && begins(right)) {
        return (head, tail);
    }
    let same = &left[left.len() - tail..];
    let tail = memchr::memchr(b'\n', same).map_or(0, |at| tail - at - 1);
    (head, tail)
}

/// A text of which the first `head` and the last `tail` bytes are set aside, but for a few lines for context; `None` when
/// there are too many lines between.
fn version(text: Text, head: usize, tail: usize) -> Option<Version> {
    let content = &text.content;
    let (mut from, mut to) = (head, content.len() - tail);
    for _ in 0..CONTEXT {
        from = memchr::memrchr(b'\n', &content[..from.saturating_sub(1)]).map_or(0, |at| at + 1);
        to = memchr::memchr(b'\n', &content[to..]).map_or(content.len(), |at| to + at + 1);
    }
    let window = &content[from..to];
    if memchr::memchr_iter(b'\n', window).count() > MOST_LINES {
        return None;
    }
    let first = memchr::memchr_iter(b'\n', &content[..from]).count();
    let mut starts = vec![from as u32];
    starts.extend(memchr::memchr_iter(b'\n', window).map(|at| (from + at + 1) as u32));
    if starts.last() != Some(&(to as u32)) {
        starts.push(to as u32);
    }
    Some(Version { text, first, starts })
}

/// Each line of both windows as a number; equal lines have equal numbers.
fn numbered(old: &Version, new: &Version) -> (Vec<u32>, Vec<u32>) {
    fn all<'a>(version: &'a Version, known: &mut HashMap<&'a [u8], u32>) -> Vec<u32> {
        let places = version.starts.windows(2);
        places
            .map(|place| {
                let next = known.len() as u32;
                let line = &version.text.content[place[0] as usize..place[1] as usize];
                *known.entry(line).or_insert(next)
            })
            .collect()
    }
    let mut known = HashMap::new();
    let a = all(old, &mut known);
    (a, all(new, &mut known))
}

/// The runs in which anything is marked; `None` when there are too many.
fn rows(
    changed: &myers::Changed,
    (olds, news): (usize, usize),
    (old_first, new_first): (usize, usize),
) -> Option<Vec<Row>> {
    let mut rows = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < olds || j < news {
        let run = |marks: &[bool], from: usize| marks[from..].iter().take_while(|marked| **marked).count();
        let (gone, come) = (run(&changed.removed, i), run(&changed.added, j));
        let kind = match (gone, come) {
            (0, 0) => {
                (i, j) = (i + 1, j + 1);
                continue;
            }
            (0, _) => RowKind::Insert,
            (_, 0) => RowKind::Delete,
            _ => RowKind::Update,
        };
        let place = |first: usize, at: usize, count: usize| first + at..first + at + count;
        rows.push(Row { kind, old: place(old_first, i, gone), new: place(new_first, j, come) });
        if rows.len() > MOST_ROWS {
            return None;
        }
        (i, j) = (i + gone, j + come);
    }
    Some(rows)
}

#[cfg(test)]
mod tests;
