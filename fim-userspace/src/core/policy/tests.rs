use super::*;
use crate::core::entry::tests::regular;
use crate::core::entry::{Aspect, Found, Identity};

fn path(text: &str) -> RelPath {
    RelPath::new(text).expect("sound")
}

fn rule(paths: &[&str], says: Override) -> Rule {
    Rule { paths: paths.iter().map(|p| (*p).to_owned()).collect(), says }
}

fn watch(rules: &[Rule]) -> WatchPolicy {
    WatchPolicy { rules: Rules::new(rules).expect("valid"), ..WatchPolicy::restore_everything() }
}

fn severity(severity: Severity) -> Override {
    Override { severity: Some(severity), ..Override::default() }
}

#[test]
fn later_rules_win_key_by_key() {
    let policy = watch(&[
        rule(&["*.conf", "!local.conf"], severity(Severity::Critical)),
        rule(&["/ssh/**"], Override { on_modified: Some(OnAltered::Alert), ..severity(Severity::Low) }),
        rule(&["cache/"], Override { dry_run: Some(true), ..Override::default() }),
        rule(&["!x", "/ssh/sshd.conf"], Override { repeat_limit: Some(3), ..Override::default() }),
    ]);
    let base = PathPolicy::restore_everything();
    let critical = PathPolicy { severity: Severity::Critical, ..base };
    let ssh = PathPolicy { severity: Severity::Low, on_modified: OnAltered::Alert, ..base };
    let cases = [
        ("", true, base),
        ("hosts", false, base),
        ("a/b.conf", false, critical),
        ("local.conf", false, base),
        ("ssh", true, base),
        ("ssh/key", false, ssh),
        ("ssh/other.conf", false, ssh),
        ("ssh/sshd.conf", false, PathPolicy { repeat_limit: 3, ..ssh }),
        ("cache", false, base),
        ("cache", true, PathPolicy { dry_run: true, ..base }),
        ("a/cache/deep/x.conf", false, PathPolicy { dry_run: true, ..critical }),
    ];
    for (at, directory, expected) in cases {
        assert_eq!(policy.of(&path(at), directory), expected, "{at}");
    }
    assert_eq!(policy.rules.matching(&path("ssh/sshd.conf"), false), [0, 1, 3]);
    let named: Vec<String> = policy.rules.named(&path("ssh/sshd.conf"), false).collect();
    assert_eq!(named, ["*.conf, !local.conf", "/ssh/**", "!x, /ssh/sshd.conf"]);
}

#[test]
fn a_name_that_is_no_text_is_matched_by_its_bytes() {
    let policy = watch(&[rule(&["*.conf"], severity(Severity::Low))]);
    assert_eq!(policy.of(&path_bytes(b"a\n\xff.conf"), false).severity, Severity::Low);
    assert_eq!(policy.of(&path_bytes(b"a\n\xff.con"), false).severity, Severity::High);
}

fn path_bytes(bytes: &[u8]) -> RelPath {
    RelPath::new(bytes).expect("sound")
}

#[test]
fn a_dry_run_of_everything_is_stronger_than_any_rule() {
    let mut policy = watch(&[rule(&["a"], Override { dry_run: Some(false), ..severity(Severity::Low) })]);
    policy.dry_run_everything();
    let (a, b) = (policy.of(&path("a"), false), policy.of(&path("b"), false));
    assert!(a.dry_run && b.dry_run && a.severity == Severity::Low);
}

#[test]
fn what_is_ignored_is_no_difference() {
    let policy = PathPolicy {
        ignore: [Aspect::Mtime, Aspect::Owner].into_iter().collect(),
        ..PathPolicy::restore_everything()
    };
    let approved = regular(1);
    let touched = Entry { mtime_ns: 9, uid: 8, ..regular(1) };
    assert!(policy.satisfied(&approved, &touched) && policy.satisfied(&approved, &approved));
    assert!(!policy.satisfied(&approved, &Entry { gid: 9, ..touched.clone() }));
    assert!(!policy.satisfied(&approved, &Entry { sha256: None, ..touched.clone() }));
    assert!(!PathPolicy::restore_everything().satisfied(&approved, &touched));
}

#[test]
fn the_type_that_was_approved_decides_which_rule_holds() {
    let policy = watch(&[rule(&["log/"], severity(Severity::Low))]);
    let dir = Entry { kind: FileType::Directory, ..regular(1) };
    let found = |entry: Entry| Found { entry, identity: Identity { dev: 1, ino: 2, ctime_ns: 3, nlink: 1 } };
    let change = |before: Option<Entry>, after: Option<Entry>| Change {
        kind: ChangeKind::Type,
        path: path("log"),
        old_path: None,
        before,
        after: after.map(found),
        aspects: Vec::new(),
    };
    let cases = [
        (Some(dir.clone()), Some(regular(1)), Severity::Low),
        (Some(regular(1)), Some(dir.clone()), Severity::High),
        (None, Some(dir), Severity::Low),
        (None, Some(regular(1)), Severity::High),
    ];
    for (before, after, expected) in cases {
        let change = change(before, after);
        assert_eq!(policy.of_change(&change).severity, expected, "{change:?}");
    }
}

#[test]
fn a_rename_is_answered_by_the_policies_of_both_names() {
    let lax = Override {
        on_deleted: Some(OnAltered::Alert),
        on_created: Some(OnCreated::Alert),
        ..severity(Severity::Low)
    };
    let policy = watch(&[
        rule(&["tmp/**"], lax),
        rule(&["dry/**"], Override { dry_run: Some(true), ..Override::default() }),
        rule(
            &["blind/**"],
            Override { kinds: Some([ChangeKind::Modified].into_iter().collect()), ..Override::default() },
        ),
    ]);
    let renamed = |old: &str, new: &str| {
        let change = Change {
            kind: ChangeKind::Renamed,
            path: path(new),
            old_path: Some(path(old)),
            before: Some(regular(1)),
            after: None,
            aspects: Vec::new(),
        };
        policy.of_change(&change)
    };
    let away = renamed("passwd", "tmp/x");
    assert_eq!((away.on_deleted, away.on_created), (OnAltered::Restore, OnCreated::Alert));
    assert_eq!(away.severity, Severity::High, "moving it somewhere lax makes it no less severe");
    let back = renamed("tmp/x", "passwd");
    assert_eq!((back.on_deleted, back.on_created), (OnAltered::Alert, OnCreated::Quarantine));
    for (old, new, expected) in [
        ("a", "b", true),
        ("a", "tmp/b", true),
        ("a", "dry/b", false),
        ("dry/a", "b", false),
        ("dry/a", "dry/b", true),
        ("a", "blind/b", false),
        ("blind/a", "b", false),
    ] {
        assert_eq!(policy.renames_as_one(&path(old), &path(new), false), expected, "{old} to {new}");
    }
}

/// Printed for docs; the bound is far above what any machine needs and far below what a search per rule would cost.
#[test]
fn a_hundred_thousand_paths_are_resolved_quickly() {
    let rules: Vec<Rule> =
        (0..20).map(|n| rule(&[&format!("*.t{n}"), &format!("/d{n}/**")], severity(Severity::Low))).collect();
    let policy = watch(&rules);
    let paths: Vec<RelPath> =
        (0..100_000).map(|n| path(&format!("some/folder{}/of/file{n}.conf", n % 100))).collect();
    let begun = std::time::Instant::now();
    let plain = paths.iter().filter(|p| policy.of(p, false) == policy.base).count();
    let took = begun.elapsed();
    println!("{} paths against {} rules in {took:?}", paths.len(), rules.len());
    assert_eq!(plain, paths.len());
}
