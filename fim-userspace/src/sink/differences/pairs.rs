//! Which versions a record tells of.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::core::entry::{Digest, FileType};
use crate::core::event::{Event, EventKind, State};
use crate::core::path::unescape;
use crate::store::lines::{Pair, Since};

/// Two versions to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub since: Since,
    pub pair: Pair,
    /// Under which paths the content lies or lay.
    pub paths: Vec<PathBuf>,
    /// Bytes of the longer one.
    pub largest: u64,
}

/// What `event` changed of a file's content, since what was approved and since what was known before.
pub fn pairs(event: &Event) -> Vec<Wanted> {
    let decided = matches!(event.kind, EventKind::Accepted | EventKind::Released);
    if !event.kind.is_change() && !decided {
        return Vec::new();
    }
    let path = |text: &Option<String>| -> Option<PathBuf> {
        text.as_deref().and_then(unescape).map(|bytes| OsString::from_vec(bytes).into())
    };
    let Some(own) = path(&event.path) else { return Vec::new() };
    let paths: Vec<PathBuf> = [Some(own.clone()), path(&event.old_path)].into_iter().flatten().collect();
    let pair = |since: Since, before: Option<&State>, after: Option<&State>| {
        let (before, after) = (version(before)?, version(after)?);
        let different = before.0 != after.0;
        let pair = Pair { path: own.clone(), before: before.0, after: after.0 };
        different.then(|| Wanted { since, pair, paths: paths.clone(), largest: before.1.max(after.1) })
    };
    let approved = pair(Since::Approved, event.before.as_ref(), event.after.as_ref());
    let previous =
        event.previous.as_ref().and_then(|known| pair(Since::Previous, known.as_ref(), event.after.as_ref()));
    approved.into_iter().chain(previous).collect()
}

/// Digest and size of a regular file; no digest for anything else. `None` where the content could not be read.
fn version(state: Option<&State>) -> Option<(Option<Digest>, u64)> {
    match state.filter(|state| state.kind == FileType::Regular) {
        None => Some((None, 0)),
        Some(state) => Some((Some(Digest::from_hex(state.sha256.as_deref()?)?), state.size)),
    }
}
