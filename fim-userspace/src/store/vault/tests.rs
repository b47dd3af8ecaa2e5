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

/// Two threads store at once, and one of them finds the other's object gone: it was dropped, and its owner never heard of it.
#[test]
fn what_another_could_not_make_visible_is_known_to_be_lost() {
    let (dir, vault) = vault();
    let (one, two) = (content(1000), content(2000));
    let first = vault.put_deferred(&mut &one[..]).expect("stored");
    for file in fs::read_dir(dir.path().join("vault/tmp")).expect("there").flatten() {
        fs::remove_file(file.path()).expect("removed");
    }
    let second = vault.put_deferred(&mut &two[..]).expect("stored");
    vault.commit_batch().expect_err("one is gone");
    assert_eq!(vault.read(&second).expect("sound"), two);
    assert_eq!(vault.commit_batch().expect("nothing is left to do"), 0);
    assert!(vault.is_lost(&first) && !vault.is_lost(&second));
    assert_eq!(vault.put_deferred(&mut &one[..]).expect("stored"), first);
    vault.commit_batch().expect("committed");
    assert!(!vault.is_lost(&first) && vault.contains(&first));
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

fn limited(vault: Vault, max_size: u64) -> Vault {
    vault.with_limits(Limits { max_size: Some(max_size), min_free: Some(0) })
}

#[test]
fn a_full_vault_says_so_and_keeps_what_it_has() {
    let (_dir, vault) = vault();
    let vault = limited(vault, 3 << 20);
    let first = vault.put(&mut &content(2 << 20)[..]).expect("fits");
    assert!(vault.room_for(1 << 19).is_ok() && !vault.take_refused());
    assert!(matches!(vault.room_for(1 << 20), Err(VaultError::Full { .. })));
    // One in a piece, one that is noticed in the middle, one deferred.
    for length in [(1 << 20) - 10, 8 << 20] {
        let bytes = content(length);
        let other: Vec<u8> = bytes.iter().map(|b| !b).collect();
        for error in [
            vault.put(&mut &other[..]).expect_err("no room"),
            vault.put_deferred(&mut &other[..]).expect_err("no room"),
        ] {
            let said = error.to_string();
            assert!(matches!(error, VaultError::Full { .. }) && said.contains("max_size"), "{said}");
        }
        assert!(vault.take_refused() && !vault.take_refused(), "told once");
    }
    assert!(files(vault.path().join("tmp")).is_empty(), "nothing half-written stays");
    assert_eq!(vault.put(&mut &content(2 << 20)[..]).expect("it is there already"), first);
    assert_eq!(files(vault.path().join("objects")).len(), 1);
    assert_eq!(vault.verify(&first).expect("sound"), 2 << 20);
}

#[test]
fn room_is_left_on_the_disk() {
    let (_dir, vault) = vault();
    let vault = vault.with_limits(Limits { max_size: None, min_free: Some(u64::MAX) });
    let error = vault.put(&mut &b"x"[..]).expect_err("all of the disk is to stay free");
    assert!(matches!(error, VaultError::Full { .. }) && error.to_string().contains("min_free"), "{error}");
    assert!(files(vault.path().to_path_buf()).is_empty());
}

#[test]
fn the_account_says_what_a_listing_says() {
    let (_dir, vault) = vault();
    assert_eq!((vault.used(), vault.measure().expect("measured"), vault.used()), (None, 0, Some(0)));
    let account = |vault: &Vault| {
        let told = vault.used().expect("measured");
        let listed: u64 = vault.objects().expect("listed").iter().map(|object| object.size).sum();
        assert_eq!(told, listed);
        listed
    };
    let digests: Vec<Digest> =
        [0, 5000, 70_000, 3 << 20].map(|n| vault.put(&mut &content(n)[..]).expect("stored")).to_vec();
    vault.put(&mut &content(5000)[..]).expect("there already");
    vault.put(&mut &content(3 << 20)[..]).expect("there already");
    let full = account(&vault);
    let twins: Vec<Digest> =
        (0..2).map(|_| vault.put_deferred(&mut &content(2 << 20)[..]).expect("stored")).collect();
    vault.commit_batch().expect("committed");
    assert!(account(&vault) > full && twins[0] == twins[1]);
    fs::write(object_path(&vault, &digests[2]), b"damaged").expect("written");
    vault.measure().expect("measured");
    vault.put(&mut &content(70_000)[..]).expect("healed");
    account(&vault);
    let all: Vec<Digest> = vault.objects().expect("listed").iter().map(|object| object.digest).collect();
    assert_eq!(all.len(), 5);
    for digest in &all {
        assert!(vault.remove(digest).expect("removed") > 0);
        assert_eq!(vault.remove(digest).expect("gone already"), 0);
        account(&vault);
    }
    assert!(vault.objects().expect("listed").is_empty());
}

#[test]
fn only_its_own_objects_are_listed_and_found_by_their_first_digits() {
    let (_dir, vault) = vault();
    let digest = vault.put(&mut &b"one"[..]).expect("stored");
    let shelf = object_path(&vault, &digest).parent().expect("a shelf").to_path_buf();
    let hex = digest.to_string();
    for name in ["README", &hex[3..], &hex[2..].to_uppercase(), &format!("{}.zst", &hex[2..])] {
        if name != &hex[2..] {
            fs::write(shelf.join(name), b"").expect("written");
        }
    }
    fs::write(vault.path().join("objects/stray"), b"").expect("written");
    let all = vault.objects().expect("listed");
    assert_eq!((all.len(), all[0].digest, all[0].form), (1, digest, Form::Zstd));
    assert_eq!(vault.find(&hex[..8]).expect("found"), all);
    let other = if hex.starts_with("00") { "01" } else { "00" };
    assert!(vault.find(other).expect("looked").is_empty() && vault.find("zz").expect("looked").is_empty());
}

#[test]
fn a_folder_that_was_removed_or_replaced_is_noticed_and_made_again() {
    let (_dir, vault) = vault();
    let bytes = content(100);
    let digest = vault.put(&mut &bytes[..]).expect("stored");
    assert!(!vault.ensure().expect("it stands"));
    // A shelf is made again by itself.
    let shelf = object_path(&vault, &digest).parent().expect("a shelf").to_path_buf();
    fs::remove_dir_all(&shelf).expect("removed");
    assert!(!vault.ensure().expect("it stands") && !vault.contains(&digest));
    vault.put(&mut &bytes[..]).expect("stored again");

    let aside = vault.path().with_extension("aside");
    fs::rename(vault.path(), &aside).expect("moved");
    assert!(vault.ensure().expect("made again") && !vault.contains(&digest));
    assert!(!vault.ensure().expect("it stands"));
    fs::remove_dir_all(vault.path()).expect("removed");
    assert!(matches!(vault.put(&mut &bytes[..]), Err(VaultError::Gone { .. })));
    assert!(vault.ensure().expect("made again"));
    for inner in ["objects", "tmp"] {
        fs::remove_dir_all(vault.path().join(inner)).expect("removed");
        assert!(vault.ensure().expect("made again"), "{inner}");
        assert_eq!(vault.put(&mut &bytes[..]).expect("stored"), digest);
    }
    fs::remove_dir_all(vault.path()).expect("removed");
    fs::write(vault.path(), b"").expect("in its place");
    assert!(matches!(vault.ensure(), Err(VaultError::Unusable { .. })));
    fs::remove_file(vault.path()).expect("removed");
    fs::rename(&aside, vault.path()).expect("put back");
    assert!(vault.ensure().expect("it stands again"));
    assert_eq!(vault.read(&digest).expect("all is there"), bytes);
}

#[test]
fn nothing_is_made_by_opening_it_to_read() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("vault");
    assert!(matches!(Vault::open_existing(&path), Err(VaultError::Unusable { .. })));
    assert!(!path.exists());
}

