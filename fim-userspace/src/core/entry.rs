//! A file's approved state, and the comparison of two states.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use super::flags::Flags;
use super::path::escaped;

/// SHA-256 of a file's content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    pub fn from_hex(hex: &str) -> Option<Self> {
        let mut out = [0; 32];
        if hex.len() != 64 || !hex.is_ascii() {
            return None;
        }
        for (byte, pair) in out.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(out))
    }
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(d)?;
        Self::from_hex(&hex).ok_or_else(|| serde::de::Error::custom("not 64 hexadecimal digits"))
    }
}

/// What kind of file it is (`S_IFMT` of inode(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileType {
    Regular,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

/// Extended attributes by name; both name and value are bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Xattrs(pub BTreeMap<XattrName, XattrValue>);

impl Xattrs {
    /// No file system has a name like it: xattr(7) wants one of four namespaces before the first point.
    const BEYOND: &[u8] = b"fim.beyond";

    /// Stands for more attributes than fim keeps; `digest` is that of all of them where they could be read at all.
    pub fn beyond(digest: &[u8]) -> Self {
        Self(BTreeMap::from([(XattrName(Self::BEYOND.to_vec()), XattrValue(digest.to_vec()))]))
    }

    /// Whether these are all that the file has. What is beyond fim's limits can be compared and never put back or removed
    /// one by one.
    pub fn are_whole(&self) -> bool {
        !self.0.contains_key(&XattrName(Self::BEYOND.to_vec()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct XattrName(#[serde(with = "escaped")] pub Vec<u8>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct XattrValue(#[serde(with = "escaped")] pub Vec<u8>);

/// The state of one file.
///
/// Directories carry no size and no mtime: both change with every file made inside, which is a change of that file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub kind: FileType,
    /// Content digest; regular files only. `None` for a regular file that could not be read.
    pub sha256: Option<Digest>,
    /// Bytes; regular files and symlinks, else 0.
    pub size: u64,
    /// Permission bits with set-id and sticky, `0o7777`.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Nanoseconds since the epoch; 0 for directories.
    pub mtime_ns: i64,
    #[serde(default)]
    pub xattrs: Xattrs,
    /// Link target; symlinks only.
    #[serde(default, with = "escaped_option")]
    pub target: Option<Vec<u8>>,
    /// Device number (`st_rdev`); devices only, else 0.
    #[serde(default)]
    pub rdev: u64,
    /// Regular files and directories only.
    #[serde(default, skip_serializing_if = "Flags::is_empty")]
    pub flags: Flags,
}

/// Which file a name stands for right now, and whether anything may have touched it since: device, inode, change time.
/// Equal identities of a regular file mean that its entry need not be read again, except by the rolling scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub dev: u64,
    pub ino: u64,
    pub ctime_ns: i64,
    pub nlink: u64,
}

/// Both faces of one file: its state and its identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub entry: Entry,
    pub identity: Identity,
}

/// One way in which two entries differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    Type,
    Content,
    Target,
    Device,
    Mode,
    Owner,
    Group,
    Xattrs,
    /// chattr(1) flags, or that it is a mount point.
    Flags,
    Mtime,
}

/// Aspects of an entry; by default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AspectSet(u16);

impl AspectSet {
    pub fn contains(self, aspect: Aspect) -> bool {
        self.0 & (1 << aspect as u16) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Aspect> for AspectSet {
    fn from_iter<I: IntoIterator<Item = Aspect>>(aspects: I) -> Self {
        Self(aspects.into_iter().fold(0, |set, aspect| set | 1 << aspect as u16))
    }
}

impl Entry {
    /// As [`Entry::differences`], without what is `ignored`.
    pub fn differences_but(&self, now: &Entry, ignored: AspectSet) -> Vec<Aspect> {
        let mut aspects = self.differences(now);
        aspects.retain(|aspect| !ignored.contains(*aspect));
        aspects
    }

    /// Every way in which `now` differs from this entry, most serious first. Empty when nothing differs.
    pub fn differences(&self, now: &Entry) -> Vec<Aspect> {
        if self.kind != now.kind {
            return vec![Aspect::Type];
        }
        let content = self.sha256 != now.sha256 || (self.kind == FileType::Regular && self.size != now.size);
        [
            (content, Aspect::Content),
            (self.target != now.target, Aspect::Target),
            (self.rdev != now.rdev, Aspect::Device),
            // A symlink's mode means nothing on Linux (symlink(7)).
            (self.kind != FileType::Symlink && self.mode != now.mode, Aspect::Mode),
            (self.uid != now.uid, Aspect::Owner),
            (self.gid != now.gid, Aspect::Group),
            (self.xattrs != now.xattrs, Aspect::Xattrs),
            (self.flags.differ(now.flags), Aspect::Flags),
            (self.mtime_ns != now.mtime_ns, Aspect::Mtime),
        ]
        .into_iter()
        .filter_map(|(differs, aspect)| differs.then_some(aspect))
        .collect()
    }
}

/// Serde form of optional raw bytes.
pub mod escaped_option {
    use crate::core::path::{escape, unescape};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, s: S) -> Result<S::Ok, S::Error> {
        bytes.as_deref().map(escape).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<u8>>, D::Error> {
        match Option::<String>::deserialize(d)? {
            None => Ok(None),
            Some(text) => {
                unescape(&text).map(Some).ok_or_else(|| D::Error::custom("not an escaped byte string"))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn regular(content: u8) -> Entry {
        Entry {
            kind: FileType::Regular,
            sha256: Some(Digest([content; 32])),
            size: 10,
            mode: 0o644,
            uid: 1,
            gid: 2,
            mtime_ns: 3,
            xattrs: Xattrs::default(),
            target: None,
            rdev: 0,
            flags: Flags::default(),
        }
    }

    #[test]
    fn each_aspect_is_told_apart() {
        type Case = (&'static str, fn(&mut Entry), Vec<Aspect>);
        let cases: Vec<Case> = vec![
            ("nothing", |_| {}, vec![]),
            ("content", |e| e.sha256 = Some(Digest([9; 32])), vec![Aspect::Content]),
            ("unreadable", |e| e.sha256 = None, vec![Aspect::Content]),
            ("mode", |e| e.mode = 0o4755, vec![Aspect::Mode]),
            ("owner", |e| e.uid = 7, vec![Aspect::Owner]),
            ("group", |e| e.gid = 7, vec![Aspect::Group]),
            ("mtime", |e| e.mtime_ns = 7, vec![Aspect::Mtime]),
            ("flags", |e| e.flags = Flags::IMMUTABLE, vec![Aspect::Flags]),
            ("type", |e| e.kind = FileType::Fifo, vec![Aspect::Type]),
            (
                "xattr",
                |e| {
                    e.xattrs.0.insert(XattrName(b"user.a".into()), XattrValue(vec![0xff]));
                },
                vec![Aspect::Xattrs],
            ),
            (
                "several, most serious first",
                |e| {
                    e.mtime_ns = 7;
                    e.size = 11;
                    e.gid = 5;
                },
                vec![Aspect::Content, Aspect::Group, Aspect::Mtime],
            ),
        ];
        for (name, alter, expected) in cases {
            let mut now = regular(1);
            alter(&mut now);
            assert_eq!(regular(1).differences(&now), expected, "{name}");
        }
    }

    #[test]
    fn an_entry_survives_json_with_any_bytes() {
        let mut entry = regular(1);
        entry.target = Some(b"a\n\\\xff".to_vec());
        entry.xattrs.0.insert(XattrName(b"user.\xfe".into()), XattrValue(b"\0\\x".to_vec()));
        let text = serde_json::to_string(&entry).expect("serialises");
        assert_eq!(serde_json::from_str::<Entry>(&text).expect("reads back"), entry);
    }
}
