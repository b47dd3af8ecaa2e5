//! Paths are bytes. A [`RelPath`] names something below a watch root and can never leave it.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A path relative to a watch root: components joined by `/`, none of them empty, `.` or `..`. The root is empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RelPath(#[serde(with = "escaped")] Vec<u8>);

impl RelPath {
    pub fn root() -> Self {
        Self::default()
    }

    /// Accepts bytes as a relative path; `None` when a component is empty, `.`, `..` or holds a NUL.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = bytes.into();
        let sound = bytes.is_empty()
            || bytes
                .split(|b| *b == b'/')
                .all(|c| !c.is_empty() && c != b"." && c != b".." && !c.contains(&0));
        sound.then_some(Self(bytes))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// This path with one more component; `None` when `name` is no single component.
    pub fn join(&self, name: &[u8]) -> Option<Self> {
        if name.is_empty() || name == b"." || name == b".." || name.iter().any(|b| matches!(b, b'/' | 0)) {
            return None;
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Some(Self(bytes))
    }

    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|c| !c.is_empty())
    }

    pub fn name(&self) -> Option<&[u8]> {
        self.components().last()
    }

    /// The folder that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(Self(self.0[..cut].to_vec()))
    }

    /// Whether this path is `other` or lies below it.
    pub fn is_within(&self, other: &RelPath) -> bool {
        other.is_root()
            || self.0 == other.0
            || (self.0.starts_with(&other.0) && self.0.get(other.0.len()) == Some(&b'/'))
    }

    /// The absolute path below `root`.
    pub fn below(&self, root: &Path) -> PathBuf {
        if self.is_root() { root.to_path_buf() } else { root.join(self.as_path()) }
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", escape(&self.0))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

/// Bytes as text for people: printable text stays, everything else and the backslash become `\xNN`, `\u{…}` or `\\`.
///
/// Control characters, line and paragraph separators, and bidirectional marks are escaped, so that no name can
/// break a line, a message or a terminal.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c if hidden(c) && c.is_ascii() => out.push_str(&format!("\\x{:02x}", c as u32)),
                c if hidden(c) => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
                c => out.push(c),
            }
        }
        for b in chunk.invalid() {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    out
}

/// Undoes [`escape`]; `None` when the text is not one of its results.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let tail = &rest[at + 1..];
        rest = if let Some(t) = tail.strip_prefix('\\') {
            out.push(b'\\');
            t
        } else if let Some(t) = tail.strip_prefix('x') {
            out.push(u8::from_str_radix(t.get(..2)?, 16).ok()?);
            &t[2..]
        } else {
            let t = tail.strip_prefix("u{")?;
            let end = t.find('}')?;
            let c = char::from_u32(u32::from_str_radix(&t[..end], 16).ok()?)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            &t[end + 1..]
        };
    }
    out.extend_from_slice(rest.as_bytes());
    Some(out)
}

/// A path as text for people.
pub fn display(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}

fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{061c}')
        || ('\u{200b}'..='\u{200f}').contains(&c)
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2060}'..='\u{206f}').contains(&c)
}

/// Serde form of raw bytes: escaped text that reads back as the same bytes.
pub mod escaped {
    use super::*;
    use serde::{Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&escape(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = Cow::<str>::deserialize(d)?;
        unescape(&text).ok_or_else(|| D::Error::custom("not an escaped byte string"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_could_leave_the_root() {
        for bad in ["..", "a/../b", "a//b", "/a", "a/", ".", "a/./b", "a\0b"] {
            assert!(RelPath::new(bad).is_none(), "{bad:?}");
        }
        for bad in ["", ".", "..", "a/b", "a\0"] {
            assert!(RelPath::root().join(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn is_within_compares_whole_components() {
        let p = |s: &str| RelPath::new(s).expect("sound");
        assert!(p("a/b").is_within(&p("a")));
        assert!(p("a").is_within(&RelPath::root()));
        assert!(!p("ab").is_within(&p("a")));
        assert_eq!(p("a/b").parent(), Some(p("a")));
        assert_eq!(p("a").parent(), Some(RelPath::root()));
        assert_eq!(RelPath::root().parent(), None);
    }

    proptest! {
        #[test]
        fn escaped_text_is_printable_and_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = escape(&bytes);
            prop_assert!(!text.chars().any(hidden));
            prop_assert_eq!(unescape(&text), Some(bytes));
        }
    }
}
