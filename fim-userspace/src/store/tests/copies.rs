//! Former versions, evidence, and who needs what in the vault.

use super::*;
use crate::core::entry::Digest;
use crate::core::quarantine::Reason;
use crate::store::versions::{NoVersion, choose};

fn evidence(path: &str, content: u8) -> EvidenceRow {
    EvidenceRow {
        watch: ETC.into(),
        path: rel(path),
        found: found(content),
        digest: Some(Digest([content; 32])),
        reason: Reason::Altered,
    }
}

fn reasons(store: &Store, path: &str) -> Vec<(String, u8)> {
    let copies = store.copies_of(Path::new(ETC), &rel(path)).expect("read");
    copies.into_iter().map(|c| (c.reason, c.sha256.0[0])).collect()
}

fn taken(time: &str) -> Taken {
    Taken { time: time.into(), by: "ann".into(), host: "web1".into() }
}

#[test]
fn what_a_new_baseline_approves_no_more_stays_known() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    let etc = Path::new(ETC);
    let baselines: [&[(&str, u8)]; 3] = [
        &[("same", 1), ("changes", 2), ("goes", 3)],
        &[("same", 1), ("changes", 4)],
        &[("same", 1), ("changes", 5)],
    ];
    for (n, entries) in baselines.into_iter().enumerate() {
        let entries: Vec<_> = entries.iter().map(|(path, c)| (rel(*path), found(*c))).collect();
        let mut rebuild = store.baseline_rebuild().expect("begun");
        rebuild.put(etc, &entries).expect("put");
        rebuild.commit(&taken(&format!("2026-11-22T0{n}:00:00Z"))).expect("committed");
    }
    drop(store.baseline_rebuild().expect("begun and given up"));
    assert_eq!(reasons(&store, "same"), [("approved".into(), 1)]);
    let formerly = |n| ("formerly approved".to_owned(), n);
    assert_eq!(reasons(&store, "changes"), [("approved".into(), 5), formerly(4), formerly(2)]);
    assert_eq!(reasons(&store, "goes"), [formerly(3)]);
    let former = store.former_of(etc, &rel("changes")).expect("read");
    let last = former.last().map(|f| (f.until.as_str(), &f.entry));
    assert_eq!(last, Some(("2026-11-22T02:00:00Z", &found(4).entry)));
    assert_eq!(store.baseline_contents(etc).expect("read").len(), 2);
}

#[test]
fn the_vault_is_told_who_needs_what_and_what_left_is_marked() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    let etc = Path::new(ETC);
    store.baseline_put_many(etc, &[(rel("a"), found(1)), (rel("b"), found(1))]).expect("written");
    let rows = [(0, evidence("a", 2)), (1, evidence("new\n\u{ff}", 2)), (1, evidence("a", 3))];
    store.append_with(&events(1, 2), &[], &rows).expect("written");
    let digest = |n| Digest([n; 32]);
    let references = store.references().expect("read");
    assert_eq!(references.len(), 3);
    assert_eq!(references[&digest(1)], References { baseline: 2, ..References::default() });
    let newest = Some(event(2).time);
    assert_eq!(references[&digest(2)], References { evidence: 2, newest, ..References::default() });
    assert_eq!(store.paths_of(&digest(2)).expect("read").len(), 2);
    assert!(store.has_content_before(&event(2).time).expect("read"));
    assert!(!store.has_content_before(&event(1).time).expect("read"));

    let record = store.evict(&[digest(2)], &event(9)).expect("written");
    assert_eq!(record.seq, 3);
    assert_eq!(store.references().expect("read").len(), 2);
    assert_eq!(reasons(&store, "a"), [("approved".into(), 1), ("altered".into(), 3)]);
    let fates: Vec<(Option<String>, Option<String>)> = raw(dir.path())
        .prepare("SELECT fate, fate_time FROM evidence ORDER BY id")
        .expect("sound")
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("read")
        .collect::<Result<_, _>>()
        .expect("read");
    let evicted = (Some("evicted".to_owned()), Some(event(9).time));
    assert_eq!(fates, [evicted.clone(), evicted, (None, None)]);
    assert_eq!(store.verify_chain().expect("verified").fault, None);
}

#[test]
fn a_copy_is_chosen_by_number_or_digest() {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("opens");
    store.baseline_put_many(Path::new(ETC), &[(rel("d/a"), found(0x11))]).expect("written");
    let rows = [(0, evidence("d/a", 0x22)), (1, evidence("d/a", 0x23)), (1, evidence("new", 0x22))];
    store.append_with(&events(1, 2), &[], &rows).expect("written");
    let copies = store.copies_at(Path::new("/etc/d/a")).expect("read");
    let pick = |version| choose(&copies, version).map(|c| c.sha256.0[0]);
    assert_eq!(pick(None), Ok(0x11));
    assert_eq!((pick(Some("1")), pick(Some("2")), pick(Some("3"))), (Ok(0x11), Ok(0x23), Ok(0x22)));
    assert_eq!(pick(Some("2222")), Ok(0x22));
    assert_eq!(pick(Some("22232")), Err(NoVersion::Unknown("22232".into())));
    for unknown in ["0", "4", "", "222", "x"] {
        assert_eq!(pick(Some(unknown)), Err(NoVersion::Unknown(unknown.into())));
    }
    let new = store.copies_at(Path::new("/etc/new")).expect("read");
    assert_eq!(choose(&new, None), Err(NoVersion::NotApproved(1)));
    assert!(store.copies_at(Path::new("/etc/none")).expect("read").is_empty());
    assert!(store.copies_at(Path::new("/etc/d")).expect("read").is_empty());
    assert_eq!(choose(&[], Some("1")), Err(NoVersion::None));
}
