//! Makes text that others control harmless, for each place it may go to.
//!
//! A file name, a program's name, an answer of a server: everything begins as [`Plain`], and each output has one function
//! that turns `Plain` into its own notation. HTML is maud's work, JSON serde's, mail headers lettre's; they get `Plain`.

use std::fmt;

use crate::sink::line::printable;

/// One line without control characters, line breaks, invisible characters and bidirectional marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plain(String);

impl Plain {
    pub fn new(text: &str) -> Self {
        let text = printable(text);
        if !text.chars().any(invisible) {
            return Self(text);
        }
        let shown = |c: char| match invisible(c) {
            true => format!("\\u{{{:x}}}", u32::from(c)),
            false => c.to_string(),
        };
        Self(text.chars().map(shown).collect())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// At most `most` characters: of what is longer the beginning and the end, with `..` between them.
    pub fn clip(&self, most: usize) -> Self {
        let count = self.0.chars().count();
        if count <= most {
            return self.clone();
        }
        let kept = most.saturating_sub(2);
        let (head, tail) = (kept / 2, kept - kept / 2);
        let begin: String = self.0.chars().take(head).collect();
        let end: String = self.0.chars().skip(count - tail).collect();
        Self(format!("{begin}..{end}"))
    }
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What `printable` leaves and no reader sees: soft hyphens, fillers, annotation marks, tags.
fn invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffc}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Slack reads `&`, `<` and `>` as its own in every text; the rest of its markup only where a text asks for it, which
/// ours never do.
pub fn slack(text: &Plain) -> String {
    text.as_str().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Discord's markdown: a backslash before every character that could begin markup, a mention or a link.
pub fn discord(text: &Plain) -> String {
    let special =
        |c: char| c.is_ascii_punctuation() && !matches!(c, '/' | '.' | ',' | ';' | '\'' | '"' | '%');
    text.as_str().chars().fold(String::new(), |mut out, c| {
        if special(c) {
            out.push('\\');
        }
        out.push(c);
        out
    })
}

/// The characters that one septet, or two, of an SMS can hold (3GPP TS 23.038) stay; others become `\u{…}`.
pub fn gsm(text: &Plain) -> Plain {
    let shown = |c: char| match super::gsm::septets(c) {
        Some(_) => c.to_string(),
        None => format!("\\u{{{:x}}}", u32::from(c)),
    };
    Plain(text.as_str().chars().map(shown).collect())
}
