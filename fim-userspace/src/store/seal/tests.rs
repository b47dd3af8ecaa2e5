use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::core::event::{Event, EventKind};
use crate::store::{Fault, Verification};

fn state() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    dir
}

fn grow(store: &mut Store, count: i64) {
    let events: Vec<Event> =
        (0..count).map(|n| Event::about_fim(EventKind::Trouble, "h", "lsm", n, format!("n{n}"))).collect();
    store.append(&events, &[]).expect("appended");
}

fn fault(store: &Store, key: &VerificationKey) -> Option<Fault> {
    store.verify(Verification { key: Some(key), ..Verification::default() }).expect("verified").fault
}

#[test]
fn the_key_as_text_reads_back_and_a_wrong_digit_shows() {
    let key = VerificationKey::generate().expect("random numbers");
    let text = key.text();
    assert!(text.starts_with("fim-seal-1-") && text.len() == "fim-seal-1".len() + 9 * 9, "{}", *text);
    let broken = text.to_uppercase().replacen('-', "\n - ", 4);
    assert_eq!(VerificationKey::parse(&broken).expect("read").setup(), key.setup());
    let at = text.len() - 20;
    let other = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
    let mut wrong = text.to_string();
    wrong.replace_range(at..=at, other);
    assert!(wrong.as_bytes()[at] == b'-' || VerificationKey::parse(&wrong).is_none(), "{wrong}");
    for bad in ["", "fim-seal-1", "fim-seal-1-é", &text[..60]] {
        assert!(VerificationKey::parse(bad).is_none(), "{bad}");
    }
    assert!(!format!("{key:?}").contains(&text[11..19]));
}

#[test]
fn a_used_key_is_nowhere_on_the_disk() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    let key = Sealer::set_up(&mut store, 7).expect("set up");
    let mut sealer = Sealer::open(dir.path()).expect("read").expect("there");
    for time in 0..5 {
        grow(&mut store, 2);
        sealer.seal(&mut store, time, TIME).expect("sealed");
    }
    let keys: Vec<EpochKey> = key.epochs().take(7).collect();
    assert_eq!(sealer.file.state.key, keys[6]);
    drop((sealer, store));
    for entry in std::fs::read_dir(dir.path()).expect("listed") {
        let path = entry.expect("entry").path();
        let bytes = std::fs::read(&path).expect("read");
        for (epoch, key) in keys.iter().enumerate() {
            let there = bytes.windows(32).any(|w| w == key.0);
            assert_eq!(there, epoch == 6 && path.ends_with(FILE), "epoch {epoch} in {path:?}");
        }
    }
    let mode = std::fs::metadata(dir.path().join(FILE)).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn a_crash_between_seal_and_key_is_healed() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    let key = Sealer::set_up(&mut store, 1).expect("set up");
    grow(&mut store, 3);
    let file = dir.path().join(FILE);
    let before = std::fs::read(&file).expect("read");
    let mut sealer = Sealer::open(dir.path()).expect("read").expect("there");
    sealer.seal(&mut store, 2, TIME).expect("sealed");
    let after = std::fs::read(&file).expect("read");
    drop(sealer);
    // The seal is in the database, the key has not moved yet; then both keys are there.
    let both: Vec<u8> = before.iter().zip(&after).map(|(a, b)| a | b).collect();
    for crashed in [&before, &both] {
        std::fs::write(&file, crashed).expect("written");
        assert_eq!(fault(&store, &key), None, "no false alarm before it is healed");
        let mut sealer = Sealer::open(dir.path()).expect("read").expect("there");
        sealer.seal(&mut store, 3, TIME).expect("sealed");
        assert_eq!(fault(&store, &key), None);
        let used = std::fs::read(&file).expect("read").iter().filter(|b| **b != 0).count();
        assert!(used < 120, "one key: {used} bytes");
    }
    std::fs::write(&file, [0; 100]).expect("written");
    assert!(Sealer::open(dir.path()).err().expect("no key").to_string().contains("fim seal setup --replace"));
    assert_eq!(fault(&store, &key), Some(Fault::Seal(SealFault::NoKeyFile)));
}

#[test]
fn a_new_setup_closes_the_one_before() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    let first = Sealer::set_up(&mut store, 1).expect("set up");
    grow(&mut store, 3);
    let second = Sealer::set_up(&mut store, 2).expect("again");
    grow(&mut store, 3);
    Sealer::open(dir.path()).expect("read").expect("there").seal(&mut store, 3, STOPPED).expect("sealed");
    assert_eq!((fault(&store, &first), fault(&store, &second)), (None, None));
    let other = VerificationKey::generate().expect("random numbers");
    assert_eq!(fault(&store, &other), Some(Fault::Seal(SealFault::OtherKey)));
    // Without its last seal the end of the first could have been cut off.
    let raw = rusqlite::Connection::open(dir.path().join(crate::store::DATABASE)).expect("opens");
    raw.execute("DELETE FROM seal WHERE reason = 'replaced'", []).expect("deleted");
    assert_eq!(fault(&store, &first), Some(Fault::Seal(SealFault::Missing { epoch: 1 })));
}
