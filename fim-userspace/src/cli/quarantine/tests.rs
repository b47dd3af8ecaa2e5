use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::core::entry::tests::regular;
use crate::core::entry::{Entry, Found, Identity};
use crate::core::event::{Event, EventKind};
use crate::core::path::RelPath;
use crate::core::quarantine::Reason;
use crate::store::EvidenceRow;

#[test]
fn times_are_written_as_in_the_configuration() {
    for (text, seconds) in [("90d", 7_776_000), ("1h30m", 5400), ("45s", 45), ("0s", 0)] {
        assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    for text in ["", "90", "d", "1w", "-1d", "99999999999999999999d", "1h 30m"] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn a_purge_by_age_takes_only_what_the_list_shows() {
    let dir = tempfile::tempdir().expect("temporary folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    let text = format!("[state]\ndir = {:?}\n[[watch]]\npath = \"/w\"\n", dir.path());
    let config = Config::parse(Path::new("fim.toml"), &text).expect("valid");
    let mut store = Store::open(dir.path()).expect("opens");
    let vault = Vault::open(&dir.path().join("vault")).expect("opens");
    let digest = vault.put(&mut &b"content"[..]).expect("stored");
    let identity = Identity { dev: 1, ino: 2, ctime_ns: 3, nlink: 1 };
    let found = Found { entry: Entry { sha256: Some(digest), ..regular(1) }, identity };
    for (n, reason) in (1u8..).zip(Reason::ALL) {
        let path = RelPath::new([b'f', n].as_slice()).expect("sound");
        let row =
            EvidenceRow { watch: "/w".into(), path, found: found.clone(), digest: Some(digest), reason };
        let event = Event::about_fim(EventKind::Modified, "h", "lsm", i64::from(n) * 1_000, "m".into());
        store.append_with(&[event], &[], &[(0, row)]).expect("written");
    }
    let away = |held: &Held| held.reason.is_away();
    let listed: Vec<i64> =
        store.held(false).expect("read").iter().filter(|h| away(h)).map(|h| h.id).collect();
    assert!(listed.len() < Reason::ALL.len());
    assert_eq!(to_purge(&config, &[], Some(Duration::from_secs(3_600))).expect("chosen"), listed);
    let told = store.held(false).expect("read").iter().find(|h| !away(h)).map(|h| h.id).expect("one");
    assert!(to_purge(&config, &[told], None).is_err(), "it is not in quarantine");
}
