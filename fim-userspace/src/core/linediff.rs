//! Two versions of a text, line by line. A line is what ends with a newline; lines are bytes, of whatever encoding.

use std::ops::Range;
use std::time::Instant;

use similar::{Algorithm, DiffOp, DiffTag, capture_diff_slices_deadline, group_diff_ops};

/// Unchanged lines shown around a change.
const CONTEXT: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    Insert,
    Update,
    Delete,
}

/// One run of lines that differ: which of the old ones (from 0) stand for which of the new ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub kind: RowKind,
    pub old: Range<usize>,
    pub new: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// `@@ -1,3 +1,4 @@`
    Hunk,
    Context,
    Removed,
    Added,
    /// The line before has no newline at its end.
    NoNewline,
}

/// One line of a unified diff, without its newline and without the sign that begins it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub kind: LineKind,
    pub text: Vec<u8>,
}

/// Whether the content is for programs rather than for people, as diff(1) and git(1) tell it: it holds a NUL.
pub fn is_binary(content: &[u8]) -> bool {
    content.contains(&0)
}

fn lines(content: &[u8]) -> Vec<&[u8]> {
    content.split_inclusive(|b| *b == b'\n').collect()
}

/// Every run of lines that differ, in order. After `deadline` what is left is told as one coarse run.
pub fn rows(old: &[u8], new: &[u8], deadline: Option<Instant>) -> Vec<Row> {
    let (old, new) = (lines(old), lines(new));
    let ops = capture_diff_slices_deadline(Algorithm::Myers, &old, &new, deadline);
    ops.iter().filter_map(row).collect()
}

fn row(op: &DiffOp) -> Option<Row> {
    let kind = match op.tag() {
        DiffTag::Equal => return None,
        DiffTag::Insert => RowKind::Insert,
        DiffTag::Replace => RowKind::Update,
        DiffTag::Delete => RowKind::Delete,
    };
    Some(Row { kind, old: op.old_range(), new: op.new_range() })
}

/// The lines of a unified diff, without the two lines that name the files; empty when nothing differs.
pub fn unified(old: &[u8], new: &[u8], deadline: Option<Instant>) -> Vec<Line> {
    let (old, new) = (lines(old), lines(new));
    let ops = capture_diff_slices_deadline(Algorithm::Myers, &old, &new, deadline);
    let mut out = Vec::new();
    for group in group_diff_ops(ops, CONTEXT) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let (from, to) =
            (first.old_range().start..last.old_range().end, first.new_range().start..last.new_range().end);
        if group.iter().all(|op| op.tag() == DiffTag::Equal) {
            continue;
        }
        let text = format!("@@ -{} +{} @@", span(&from), span(&to)).into_bytes();
        out.push(Line { kind: LineKind::Hunk, text });
        for op in &group {
            if op.tag() == DiffTag::Equal {
                put(&mut out, LineKind::Context, &old[op.old_range()]);
                continue;
            }
            put(&mut out, LineKind::Removed, &old[op.old_range()]);
            put(&mut out, LineKind::Added, &new[op.new_range()]);
        }
    }
    out
}

/// `start,count` with lines counted from 1; an empty range names the line before it.
fn span(range: &Range<usize>) -> String {
    match range.len() {
        0 => format!("{},0", range.start),
        1 => format!("{}", range.start + 1),
        n => format!("{},{n}", range.start + 1),
    }
}

fn put(out: &mut Vec<Line>, kind: LineKind, lines: &[&[u8]]) {
    for line in lines {
        let text = line.strip_suffix(b"\n");
        out.push(Line { kind, text: text.unwrap_or(line).to_vec() });
        if text.is_none() {
            out.push(Line { kind: LineKind::NoNewline, text: b"\\ No newline at end of file".to_vec() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(old: &str, new: &str) -> String {
        let sign = |kind| match kind {
            LineKind::Hunk | LineKind::NoNewline => "",
            LineKind::Context => " ",
            LineKind::Removed => "-",
            LineKind::Added => "+",
        };
        let line = |l: Line| format!("{}{}\n", sign(l.kind), String::from_utf8_lossy(&l.text));
        unified(old.as_bytes(), new.as_bytes(), None).into_iter().map(line).collect()
    }

    #[test]
    fn looks_as_diff_u_does() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n";
        let new = "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\nelf\n12";
        let expected = "@@ -1,3 +1,4 @@\n+0\n 1\n 2\n 3\n@@ -8,5 +9,5 @@\n 8\n 9\n 10\n-11\n-12\n+elf\n+12\n\\ No newline at end of file\n";
        assert_eq!(shown(old, new), expected);
        assert_eq!(shown("", "a\n"), "@@ -0,0 +1 @@\n+a\n");
        assert_eq!(shown("a\n", ""), "@@ -1 +0,0 @@\n-a\n");
        assert_eq!(shown("a\n", "a\n"), "");
    }

    #[test]
    fn rows_tell_inserted_updated_and_deleted_lines() {
        let rows = rows(b"a\nb\nc\nd\n", b"a\nB\nc\nd\ne\n", None);
        let expected = [
            Row { kind: RowKind::Update, old: 1..2, new: 1..2 },
            Row { kind: RowKind::Insert, old: 4..4, new: 4..5 },
        ];
        assert_eq!(rows, expected);
        let rows = super::rows(b"a\nb\n", b"b\n", None);
        assert_eq!(rows, [Row { kind: RowKind::Delete, old: 0..1, new: 0..0 }]);
    }

    #[test]
    fn a_deadline_that_is_over_makes_it_coarse_and_never_wrong() {
        let old: String = (0..3000).map(|i| format!("{}\n", i * 7 % 1000)).collect();
        let new: String = (0..3000).map(|i| format!("{}\n", i * 11 % 1000)).collect();
        let rows = rows(old.as_bytes(), new.as_bytes(), Some(Instant::now()));
        assert_eq!(apply(old.as_bytes(), new.as_bytes(), &rows), new.as_bytes());
    }

    fn apply(old: &[u8], new: &[u8], rows: &[Row]) -> Vec<u8> {
        let (old, new) = (lines(old), lines(new));
        let (mut out, mut at) = (Vec::new(), 0);
        for row in rows {
            out.extend_from_slice(&old[at..row.old.start].concat());
            out.extend_from_slice(&new[row.new.clone()].concat());
            at = row.old.end;
        }
        out.extend_from_slice(&old[at..].concat());
        out
    }

    proptest! {
        #[test]
        fn the_rows_turn_old_into_new(old in "[ab\n]{0,40}", new in "[ab\n]{0,40}") {
            let rows = rows(old.as_bytes(), new.as_bytes(), None);
            prop_assert_eq!(apply(old.as_bytes(), new.as_bytes(), &rows), new.as_bytes());
            prop_assert_eq!(rows.is_empty(), old == new);
        }
    }
}
