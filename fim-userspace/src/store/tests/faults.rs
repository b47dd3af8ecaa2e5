//! Damage, full disks, rivals and kills.

use std::io::Write;

use super::*;

#[test]
fn a_damaged_database_says_what_to_do() {
    let dir = state();
    let file = dir.path().join(DATABASE);
    let open = || Store::open(dir.path()).err().map(|e| e.to_string()).unwrap_or_default();
    std::fs::write(&file, [b"SQLite format 3\0".as_slice(), &[0xa5; 8192]].concat()).expect("written");
    assert!(open().contains("is damaged") && open().contains("`fim init`"), "{}", open());
    std::fs::write(&file, [7; 4096]).expect("written");
    assert!(open().contains("is damaged") && open().contains("vault"), "{}", open());
    std::fs::remove_file(&file).expect("removed");

    let mut store = Store::open(dir.path()).expect("a new one");
    let many: Vec<_> = (0..5_000).map(|n| (rel(format!("f{n}")), found(3))).collect();
    store.baseline_put_many(Path::new(ETC), &many).expect("written");
    drop(store);
    let size = std::fs::metadata(&file).expect("there").len();
    let mut bytes = std::fs::OpenOptions::new().write(true).open(&file).expect("opens");
    std::io::Seek::seek(&mut bytes, std::io::SeekFrom::Start(size / 2)).expect("sought");
    bytes.write_all(&[0x5a; 16_384]).expect("a damaged middle");
    drop(bytes);
    assert!(open().contains("is damaged"), "{}", open());
}

#[test]
fn a_newer_database_is_left_alone() {
    let dir = state();
    drop(Store::open(dir.path()).expect("opens"));
    raw(dir.path()).pragma_update(None, "user_version", 77).expect("set");
    for said in [
        Store::open(dir.path()).err().expect("refused").to_string(),
        Store::open_read_only(dir.path()).err().expect("refused").to_string(),
    ] {
        let known = format!("newer fim (schema 77, this one knows {})", super::super::schema::VERSION);
        assert!(said.contains(&known), "{said}");
    }
}

#[test]
fn nothing_is_made_by_looking() {
    let dir = state();
    for opened in [Store::open_read_only(dir.path()), Store::open_beside(dir.path())] {
        let said = opened.err().expect("nothing there").to_string();
        assert!(said.contains("no database") && said.contains("`fim init`"), "{said}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
}

#[test]
fn one_daemon_per_state_directory() {
    let dir = state();
    let inner = dir.path().join("deep/state");
    let lock = Lock::acquire(&inner).expect("free");
    let said = Lock::acquire(&inner).expect_err("held").to_string();
    assert!(
        said.contains(&format!("(pid {})", std::process::id())) && said.contains("`fim status`"),
        "{said}"
    );
    drop(lock);
    drop(Lock::acquire(&inner).expect("free again"));
    let mode = |p: &Path| p.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&inner), mode(&inner.join("lock"))), (0o700, 0o600));
    drop(Store::open(&inner).expect("opens"));
    assert_eq!(mode(&inner.join(DATABASE)), 0o600);
    std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o770)).expect("chmod");
    let said = Store::open(&inner).err().expect("refused").to_string();
    assert!(said.contains("can be written by others (mode 0770)") && said.contains("chmod 700"), "{said}");
}

/// A small file system of its own; gone when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("temporary folder");
        let options = std::ffi::CString::new(format!("size={size},mode=0700")).expect("no NUL");
        rustix::mount::mount(
            "tmpfs",
            dir.path(),
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            options.as_c_str(),
        )
        .ok()?;
        Some(Self(dir))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_recorded() {
    let Some(disk) = Tmpfs::new("2m") else {
        eprintln!("skipped: mounting a tmpfs needs root");
        return;
    };
    let dir = disk.0.path();
    let mut store = Store::open(dir).expect("opens");
    let (mut kept, mut said) = (0, String::new());
    for n in 0..10_000 {
        match store.append(&events(20 * n + 1, 20 * n + 20), &[]) {
            Ok(records) => kept = records.last().expect("records").seq,
            Err(e) => {
                said = e.to_string();
                break;
            }
        }
    }
    assert!(kept > 0 && said.contains("is full") && said.contains("make room"), "{kept}: {said}");
    let report = store.verify_chain().expect("verified while full");
    assert_eq!((report.sound, report.fault), (kept, None));
    drop(store);
    std::fs::write(dir.join("filler"), vec![1; 4 << 20]).expect_err("fills the rest");
    if let Err(e) = Store::open(dir) {
        assert!(e.to_string().contains("is full"), "{e}");
    }
    let said = Store::open(&dir.join("new")).err().expect("no room for a new one").to_string();
    assert!(said.contains("is full") && said.contains("make room"), "{said}");
    std::fs::remove_file(dir.join("filler")).expect("removed");
    rustix::mount::mount_remount(dir, rustix::mount::MountFlags::empty(), c"size=8m").expect("room is made");
    let mut store = Store::open(dir).expect("opens again");
    assert_eq!(store.append(&[event(1)], &[]).expect("goes on")[0].seq, kept + 1);
    assert_eq!(store.verify_chain().expect("verified").fault, None);
}

const VICTIM: &str = "FIM_TEST_VICTIM";

