use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;

fn vault() -> (tempfile::TempDir, Vault) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let vault = Vault::open(&dir.path().join("vault")).expect("it opens");
    (dir, vault)
}

fn object_path(vault: &Vault, digest: &Digest) -> PathBuf {
    vault.path().join("objects").join(object_name(digest, Form::Zstd))
}

fn files(dir: PathBuf) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for item in fs::read_dir(dir).expect("readable") {
        let path = item.expect("readable").path();
        if path.is_dir() { out.extend(files(path)) } else { out.push(path) }
    }
    out
}

/// Content that does not compress to nothing, of any length.
fn content(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn gives_back_what_it_was_given_small_and_large() {
    let (_dir, vault) = vault();
    for length in [0, 1, 4096, SMALL as usize, SMALL as usize + 1, 3 << 20] {
        let bytes = content(length);
        let digest = vault.put(&mut &bytes[..]).expect("stored");
        assert_eq!(digest, object::digest(&bytes), "{length}");
        assert!(vault.contains(&digest));
        assert_eq!(vault.read(&digest).expect("sound"), bytes, "{length}");
    }
    assert!(files(vault.path().join("tmp")).is_empty());
}

#[test]
fn holds_identical_content_once_for_its_owner_only() {
    let (_dir, vault) = vault();
    for length in [100, (SMALL as usize) + 100] {
        let bytes = content(length);
        let first = vault.put(&mut &bytes[..]).expect("stored");
        assert_eq!(vault.put(&mut &bytes[..]).expect("stored"), first);
        assert_eq!(vault.put_deferred(&mut &bytes[..]).expect("stored"), first);
    }
    vault.commit_batch().expect("committed");
    assert_eq!(files(vault.path().join("objects")).len(), 2);
    for path in [vault.path().to_path_buf(), vault.path().join("objects"), vault.path().join("objects/00")] {
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o700, "{path:?}");
    }
    for path in files(vault.path().to_path_buf()) {
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o600, "{path:?}");
    }
}

#[test]
fn damage_is_noticed_on_reading_and_healed_by_storing_again() {
    let (_dir, vault) = vault();
    let bytes = content(5000);
    let digest = vault.put(&mut &bytes[..]).expect("stored");
    let path = object_path(&vault, &digest);
    let whole = fs::read(&path).expect("readable");
    let mut flipped = whole.clone();
    flipped[2500] ^= 1;
    let other = zstd::bulk::compress(b"something else", 1).expect("compresses");
    for damaged in [flipped, whole[..whole.len() - 1].to_vec(), Vec::new(), other] {
        fs::write(&path, &damaged).expect("written");
        let error = vault.read(&digest).expect_err("damaged");
        assert!(matches!(error, VaultError::Corrupt { .. }), "{error}");
        vault.put(&mut &bytes[..]).expect("stored");
        assert_eq!(vault.read(&digest).expect("healed"), bytes);
    }
    fs::remove_file(&path).expect("removed");
    assert!(!vault.contains(&digest));
    assert!(matches!(vault.read(&digest), Err(VaultError::Missing { .. })));
}

#[test]
fn a_batch_is_not_there_before_it_is_committed() {
    let (_dir, vault) = vault();
    let all: Vec<_> = (0..20).map(|i| content(i * 1000)).collect();
    let digests: Vec<_> = all.iter().map(|c| vault.put_deferred(&mut &c[..]).expect("stored")).collect();
    assert!(!digests.iter().any(|d| vault.contains(d)));
    assert_eq!(vault.commit_batch().expect("committed"), 20);
    for (digest, bytes) in digests.iter().zip(&all) {
        assert_eq!(&vault.read(digest).expect("sound"), bytes);
    }
    assert_eq!(vault.commit_batch().expect("nothing to do"), 0);
}

#[test]
fn what_a_crash_left_unfinished_is_cleared_away_but_not_under_a_running_daemon() {
    let (_dir, running) = vault();
    let bytes = content(100);
    running.put_deferred(&mut &bytes[..]).expect("stored");
    let path = running.path().to_path_buf();
    let second = Vault::open(&path).expect("opens beside the first");
    assert_eq!(files(path.join("tmp")).len(), 1, "the first one's work in hand");
    drop((running, second));
    let after = Vault::open(&path).expect("opens");
    assert!(files(path.join("tmp")).is_empty());
    assert!(files(path.join("objects")).is_empty(), "no partial object");
    assert!(!after.contains(&object::digest(&bytes)));
}

#[test]
fn a_source_that_fails_leaves_nothing() {
    struct Fails(usize);
    impl Read for Fails {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::from_raw_os_error(5));
            }
            let n = self.0.min(buffer.len());
            self.0 -= n;
            Ok(n)
        }
    }
    let (_dir, vault) = vault();
    for length in [10, 3 << 20] {
        let error = vault.put(&mut Fails(length)).expect_err("it fails");
        assert!(matches!(error, VaultError::Source(_)), "{error}");
    }
    assert!(files(vault.path().to_path_buf()).is_empty());
}
