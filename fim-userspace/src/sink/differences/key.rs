//! The key for digests of secret lines: of a short line a plain digest could be guessed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hmac::Mac;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::core::path::display;
use crate::sink::keyed::keyed;

/// Its name in the state directory; 32 random bytes, for the owner only.
const FILE: &str = "lines.key";

#[derive(Debug, thiserror::Error)]
#[error("the key {} for secret lines cannot be used: {why}; {advice}", display(.file), advice = ADVICE)]
pub struct KeyError {
    file: PathBuf,
    why: String,
}

const ADVICE: &str =
    "remove it, and fim makes another one (digests of secret lines from before then no longer compare)";

#[derive(Zeroize, ZeroizeOnDrop)]
pub struct LineKey([u8; 32]);

impl LineKey {
    /// Reads the key, or makes one.
    pub fn open(dir: &Path) -> Result<Self, KeyError> {
        let file = dir.join(FILE);
        let work = || match make(&file) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => read(&file),
            other => other,
        };
        work().map_err(|e| KeyError { why: e.to_string(), file: file.clone() })
    }

    /// Of lines of one file: hexadecimal.
    pub fn digest(&self, path: &Path, text: &str) -> String {
        let mut mac = keyed(&self.0);
        let path = path.as_os_str().as_bytes();
        mac.update(&(path.len() as u64).to_be_bytes());
        mac.update(path);
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Written whole under another name first: after a crash there is a whole key or none.
fn make(file: &Path) -> io::Result<LineKey> {
    if file.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let mut key = LineKey([0; 32]);
    getrandom::fill(&mut key.0).map_err(io::Error::other)?;
    let fresh = file.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    out.write_all(&key.0)?;
    out.sync_all()?;
    std::fs::rename(&fresh, file)?;
    Ok(key)
}

fn read(file: &Path) -> io::Result<LineKey> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut open: File = OpenOptions::new().read(true).custom_flags(flags).open(file)?;
    let meta = open.metadata()?;
    if !meta.is_file() || meta.len() != 32 {
        return Err(io::Error::other("it is not 32 bytes long"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(io::Error::other("others than its owner can read it"));
    }
    let mut key = LineKey([0; 32]);
    open.read_exact(&mut key.0)?;
    Ok(key)
}
