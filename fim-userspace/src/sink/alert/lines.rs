//! The lines that a change removed and added, for receivers with room: as the ledger keeps them, what is secret masked.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::message::escape::Plain;
use crate::config::DIFFERENCES;
use crate::core::event::Event;
use crate::core::path::unescape;
use crate::core::policy::Secrets;
use crate::store::lines::{Compared, Difference, Outcome, Side, Since};
use crate::store::{Store, StoreError};

/// Lines of one message, and characters of each.
const LINES: usize = 60;
const LINE: usize = 400;

/// What the ledger knows by now.
pub enum Known {
    /// The versions are not compared yet.
    Soon,
    Lines(Vec<Plain>),
}

/// Of the record with this number, against what was approved.
pub fn lines(store: &Store, seq: u64, event: &Event, secrets: &Secrets) -> Result<Known, StoreError> {
    // Without that sink nobody compares.
    if store.cursor_get(DIFFERENCES)?.is_some_and(|cursor| cursor < seq) {
        return Ok(Known::Soon);
    }
    let covered = |path: &Path| secrets.cover(path);
    let hidden = event.old_path.as_deref().is_some_and(|old| {
        // A path that cannot be read back is shown to nobody.
        unescape(old).is_none_or(|old| covered(Path::new(&OsString::from_vec(old))))
    });
    let mut out = Vec::new();
    for (_, since, compared) in store.compared_by(seq, seq)? {
        if since == Since::Approved {
            let masked = hidden || covered(&compared.pair.path);
            told(&compared, &store.differences(compared.id)?, masked, &mut out);
        }
    }
    if out.len() > LINES {
        let more = out.len() - LINES;
        out.truncate(LINES);
        out.push(Plain::new(&format!("and {more} more lines")));
    }
    Ok(Known::Lines(out))
}

fn told(compared: &Compared, differences: &[Difference], masked: bool, out: &mut Vec<Plain>) {
    let why = match compared.outcome {
        Outcome::Lines => None,
        Outcome::Binary => Some("the content is not text"),
        Outcome::TooLarge => Some("too large to compare line by line"),
        Outcome::NotKept | Outcome::Unfinished => {
            Some("the lines cannot be compared: not both versions are kept")
        }
    };
    out.extend(why.map(Plain::new));
    for difference in differences {
        out.push(Plain::new(&format!("@@ -{} +{} @@", span(&difference.old), span(&difference.new))));
        for (side, sign) in [(&difference.old, '-'), (&difference.new, '+')] {
            match &side.text {
                Some(text) if !masked => {
                    let lines = text.lines().take(LINES + 1);
                    out.extend(lines.map(|line| Plain::new(&format!("{sign}{line}")).clip(LINE)));
                }
                _ if side.lines > 0 => {
                    let what = if masked || difference.omitted.is_none_or(|o| o.as_str() == "secret") {
                        "secret"
                    } else {
                        "not kept"
                    };
                    out.push(Plain::new(&format!("{sign}({} lines, {what})", side.lines)));
                }
                _ => {}
            }
        }
    }
}

/// `3`, or `3,4` for four lines.
fn span(side: &Side) -> String {
    match side.lines {
        1 => side.line.to_string(),
        lines => format!("{},{lines}", side.line),
    }
}