#[test]
fn a_plain_object_is_verified_like_any_other_and_gives_way_to_a_sound_one() {
    let (_dir, vault) = vault();
    let bytes = content(100_000);
    let digest = object::digest(&bytes);
    let raw = vault.path().join("objects").join(object_name(&digest, Form::Raw));
    fs::write(&raw, &bytes).expect("written");
    assert!(vault.contains(&digest) && vault.objects().expect("listed")[0].form == Form::Raw);
    assert_eq!(vault.read(&digest).expect("sound"), bytes);
    assert_eq!(vault.put(&mut &bytes[..]).expect("there already"), digest);
    assert_eq!(
        files(vault.path().join("objects")),
        std::slice::from_ref(&raw),
        "identical content once, whichever form"
    );
    let mut damaged = bytes.clone();
    damaged[7] ^= 1;
    fs::write(&raw, &damaged).expect("written");
    assert!(matches!(vault.read(&digest), Err(VaultError::Corrupt { .. })));
    vault.measure().expect("measured");
    vault.put(&mut &bytes[..]).expect("healed");
    assert_eq!(vault.read(&digest).expect("sound"), bytes);
    assert!(!raw.exists());
    assert_eq!(vault.used(), Some(vault.measure().expect("measured")));
}

/// A mounted file system in a file; gone when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    /// `None` where this machine cannot make or mount one.
    fn new(kind: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let image = dir.path().join("image");
        fs::File::create(&image).and_then(|file| file.set_len(400 << 20)).expect("an image");
        fs::create_dir(dir.path().join("at")).expect("made");
        let run = |program: &str, args: &[&str]| {
            let done = std::process::Command::new(program).args(args).current_dir(dir.path()).output();
            done.is_ok_and(|done| done.status.success())
        };
        let made = run(&format!("mkfs.{kind}"), &["-q", "image"]);
        (made && run("mount", &["-o", "loop", "image", "at"])).then(|| Self(dir))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("at")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn approved_files_share_their_blocks_where_the_file_system_can() {
    for kind in ["btrfs", "xfs"] {
        let Some(disk) = Disk::new(kind) else {
            eprintln!("skipped on {kind}: no mkfs.{kind}, loop device or right to mount");
            continue;
        };
        let vault = Vault::open(&disk.path().join("vault")).expect("opens");
        let file = disk.path().join("file");
        for (length, form) in [(300_000, Form::Raw), (1000, Form::Zstd)] {
            let bytes = content(length);
            fs::write(&file, &bytes).expect("written");
            let mut open = fs::File::open(&file).expect("opens");
            let digest = vault.keep_deferred(&mut open).expect("kept");
            assert_eq!(vault.keep_deferred(&mut open).expect("kept"), digest);
            assert!(!vault.contains(&digest), "not before it is committed");
            vault.commit_batch().expect("committed");
            let object = vault.find(&digest.to_string()).expect("found");
            assert_eq!((object.len(), object[0].form), (1, form), "{kind}, {length}");
            // What happens to the file later does not touch the object.
            fs::write(&file, b"altered").expect("written");
            assert_eq!(vault.read(&digest).expect("sound"), bytes, "{kind}");
            assert_eq!(vault.put(&mut &bytes[..]).expect("there already"), digest);
            assert_eq!(vault.find(&digest.to_string()).expect("found").len(), 1);
        }
        assert!(files(vault.path().join("tmp")).is_empty());
        assert_eq!(vault.used(), None);
        let told = limited(vault, 4 << 20);
        told.measure().expect("measured");
        fs::write(&file, content(8 << 20)).expect("written");
        let error = told.keep_deferred(&mut fs::File::open(&file).expect("opens")).expect_err("no room");
        assert!(matches!(error, VaultError::Full { .. }), "{error}");
    }
}

#[test]
fn where_nothing_can_be_shared_an_approved_file_is_copied() {
    let (dir, vault) = vault();
    let shared = std::path::Path::new("/dev/shm");
    let other = tempfile::tempdir_in(if shared.is_dir() { shared } else { dir.path() }).expect("a folder");
    let bytes = content(200_000);
    fs::write(other.path().join("file"), &bytes).expect("written");
    let mut file = fs::File::open(other.path().join("file")).expect("opens");
    let digest = vault.keep_deferred(&mut file).expect("kept");
    vault.commit_batch().expect("committed");
    assert_eq!(vault.read(&digest).expect("sound"), bytes);
    assert!(files(vault.path().join("tmp")).is_empty());
}