#[test]
fn a_writer_that_is_killed_leaves_whole_transactions() {
    let dir = state();
    drop(Store::open(dir.path()).expect("opens"));
    let mut last = 0;
    for round in 0..5 {
        let mut victim = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "store::tests::faults::writes_until_killed", "--ignored"])
            .env(VICTIM, dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("starts");
        let reader = Store::open_read_only(dir.path()).expect("a reader beside");
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        // Killed at different places: the count at which it happens is not a multiple of a batch.
        while reader.ledger_head().expect("head").seq < last + 50 + 31 * round {
            assert!(std::time::Instant::now() < deadline, "the victim writes nothing");
            std::thread::yield_now();
        }
        victim.kill().expect("killed");
        victim.wait().expect("gone");
        drop(reader);
        let store = Store::open(dir.path()).expect("opens after the kill");
        let report = store.verify_chain().expect("verified");
        assert_eq!((report.fault, report.sound % 7), (None, 0), "whole batches of seven");
        assert!(report.sound > last);
        last = report.sound;
        let open = store.intents_open().expect("read");
        assert!(open.len() <= 2 * (round as usize + 1), "{} intents: begun and not closed", open.len());
        assert_eq!(store.baseline_count(Path::new(ETC)).expect("counted") % 3, 0, "whole groups of three");
    }
}

#[test]
#[ignore = "started and killed by the test above"]
fn writes_until_killed() {
    let Some(dir) = std::env::var_os(VICTIM) else { return };
    let mut store = Store::open(Path::new(&dir)).expect("opens");
    for n in 0u64.. {
        let intent = Intent { watch: ETC.into(), path: rel(format!("f{n}")), event: event(n) };
        let ids =
            store.intents_begin([planned(&mut intent.clone()), planned(&mut intent.clone())]).expect("noted");
        store.append(&events(7 * n + 1, 7 * n + 7), &ids).expect("appended");
        let entries: Vec<_> =
            (0..3).map(|i| (rel(format!("{}-{n}-{i}", std::process::id())), found(1))).collect();
        store.baseline_put_many(Path::new(ETC), &entries).expect("written");
    }
}

#[test]
fn a_database_held_by_another_program_is_named() {
    let dir = state();
    let store = Store::open(dir.path()).expect("opens");
    let shell = raw(dir.path());
    shell.execute_batch("BEGIN IMMEDIATE").expect("held");
    store.db.busy_timeout(Duration::from_millis(1)).expect("short patience");
    let mut store = store;
    let said = store.append(&[event(1)], &[]).expect_err("held").to_string();
    assert!(said.contains("held by another program"), "{said}");
    shell.execute_batch("ROLLBACK").expect("let go");
    assert_eq!(store.append(&[event(1)], &[]).expect("goes on")[0].seq, 1);
}

#[test]
fn a_vault_on_a_full_disk_says_so_and_goes_on_when_there_is_room() {
    use crate::store::vault::{Limits, Vault, VaultError};
    let Some(disk) = Tmpfs::new("3m") else {
        eprintln!("skipped: mounting a tmpfs needs root");
        return;
    };
    let limits = Limits { max_size: None, min_free: Some(0) };
    let vault = Vault::open(&disk.0.path().join("vault")).expect("opens").with_limits(limits);
    // SHA-256 in a chain does not compress.
    let mut block = [0u8; 32];
    let mut content = |length: usize| {
        let mut bytes = Vec::with_capacity(length + 32);
        while bytes.len() < length {
            block = sha2::Sha256::digest(block).into();
            bytes.extend_from_slice(&block);
        }
        bytes
    };
    use sha2::Digest as _;
    let kept = content(1 << 20);
    let first = vault.put(&mut &kept[..]).expect("fits");
    let small: Vec<Vec<u8>> = (0..40).map(|_| content(100_000)).collect();
    let (mut stored, mut said) = (Vec::new(), String::new());
    for bytes in &small {
        match vault.put(&mut &bytes[..]) {
            Ok(digest) => stored.push(digest),
            Err(e) => {
                assert!(matches!(e, VaultError::Full { .. }), "{e}");
                said = e.to_string();
                break;
            }
        }
    }
    assert!(!stored.is_empty() && said.contains("make room there"), "{said}");
    let large = content(4 << 20);
    // Noticed in the middle; and a disk that is full to the last block refuses even a name.
    for filler in [0, 3 << 20] {
        let _ = std::fs::write(disk.0.path().join("filler"), vec![1; filler]);
        let error = vault.put(&mut &large[..]).expect_err("no room");
        assert!(matches!(error, VaultError::Full { .. }), "{error}");
        assert_eq!(vault.put(&mut &kept[..]).expect("it is there already"), first);
        assert_eq!(std::fs::read_dir(vault.path().join("tmp")).expect("listed").count(), 0);
    }
    for digest in stored.iter().chain([&first]) {
        vault.verify(digest).expect("sound");
    }
    std::fs::remove_file(disk.0.path().join("filler")).expect("removed");
    rustix::mount::mount_remount(disk.0.path(), rustix::mount::MountFlags::empty(), c"size=16m")
        .expect("room");
    let digest = vault.put(&mut &large[..]).expect("there is room now");
    assert_eq!(vault.verify(&digest).expect("sound"), large.len() as u64);
}
