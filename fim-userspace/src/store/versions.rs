//! Every copy of a path that the vault holds: what is approved, what was approved once, and evidence.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use super::{Store, StoreError, bad_row, signed, unsigned};
use crate::core::entry::{Digest, Entry};
use crate::core::path::RelPath;

/// A row of the view `backup_paths`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Copy {
    #[serde(skip)]
    pub watch: PathBuf,
    #[serde(skip)]
    pub path: RelPath,
    /// When it was approved, ceased to be, or was found; RFC 3339.
    pub time: Option<String>,
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// `approved`, `formerly approved`, or why the evidence was taken.
    pub reason: String,
    /// The record that tells of it.
    pub seq: Option<u64>,
    /// Its number among the evidence.
    pub evidence: Option<u64>,
}

/// What is not one version of a path.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoVersion {
    #[error("the vault holds no copy of it; see `fim log` for what was recorded")]
    None,
    #[error(
        "it has no approved content now; name one of its {0} copies with --version (see `fim vault versions`)"
    )]
    NotApproved(usize),
    #[error(
        "no copy of it is called {0:?}; name one by its number or its digest, as `fim vault versions` shows them"
    )]
    Unknown(String),
    #[error("{0:?} can mean several of its copies; write more of the digest")]
    Ambiguous(String),
}

/// Picks a copy: by its number in `copies` (1 is the first), by the beginning of its digest (4 digits at least), or, with
/// `None`, the approved one.
pub fn choose<'a>(copies: &'a [Copy], version: Option<&str>) -> Result<&'a Copy, NoVersion> {
    if copies.is_empty() {
        return Err(NoVersion::None);
    }
    let Some(version) = version else {
        return copies.iter().find(|c| c.reason == "approved").ok_or(NoVersion::NotApproved(copies.len()));
    };
    let number = version.parse::<usize>().ok().filter(|_| version.len() < 4);
    if let Some(copy) = number.and_then(|n| n.checked_sub(1)).and_then(|index| copies.get(index)) {
        return Ok(copy);
    }
    let prefix = version.to_lowercase();
    let mut fitting =
        copies.iter().filter(|c| prefix.len() >= 4 && c.sha256.to_string().starts_with(&prefix));
    let first = fitting.next().ok_or_else(|| NoVersion::Unknown(version.into()))?;
    match fitting.any(|other| other.sha256 != first.sha256) {
        true => Err(NoVersion::Ambiguous(version.into())),
        false => Ok(first),
    }
}

const COLUMNS: &str = "watch, path, time, sha256, size, reason, seq, evidence";

impl Store {
    /// Every copy of `path`, the approved one first, then the newest first.
    pub fn copies_of(&self, watch: &Path, path: &RelPath) -> Result<Vec<Copy>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM backup_paths WHERE watch = ?1 AND path = ?2
             ORDER BY reason <> 'approved', time DESC, seq DESC, evidence DESC"
        );
        self.run("reading the versions", |db| {
            db.prepare_cached(&sql)?
                .query_map(params![watch.as_os_str().as_bytes(), path.as_bytes()], read)?
                .collect()
        })
    }

    /// As [`copies_of`](Self::copies_of) for an absolute path, in whichever watch it lies or lay.
    pub fn copies_at(&self, absolute: &Path) -> Result<Vec<Copy>, StoreError> {
        for root in absolute.ancestors() {
            let Some(path) =
                absolute.strip_prefix(root).ok().and_then(|rest| RelPath::new(rest.as_os_str().as_bytes()))
            else {
                continue;
            };
            let copies = self.copies_of(root, &path)?;
            if !copies.is_empty() {
                return Ok(copies);
            }
        }
        Ok(Vec::new())
    }

    /// Every path that refers to `digest`.
    pub fn paths_of(&self, digest: &Digest) -> Result<Vec<Copy>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM backup_paths WHERE sha256 = ?1 ORDER BY watch, path, time");
        self.run("reading the versions", |db| {
            db.prepare_cached(&sql)?.query_map([digest.to_string()], read)?.collect()
        })
    }
}

/// Notes a version that is not approved any more since `until`; `seq` is the record that ended it.
pub(super) fn put_former(
    db: &Connection,
    watch: &Path,
    path: &RelPath,
    entry: &Entry,
    until: &str,
    seq: Option<u64>,
) -> rusqlite::Result<()> {
    let body = serde_json::to_string(entry).map_err(|_| bad_row("entry"))?;
    db.prepare_cached(
        "INSERT INTO former (watch, path, sha256, size, entry, until, seq) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        watch.as_os_str().as_bytes(),
        path.as_bytes(),
        entry.sha256.map(|d| d.to_string()),
        signed(entry.size),
        body,
        until,
        seq.map(signed)
    ])?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Copy> {
    Ok(Copy {
        watch: PathBuf::from(std::ffi::OsString::from_vec(row.get(0)?)),
        path: RelPath::new(row.get::<_, Vec<u8>>(1)?).ok_or_else(|| bad_row("path"))?,
        time: row.get(2)?,
        sha256: Digest::from_hex(row.get_ref(3)?.as_str()?).ok_or_else(|| bad_row("sha256"))?,
        size: row.get::<_, Option<i64>>(4)?.map_or(0, unsigned),
        reason: row.get(5)?,
        seq: row.get::<_, Option<i64>>(6)?.map(unsigned),
        evidence: row.get::<_, Option<i64>>(7)?.map(unsigned),
    })
}
