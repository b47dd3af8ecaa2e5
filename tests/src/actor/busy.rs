//! Load: a flood of files, and a writer that never rests.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The daemon may undo a step before the next one; the flood goes on.
fn undone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) => Ok(()),
        other => other,
    }
}

fn flood_path(dir: &Path, index: u32) -> PathBuf {
    dir.join(format!("d{:02}", index % 50)).join(format!("f{index:06}"))
}

/// `count` files in 50 folders: all created, all changed, two of three deleted; and what the folders held before is
/// changed, each third file of it deleted.
pub fn flood(dir: &Path, count: u32) -> io::Result<()> {
    let mut old = Vec::new();
    for folder in 0..50 {
        let folder = dir.join(format!("d{folder:02}"));
        undone_is_fine(fs::create_dir(&folder))?;
        // A folder just made may be gone again; it held nothing old.
        old.extend(fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()));
    }
    old.sort();
    for index in 0..count {
        undone_is_fine(fs::write(flood_path(dir, index), format!("first {index}\n")))?;
    }
    for (index, path) in old.iter().enumerate() {
        match index % 3 {
            0 => undone_is_fine(fs::remove_file(path))?,
            _ => undone_is_fine(overwrite(path, b"changed"))?,
        }
    }
    for index in 0..count {
        undone_is_fine(overwrite(&flood_path(dir, index), format!("second {index}\n").as_bytes()))?;
    }
    for index in (0..count).filter(|i| i % 3 != 0) {
        undone_is_fine(fs::remove_file(flood_path(dir, index)))?;
    }
    Ok(())
}

fn overwrite(path: &Path, content: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all_at(content, 0)
}

/// A content that shows whether it is whole: one number, repeated.
pub fn block(number: u64, size: usize) -> Vec<u8> {
    format!("{number:015} ").into_bytes().into_iter().cycle().take(size).collect()
}

pub fn is_block(content: &[u8], size: usize) -> bool {
    content.len() == size && content.iter().enumerate().all(|(i, b)| *b == content[i % 16])
}

/// Writes, replaces, deletes, changes modes and makes strays among the files of `dir`, each write whole in one call,
/// until stdin is closed. Then the operation in hand is finished first.
pub fn busy(dir: &Path, seed: u64) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        files.push((entry.path(), entry.metadata()?.len() as usize));
    }
    files.sort();
    let over = Arc::new(AtomicBool::new(false));
    let flag = over.clone();
    std::thread::spawn(move || {
        // Whatever ends the read, nobody holds the other end any more.
        let _ = io::stdin().read(&mut [0; 1]);
        flag.store(true, Ordering::Relaxed);
    });
    let mut random = Random::new(seed);
    while !over.load(Ordering::Relaxed) {
        let number = random.below(1_000_000_000);
        let (path, size) = &files[random.below(files.len() as u64) as usize];
        undone_is_fine(step(dir, path, *size, number, random.below(5)))?;
    }
    Ok(())
}

fn step(dir: &Path, path: &Path, size: usize, number: u64, what: u64) -> io::Result<()> {
    match what {
        0 => overwrite(path, &block(number, size)),
        1 => {
            let temporary = dir.join(format!("temporary{}", number % 8));
            fs::File::create(&temporary)?.write_all(&block(number, size))?;
            fs::rename(&temporary, path)
        }
        2 => fs::remove_file(path),
        3 => fs::set_permissions(path, fs::Permissions::from_mode(0o600 | (number % 64) as u32)),
        _ => fs::write(dir.join(format!("stray{}", number % 8)), block(number, 4096)),
    }
}

/// xorshift64*: enough to pick moments and files, the same ones for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// A number from 0 to `limit - 1`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % limit.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_block_is_told_from_a_whole_one() {
        for size in [4096, 100_003] {
            let whole = block(7, size);
            assert!(is_block(&whole, size));
            let mut torn = whole.clone();
            torn[size / 2..].copy_from_slice(&block(8, size)[size / 2..]);
            assert!(!is_block(&torn, size));
            assert!(!is_block(&whole[..size - 1], size));
        }
    }

    #[test]
    fn the_flood_leaves_what_it_says() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("d00")).expect("made");
        for name in ["a", "b", "c"] {
            fs::write(dir.path().join("d00").join(name), "approved").expect("written");
        }
        flood(dir.path(), 300).expect("flooded");
        let snapshot = crate::tree::snapshot(dir.path()).expect("read");
        let files = snapshot.values().filter(|n| n.mode & libc::S_IFMT == libc::S_IFREG).count();
        assert_eq!(files, 100 + 2);
        assert!(!dir.path().join("d00/a").exists());
    }
}
