//! The daemon's state directory, read without its help: every object of the vault, every row that names one, the chain.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use sha2::{Digest, Sha256};

use crate::tree::sha256;

/// What was read and found whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sound {
    pub records: u64,
    pub evidence: u64,
    pub objects: u64,
}

/// Reads everything: each object whole, each evidence's and each approved version's content there, the chain unbroken.
pub fn sound(state: &Path) -> Result<Sound, String> {
    let db = open(state)?;
    let records = chain(&db)?;
    // Before the objects: what a row names was in the vault before the row was written.
    let evidence = digests(&db, "SELECT sha256 FROM evidence WHERE sha256 IS NOT NULL AND fate IS NULL")?;
    let approved = digests(&db, "SELECT sha256 FROM baseline WHERE sha256 IS NOT NULL")?;
    let mut objects = std::collections::BTreeSet::new();
    for path in objects_of(state)? {
        let name = digest_of(&path);
        match content(&path, &name) {
            Ok(_) => objects.insert(name),
            // The daemon may be at work.
            Err(_) if !path.exists() => false,
            Err(e) => return Err(e),
        };
    }
    for (what, wanted) in [("evidence", &evidence), ("an approved version", &approved)] {
        if let Some(lost) = wanted.iter().find(|d| !objects.contains(*d)) {
            return Err(format!("the content {lost} of {what} is not in the vault"));
        }
    }
    Ok(Sound { records, evidence: evidence.len() as u64, objects: objects.len() as u64 })
}

/// A connection for reading only.
pub fn open(state: &Path) -> Result<Connection, String> {
    let file = state.join("fim.db");
    let db = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|e| format!("{}: {e}", file.display()))?;
    db.busy_timeout(std::time::Duration::from_secs(30)).map_err(|e| e.to_string())?;
    Ok(db)
}

/// One number out of the database.
pub fn count(state: &Path, query: &str) -> Result<u64, String> {
    let number: i64 =
        open(state)?.query_row(query, [], |row| row.get(0)).map_err(|e| format!("{query}: {e}"))?;
    Ok(number.unsigned_abs())
}

/// Whether the vault holds this content.
pub fn holds(state: &Path, bytes: &[u8]) -> bool {
    let name = sha256(bytes);
    objects_of(state)
        .is_ok_and(|all| all.iter().any(|path| digest_of(path) == name && content(path, &name).is_ok()))
}

/// Every place in the state directory, the vault's objects decompressed, where `needle` occurs.
pub fn occurrences(state: &Path, needle: &[u8]) -> Result<Vec<PathBuf>, String> {
    let mut out = Vec::new();
    for path in files(state)? {
        let Ok(raw) = fs::read(&path) else { continue };
        let content = zstd::stream::decode_all(&raw[..]).unwrap_or_default();
        if contains(&raw, needle) || contains(&content, needle) {
            out.push(path);
        }
    }
    Ok(out)
}

pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Every regular file below `top`, links not followed. What vanishes meanwhile is left out.
pub fn files(top: &Path) -> Result<Vec<PathBuf>, String> {
    let (mut out, mut todo) = (Vec::new(), vec![top.to_owned()]);
    while let Some(dir) = todo.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(format!("{}: {e}", dir.display())),
        };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => todo.push(entry.path()),
                Ok(kind) if kind.is_file() => out.push(entry.path()),
                _ => {}
            }
        }
    }
    Ok(out)
}

pub fn objects_of(state: &Path) -> Result<Vec<PathBuf>, String> {
    files(&state.join("vault/objects"))
}

/// The digest that an object's place names: `objects/ab/cdef…`, whatever follows a dot.
fn digest_of(object: &Path) -> String {
    let part = |path: Option<&Path>| {
        let name = path.and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        name.split('.').next().unwrap_or_default().to_owned()
    };
    part(object.parent()) + &part(Some(object))
}

/// An object's content, compressed or not, if it is what its name says.
fn content(object: &Path, digest: &str) -> Result<Vec<u8>, String> {
    let raw = fs::read(object).map_err(|e| format!("{}: {e}", object.display()))?;
    let mut plain = Vec::new();
    let decoded =
        zstd::stream::read::Decoder::new(&raw[..]).and_then(|mut d| d.read_to_end(&mut plain)).is_ok();
    if decoded && sha256(&plain) == digest {
        return Ok(plain);
    }
    if sha256(&raw) == digest {
        return Ok(raw);
    }
    Err(format!("{} ({} bytes) is not what its name says", object.display(), raw.len()))
}

fn digests(db: &Connection, query: &str) -> Result<Vec<String>, String> {
    let read =
        || -> rusqlite::Result<Vec<String>> { db.prepare(query)?.query_map([], |row| row.get(0))?.collect() };
    read().map_err(|e| format!("{query}: {e}"))
}

/// Recomputes the ledger's chain as docs/database.md gives it; the number of records.
fn chain(db: &Connection) -> Result<u64, String> {
    let read = || -> rusqlite::Result<Result<u64, String>> {
        let mut select = db.prepare("SELECT seq, body, prev, hash FROM ledger ORDER BY seq")?;
        let mut rows = select.query([])?;
        let (mut last, mut count) = ([0u8; 32].to_vec(), 0u64);
        while let Some(row) = rows.next()? {
            let (seq, body): (i64, String) = (row.get(0)?, row.get(1)?);
            let (prev, hash): (Vec<u8>, Vec<u8>) = (row.get(2)?, row.get(3)?);
            count += 1;
            let mut sum = Sha256::new_with_prefix(&prev);
            sum.update(count.to_be_bytes());
            sum.update(&body);
            if seq.unsigned_abs() != count || prev != last || hash != sum.finalize().to_vec() {
                return Ok(Err(format!("the ledger's chain breaks at record {seq}")));
            }
            last = hash;
        }
        Ok(Ok(count))
    };
    read().map_err(|e| format!("reading the ledger: {e}"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_whole_or_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let name = sha256(b"content");
        let fan = dir.path().join("vault/objects").join(&name[..2]);
        fs::create_dir_all(&fan).expect("made");
        let object = fan.join(&name[2..]);
        let packed = zstd::stream::encode_all(&b"content"[..], 1).expect("packed");
        for whole in [&packed[..], b"content"] {
            fs::write(&object, whole).expect("written");
            assert_eq!(content(&object, &digest_of(&object)), Ok(b"content".to_vec()));
            assert!(holds(dir.path(), b"content"));
        }
        for torn in [&packed[..packed.len() - 1], b"", b"other"] {
            fs::write(&object, torn).expect("written");
            assert!(content(&object, &name).is_err());
            assert!(!holds(dir.path(), b"content"));
        }
        fs::write(&object, &packed).expect("written");
        assert_eq!(occurrences(dir.path(), b"onten"), Ok(vec![object]));
    }
}
