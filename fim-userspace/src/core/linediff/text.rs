//! Which text some content is.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// So much of a text without other signs is looked at to guess its encoding.
const SAMPLE: usize = 64 * 1024;
/// A text in UTF-16 without a mark is told by its ASCII characters: so many of a hundred must be.
const PLAIN_ASCII: usize = 60;

/// How the bytes of a text are to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// UTF-8; what is not is shown as `\xNN`.
    Utf8,
    /// An older encoding, as far as can be guessed.
    Legacy(&'static Encoding),
}

/// A text whose lines end with the byte `\n`.
#[derive(Debug)]
pub struct Text {
    pub content: Vec<u8>,
    pub script: Script,
    /// The encoding of the original, by its name in the Encoding Standard.
    pub encoding: &'static str,
}

/// Two versions of a text, understood alike; `None` when one of them is none, or is longer than `most` bytes once it is
/// UTF-8.
pub fn read(old: Vec<u8>, new: Vec<u8>) -> Option<(Text, Text)> {
    let wide = (wide(&old), wide(&new));
    if wide != (None, None) {
        return Some((transcoded(old, wide.0)?, transcoded(new, wide.1)?));
    }
    if is_binary(&old) || is_binary(&new) {
        return None;
    }
    let valid = (std::str::from_utf8(&old).is_ok(), std::str::from_utf8(&new).is_ok());
    // A damaged version of what was UTF-8 is damaged UTF-8.
    let utf8 = |valid: bool, content: &[u8]| valid && !content.is_ascii();
    let script = match valid {
        (true, true) => Script::Utf8,
        _ if utf8(valid.0, &old) || utf8(valid.1, &new) => Script::Utf8,
        _ => Script::Legacy(guess(if valid.0 { &new } else { &old })),
    };
    let text = |content: Vec<u8>| {
        let script = if content.is_ascii() { Script::Utf8 } else { script };
        let encoding = match script {
            Script::Utf8 => UTF_8.name(),
            Script::Legacy(encoding) => encoding.name(),
        };
        Text { content, script, encoding }
    };
    Some((text(old), text(new)))
}

/// Whether the content is for programs rather than for people, as diff(1) and git(1) tell it: it holds a NUL, and is not
/// UTF-16.
pub fn is_binary(content: &[u8]) -> bool {
    memchr::memchr(0, content).is_some()
}

/// Which UTF-16 it is, by its mark or plainly by its characters.
fn wide(content: &[u8]) -> Option<&'static Encoding> {
    match Encoding::for_bom(content) {
        Some((encoding, _)) if encoding != UTF_8 => return Some(encoding),
        _ => {}
    }
    let sample = &content[..content.len().min(SAMPLE)];
    if !content.len().is_multiple_of(2) || !is_binary(sample) {
        return None;
    }
    let pairs = sample.len() / 2;
    let ascii = |at: usize| {
        let character =
            |pair: &&[u8]| pair[1 - at] == 0 && matches!(pair[at], b'\t' | b'\n' | b'\r' | b' '..=b'~');
        sample.chunks_exact(2).filter(character).count() * 100 >= pairs * PLAIN_ASCII
    };
    match (ascii(0), ascii(1)) {
        (true, false) => Some(UTF_16LE),
        (false, true) => Some(UTF_16BE),
        _ => None,
    }
}

/// As UTF-8; `None` for what is no text.
fn transcoded(content: Vec<u8>, wide: Option<&'static Encoding>) -> Option<Text> {
    let (encoding, unsound) = match wide {
        Some(encoding) => (encoding, false),
        None if is_binary(&content) => return None,
        None if std::str::from_utf8(&content).is_ok() => (UTF_8, false),
        None => (guess(&content), true),
    };
    let (text, errors) = encoding.decode_with_bom_removal(&content);
    // In UTF-16 a lone half of a character says that it is none.
    if (errors && !unsound) || is_binary(text.as_bytes()) {
        return None;
    }
    let content = text.into_owned().into_bytes();
    Some(Text { content, script: Script::Utf8, encoding: encoding.name() })
}

/// The likeliest encoding of a text that is not UTF-8.
fn guess(content: &[u8]) -> &'static Encoding {
    let first = content.iter().position(|byte| !byte.is_ascii()).unwrap_or(0);
    let sample = &content[first..];
    let sample = &sample[..sample.len().min(SAMPLE)];
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(sample, sample.len() == content.len() - first);
    detector.guess(None, Utf8Detection::Deny)
}

impl Text {
    /// Some of its lines as text.
    pub fn shown(&self, bytes: &[u8]) -> String {
        match self.script {
            Script::Utf8 => match std::str::from_utf8(bytes) {
                Ok(text) => text.to_owned(),
                Err(_) => damaged(bytes),
            },
            Script::Legacy(encoding) => match encoding.decode_without_bom_handling(bytes) {
                (Cow::Borrowed(text), _) => text.to_owned(),
                (Cow::Owned(text), _) => text,
            },
        }
    }
}

fn damaged(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, big: bool) -> Vec<u8> {
        let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn encodings_are_told_apart() {
        let german = "Die Größe der Tür überrascht müde Köche\n";
        let latin: Vec<u8> = german.chars().map(|c| c as u8).collect();
        let marked = |big: bool| utf16(&format!("\u{feff}{german}"), big);
        let cases: [(&str, Vec<u8>, Option<&str>); 9] = [
            ("plain", b"a\n".into(), Some("UTF-8")),
            ("empty", Vec::new(), Some("UTF-8")),
            ("utf-8", german.into(), Some("UTF-8")),
            ("latin", latin, Some("windows-1252")),
            ("utf-16 with a mark", marked(false), Some("UTF-16LE")),
            ("and the other way", marked(true), Some("UTF-16BE")),
            ("utf-16 without one", utf16(german, false), Some("UTF-16LE")),
            ("and the other way", utf16(german, true), Some("UTF-16BE")),
            ("binary", b"\x7fELF\0\0\x01\x02\x03".into(), None),
        ];
        for (name, content, expected) in cases {
            let read = read(content.clone(), content);
            assert_eq!(read.as_ref().map(|(_, text)| text.encoding), expected, "{name}");
            if let Some((_, text)) = read.filter(|(_, text)| text.content.len() > 2) {
                assert_eq!(text.shown(&text.content), german, "{name}");
            }
        }
    }

    #[test]
    fn two_versions_are_understood_alike() {
        let texts = |old: &[u8], new: &[u8]| {
            let (old, new) = read(old.into(), new.into()).expect("text");
            (old.encoding, new.encoding, new.shown(&new.content))
        };
        let damaged = texts("Tür\n".as_bytes(), b"T\xfcr \\x\n");
        assert_eq!(damaged, ("UTF-8", "UTF-8", "T\\xfcr \\x\n".into()));
        let wide = texts("a\nb\n".as_bytes(), &utf16("\u{feff}a\nB\n", false));
        assert_eq!(wide, ("UTF-8", "UTF-16LE", "a\nB\n".into()));
        assert!(read(b"a\n".into(), utf16("a\0b\nplain text\n", false)).is_none());
        assert!(read(b"\xd8\x00\x00\n".into(), b"\xff\xfe\x00\xd8".into()).is_none());
    }
}
