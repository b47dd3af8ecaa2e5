//! The lines of a unified diff.

use std::ops::Range;

use super::{CONTEXT, Lines, Row, Version};

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
    pub text: String,
}

impl Lines {
    /// The lines of a unified diff, without the two that name the files; empty when no line differs.
    pub fn unified(&self) -> Vec<Line> {
        let mut out = Vec::new();
        let mut rest = &self.rows[..];
        while let Some(first) = rest.first() {
            let near = |pair: &[Row]| pair[1].old.start - pair[0].old.end <= 2 * CONTEXT;
            let count = 1 + rest.windows(2).take_while(|pair| near(pair)).count();
            let (hunk, others) = rest.split_at(count);
            self.hunk(first, hunk, &mut out);
            rest = others;
        }
        out
    }

    fn hunk(&self, first: &Row, rows: &[Row], out: &mut Vec<Line>) {
        let last = rows.last().unwrap_or(first);
        // What is the same on both sides has the same length on both.
        let before = CONTEXT.min(first.old.start - self.old.window().start);
        let after = CONTEXT.min(self.old.window().end - last.old.end);
        let old = first.old.start - before..last.old.end + after;
        let new = first.new.start - before..last.new.end + after;
        let text = format!("@@ -{} +{} @@", span(&old), span(&new));
        out.push(Line { kind: LineKind::Hunk, text });
        let mut at = old.start;
        for row in rows {
            put(out, LineKind::Context, &self.old, at..row.old.start);
            put(out, LineKind::Removed, &self.old, row.old.clone());
            put(out, LineKind::Added, &self.new, row.new.clone());
            at = row.old.end;
        }
        put(out, LineKind::Context, &self.old, at..old.end);
    }
}

/// `start,count` with lines counted from 1; an empty range names the line before it.
fn span(range: &Range<usize>) -> String {
    match range.len() {
        0 => format!("{},0", range.start),
        1 => format!("{}", range.start + 1),
        n => format!("{},{n}", range.start + 1),
    }
}

fn put(out: &mut Vec<Line>, kind: LineKind, version: &Version, range: Range<usize>) {
    for line in range {
        let text = version.lines(&(line..line + 1));
        let whole = text.strip_suffix('\n');
        out.push(Line { kind, text: whole.unwrap_or(&text).to_owned() });
        if whole.is_none() {
            out.push(Line { kind: LineKind::NoNewline, text: "\\ No newline at end of file".to_owned() });
        }
    }
}
