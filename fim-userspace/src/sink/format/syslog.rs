//! What both headers of syslog share.

use crate::config::Facility;
use crate::core::policy::Severity;

/// Who sends: the same for all messages of a run.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub facility: Facility,
    /// fim's own process id.
    pub pid: u32,
}

/// What stands at the end of a body that was cut.
pub(super) const CUT: &str = "… (cut)";

impl Origin {
    /// `<PRI>` (RFC 5424, 6.2.1).
    pub(super) fn priority(&self, severity: Severity) -> String {
        let level = match severity {
            Severity::Low => 6,
            Severity::Medium => 4,
            Severity::High => 3,
            Severity::Critical => 2,
        };
        format!("<{}>", u16::from(self.facility.0) * 8 + level)
    }
}

/// Printable US-ASCII without spaces, `longest` characters at most, `-` for nothing.
pub(super) fn token(text: &str, longest: usize) -> String {
    let clean: String =
        text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(longest).collect();
    if clean.is_empty() { "-".into() } else { clean }
}

/// `text` with a mark at its end, `longest` bytes at most; never half a character.
pub(super) fn cut(text: &str, longest: usize) -> String {
    let mut end = longest.saturating_sub(CUT.len()).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{CUT}", &text[..end])
}
