//! Naming a version of a path, or an event.

use anyhow::bail;

use super::view::View;
use crate::control::Version;
use crate::core::entry::Entry;
use crate::core::event::Record;
use crate::core::path::{RelPath, escape};
use crate::core::quarantine::Fate;
use crate::daemon::watch::Watch;
use crate::store::Store;

/// Fewest digits of a digest or an id that name it.
const SHORTEST: usize = 8;

/// A version that was found.
pub struct Known {
    pub entry: Entry,
    /// `None`: it is the approved one.
    pub version: Option<Version>,
}

/// How a version or an event is named.
#[derive(Debug, PartialEq, Eq)]
pub enum Name {
    Seq(u64),
    /// The beginning of a digest or an id, in lower case.
    Hex(String),
}

impl Name {
    /// A number of the ledger, or at least 8 hexadecimal digits; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end_matches('…').to_ascii_lowercase();
        let all = |digit: fn(&u8) -> bool| !text.is_empty() && text.bytes().all(|b| digit(&b));
        if all(u8::is_ascii_digit) && text.len() < 16 {
            return text.parse().ok().map(Self::Seq);
        }
        (all(u8::is_ascii_hexdigit) && text.len() >= SHORTEST).then_some(Self::Hex(text))
    }
}

/// The version of `path` that `text` names.
pub fn find(view: &View, watch: &Watch, path: &RelPath, text: &str) -> anyhow::Result<Known> {
    let shown = escape(&watch.absolute(path));
    let Some(name) = Name::parse(text) else {
        bail!(
            "{text:?} names no version; give the number of an event (`fim log`) or at least {SHORTEST} digits of a SHA-256"
        );
    };
    let mut found = Vec::new();
    let fits = |entry: &Entry, seq: Option<u64>| match &name {
        Name::Seq(wanted) => seq == Some(*wanted),
        Name::Hex(start) => entry.sha256.is_some_and(|digest| digest.to_string().starts_with(start)),
    };
    // The latest first: where content is the same, its attributes are the likeliest to be meant.
    if let Some(entry) = view.approved(watch, path)?.filter(|entry| fits(entry, None)) {
        found.push(Known { entry, version: None });
    }
    for former in view.store.former_of(watch.path(), path)?.into_iter().rev() {
        if fits(&former.entry, former.seq) {
            found.push(Known { version: Some(Version::Former(former.id)), entry: former.entry });
        }
    }
    let mut purged = false;
    for held in view.store.held_of(watch.path(), path)?.into_iter().rev() {
        let gone = matches!(held.fate, Some(Fate::Purged | Fate::Evicted));
        if fits(&held.entry(), Some(held.seq)) {
            purged |= gone;
            if !gone {
                found.push(Known { entry: held.entry(), version: Some(Version::Evidence(held.id)) });
            }
        }
    }
    let Some(first) = found.first() else {
        match purged {
            true => bail!("that version of {shown} was removed from the vault"),
            false => bail!(
                "no version of {shown} is known under {text}; see `fim log` and `fim quarantine list --all`"
            ),
        }
    };
    if let Some(other) = found.iter().find(|k| k.entry.sha256 != first.entry.sha256) {
        let digest = |k: &Known| k.entry.sha256.map_or("no content".into(), |d| d.to_string());
        bail!(
            "{text} names several versions of {shown}: {} and {}; name one by more of its digest",
            digest(first),
            digest(other)
        );
    }
    Ok(found.swap_remove(0))
}

/// The record that `name` names.
pub fn event(store: &Store, name: &Name) -> anyhow::Result<Option<Record>> {
    match name {
        Name::Seq(seq) => Ok(store.record(*seq)?),
        Name::Hex(start) => {
            let mut records = store.records_with_id(start)?;
            if records.len() > 1 {
                bail!("{start} names several events; give more digits, or the number");
            }
            Ok(records.pop())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_digests_and_anything_else() {
        assert_eq!(Name::parse("42"), Some(Name::Seq(42)));
        assert_eq!(Name::parse("9F3AB2C1"), Some(Name::Hex("9f3ab2c1".into())));
        assert_eq!(Name::parse("9f3ab2c1…"), Some(Name::Hex("9f3ab2c1".into())));
        assert_eq!(Name::parse("1234567890123456"), Some(Name::Hex("1234567890123456".into())));
        for other in ["", "cafe", "hosts", "./42", "/etc", "9f3ab2cx"] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
