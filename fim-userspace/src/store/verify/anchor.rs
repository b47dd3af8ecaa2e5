//! A record as somebody else remembers it.

use std::str::FromStr;

use serde::Deserialize;

/// Number and hash, or the beginning of the hash, of a record that was carried away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub seq: u64,
    /// Hexadecimal, lower case.
    hash: String,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no anchor; write SEQ:HASH with at least {LEAST} digits of the hash, as `fim log verify` prints the head, or a \
     record in JSON as `fim log --json`, a webhook or a log file has it"
)]
pub struct AnchorError(String);

/// Digits: fewer could be met by chance, or by trying.
const LEAST: usize = 16;

/// As a webhook has it, or a log file in JSON.
#[derive(Deserialize)]
#[serde(untagged)]
enum Carried {
    Record { seq: u64, id: String },
    Ecs { event: EcsEvent },
}

#[derive(Deserialize)]
struct EcsEvent {
    sequence: u64,
    id: String,
}

impl Anchor {
    pub(super) fn names(&self, hash: &[u8; 32]) -> bool {
        crate::core::entry::Digest(*hash).to_string().starts_with(&self.hash)
    }
}

impl FromStr for Anchor {
    type Err = AnchorError;

    fn from_str(text: &str) -> Result<Self, AnchorError> {
        let text = text.trim();
        let parts = match text.split_once([':', ' ']) {
            _ if text.starts_with('{') => serde_json::from_str(text).ok().map(|carried| match carried {
                Carried::Record { seq, id } => (seq, id),
                Carried::Ecs { event } => (event.sequence, event.id),
            }),
            Some((seq, hash)) => seq.parse().ok().map(|seq| (seq, hash.trim().to_ascii_lowercase())),
            None => None,
        };
        match parts {
            Some((seq, hash))
                if seq > 0
                    && (LEAST..=64).contains(&hash.len())
                    && hash.bytes().all(|b| b.is_ascii_hexdigit()) =>
            {
                Ok(Self { seq, hash })
            }
            _ => Err(AnchorError(text.chars().take(80).collect())),
        }
    }
}
