//! `<state.dir>/seal.key`: the present epoch's key and nothing that leads to one before.
//!
//! Two slots at fixed places. The next key is written into the free one and forced to the disk before the other is
//! overwritten, so a crash leaves one or two valid keys, never none. The file is never replaced: a new file would leave
//! the old one's blocks, with the old key, to whoever reads the raw disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::key::{EpochKey, VerificationKey};
use crate::store::StoreError;

pub const FILE: &str = "seal.key";

/// A slot has a page of its own, so that writing one never touches the other.
const SLOT: usize = 4096;
const MAGIC: &[u8; 8] = b"fim seal";
/// Magic, epoch, setup, key; a checksum follows.
const HEAD: usize = 8 + 8 + 16 + 32;

/// What one slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState {
    pub setup: String,
    /// The epoch that this key will seal.
    pub epoch: u64,
    pub key: EpochKey,
}

impl KeyState {
    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(SLOT));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(self.setup.as_bytes());
        bytes.extend_from_slice(&self.key.0);
        let sum = Sha256::digest(&bytes[..]);
        bytes.extend_from_slice(&sum);
        bytes.resize(SLOT, 0);
        bytes
    }

    fn decode(slot: &[u8]) -> Option<Self> {
        let (head, sum) = (slot.get(..HEAD)?, slot.get(HEAD..HEAD + 32)?);
        if &head[..8] != MAGIC || Sha256::digest(head)[..] != *sum {
            return None;
        }
        let mut key = EpochKey([0; 32]);
        key.0.copy_from_slice(&head[32..]);
        let epoch = u64::from_be_bytes(head[8..16].try_into().ok()?);
        Some(Self { setup: String::from_utf8(head[16..32].to_vec()).ok()?, epoch, key })
    }
}

/// Both slots of an open file.
struct Slots {
    file: File,
    states: [Option<KeyState>; 2],
}

impl Slots {
    fn read(path: &Path, access: &mut OpenOptions) -> io::Result<Option<Self>> {
        let file = match access.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut bytes = Zeroizing::new([0u8; 2 * SLOT]);
        // One that is too short holds no key.
        let _ = file.read_exact_at(&mut bytes[..], 0);
        let states = [KeyState::decode(&bytes[..SLOT]), KeyState::decode(&bytes[SLOT..])];
        Ok(Some(Self { file, states }))
    }

    fn newest(&self) -> Option<(usize, KeyState)> {
        let states = self.states.iter().enumerate().filter_map(|(slot, state)| Some((slot, state.clone()?)));
        states.max_by_key(|(_, state)| state.epoch)
    }
}

pub struct KeyFile {
    file: File,
    path: PathBuf,
    slot: usize,
    pub state: KeyState,
}

impl KeyFile {
    /// Begins with `key` at epoch 0, over whatever key was there.
    pub fn create(dir: &Path, key: &VerificationKey) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let state = KeyState { setup: key.setup(), epoch: 0, key: key.0.clone() };
        let make = || {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path)?;
            file.write_all_at(&[0; 2 * SLOT], 0)?;
            file.write_all_at(&state.encode(), 0)?;
            file.sync_all()?;
            File::open(dir)?.sync_all()?;
            Ok(file)
        };
        let file = make().map_err(|e: io::Error| failed(&path, &e))?;
        Ok(Self { file, path, slot: 0, state })
    }

    /// `None` when sealing was never set up here.
    pub fn open(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = dir.join(FILE);
        let read = Slots::read(&path, OpenOptions::new().read(true).write(true));
        let Some(slots) = read.map_err(|e| failed(&path, &e))? else { return Ok(None) };
        // Two valid keys are left by a crash while the key moved on.
        let crashed = slots.states.iter().all(Option::is_some);
        let Some((slot, state)) = slots.newest() else {
            return Err(StoreError::SealKey { file: path, detail: "holds no key any more".into() });
        };
        let file = slots.file;
        let file = Self { file, path, slot, state };
        if crashed {
            file.erase(1 - slot)?;
        }
        Ok(Some(file))
    }

    /// What is in the file, changing nothing; `None` without one.
    pub fn peek(dir: &Path) -> Result<Option<KeyState>, StoreError> {
        let path = dir.join(FILE);
        match Slots::read(&path, OpenOptions::new().read(true)) {
            Ok(None) => Ok(None),
            Ok(Some(slots)) => match slots.newest() {
                Some((_, state)) => Ok(Some(state)),
                None => Err(StoreError::SealKey { file: path, detail: "holds no key any more".into() }),
            },
            Err(e) => Err(failed(&path, &e)),
        }
    }

    /// Goes on to the next epoch's key; on return the present one is nowhere any more.
    pub fn advance(&mut self) -> Result<(), StoreError> {
        let next = KeyState {
            setup: self.state.setup.clone(),
            epoch: self.state.epoch + 1,
            key: self.state.key.next(),
        };
        let slot = 1 - self.slot;
        let write = || {
            self.file.write_all_at(&next.encode(), (slot * SLOT) as u64)?;
            self.file.sync_data()
        };
        write().map_err(|e| failed(&self.path, &e))?;
        self.erase(self.slot)?;
        (self.slot, self.state) = (slot, next);
        Ok(())
    }

    fn erase(&self, slot: usize) -> Result<(), StoreError> {
        let erase = || {
            self.file.write_all_at(&[0; SLOT], (slot * SLOT) as u64)?;
            self.file.sync_data()
        };
        erase().map_err(|e| failed(&self.path, &e))
    }
}

fn failed(path: &Path, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreError::Full(path.parent().unwrap_or(path).into())
        }
        _ => StoreError::SealKey { file: path.into(), detail: format!("cannot be used ({error})") },
    }
}
