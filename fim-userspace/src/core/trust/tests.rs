use std::sync::Arc;

use super::*;
use crate::core::actor::ExePlace;
use crate::core::correlate::Correlator;
use crate::core::observation::{Deed, Observation, Source};
use crate::core::path::RelPath;

const WATCH: WatchId = WatchId(3);

fn file(ino: u64) -> ExeFile {
    ExeFile { dev: 9, ino, sha256: None, place: ExePlace::Linked, baseline: None }
}

fn actor(pid: u32, exe: &str) -> Actor {
    Actor {
        pid: Some(pid),
        start_ns: Some(u64::from(pid) << 32),
        uid: Some(0),
        exe: Some(exe.into()),
        exe_file: Some(file(u64::from(pid))),
        confidence: Confidence::Exact,
        ..Actor::unknown()
    }
}

fn child_of(parent: &Actor, pid: u32, exe: &str) -> Actor {
    let above = Ancestor {
        pid: parent.pid.expect("has one"),
        start_ns: parent.start_ns,
        uid: parent.uid,
        exe: parent.exe.clone(),
        exe_file: parent.exe_file.clone(),
        ..Ancestor::default()
    };
    let ancestors = std::iter::once(above).chain(parent.ancestors.iter().cloned()).collect();
    Actor { ancestors, ..actor(pid, exe) }
}

fn rule(descendants: bool) -> Rule {
    Rule {
        name: "dpkg".into(),
        programs: vec!["/usr/bin/dpkg".into()],
        sha256: None,
        descendants,
        watches: Some(vec![WATCH]),
        users: vec![0, 1000],
        container: Some("0123456789ab".into()),
    }
}

fn witnessed(seen: &[(&Actor, Deed)]) -> Witnessed {
    let mut correlator = Correlator::new();
    for (actor, deed) in seen {
        let seen = Observation {
            source: Source::Fanotify,
            watch: WATCH,
            path: RelPath::new("f").expect("sound"),
            deed: deed.clone(),
            directory: false,
            actor: Some(Arc::new(Actor::clone(actor))),
            at_ns: 1,
        };
        correlator.observe(seen, 0);
    }
    correlator.due(u64::MAX, 9).pop().map(|look| look.witnessed).unwrap_or_default()
}

fn of(rules: &[Rule], watch: WatchId, seen: &[(&Actor, Deed)]) -> Result<Vec<u32>, Untrusted> {
    let author = seen.last().map(|(actor, _)| Actor::clone(actor)).unwrap_or_else(Actor::unknown);
    let claims =
        judge(rules, watch, &witnessed(seen), &author, Left { owner: Some(0), first_ns: 5 * LAG_NS })?;
    Ok(claims.iter().map(|claim| claim.process.tgid).collect())
}

#[test]
fn every_possible_writer_has_to_be_trusted() {
    let dpkg = actor(7, "/usr/bin/dpkg");
    let script = child_of(&child_of(&dpkg, 8, "/usr/bin/dash"), 9, "/usr/bin/cp");
    let other = actor(20, "/usr/bin/dash");
    let named = Actor {
        comm: Some("dpkg".into()),
        cmdline: vec!["/usr/bin/dpkg".into()],
        ..actor(21, "/usr/bin/dash")
    };
    let unknown = Actor { pid: Some(30), ..Actor::unknown() };
    type Case<'a> = (&'static str, Vec<(&'a Actor, Deed)>, Option<&'a [u32]>);
    let cases: [Case<'_>; 10] = [
        ("the updater", vec![(&dpkg, Deed::Written)], Some(&[7])),
        ("what it started", vec![(&script, Deed::Closed)], Some(&[7])),
        ("both, the author first", vec![(&dpkg, Deed::Created), (&script, Deed::Written)], Some(&[7, 7])),
        ("a stranger", vec![(&other, Deed::Written)], None),
        ("its name alone", vec![(&named, Deed::Written)], None),
        ("nobody", vec![], None),
        ("somebody unknown", vec![(&unknown, Deed::Written)], None),
        ("with a stranger", vec![(&other, Deed::Written), (&dpkg, Deed::MovedHere { from: None })], None),
        ("with somebody unknown", vec![(&unknown, Deed::OpenedForWrite), (&dpkg, Deed::Written)], None),
        (
            "a link's maker has no part",
            vec![(&other, Deed::Linked { to: None }), (&dpkg, Deed::Written)],
            Some(&[7]),
        ),
    ];
    for (name, seen, expected) in cases {
        assert_eq!(of(&[rule(true)], WATCH, &seen).ok().as_deref(), expected, "{name}");
    }
    assert_eq!(of(&[rule(true)], WATCH, &[(&other, Deed::Written)]), Err(Untrusted::Stranger));
}

#[test]
fn a_rule_holds_for_its_watches_its_users_and_its_descendants() {
    let dpkg = actor(7, "/usr/bin/dpkg");
    let child = child_of(&dpkg, 8, "/usr/bin/cp");
    let with = |actor: Actor| of(&[rule(true)], WATCH, &[(&actor, Deed::Written)]).is_ok();
    assert!(of(&[rule(false)], WATCH, &[(&child, Deed::Written)]).is_err());
    assert!(of(&[rule(true)], WatchId(4), &[(&dpkg, Deed::Written)]).is_err());
    assert!(with(Actor { uid: Some(1000), ..dpkg.clone() }));
    assert!(!with(Actor { uid: Some(1001), ..dpkg.clone() }));
    assert!(!with(Actor { uid: None, ..dpkg.clone() }));
    // The host's own dpkg, mounted into a container and run by its root.
    assert!(!with(Actor { container: Some("ba9876543210".into()), ..dpkg.clone() }));
    assert!(with(Actor { container: Some("0123456789ab".into()), ..dpkg.clone() }));
    // A service that root restarted from a login of his, or that user 1000 did.
    assert!(!with(Actor { uid: Some(33), auid: Some(0), ..dpkg.clone() }));
    assert!(!with(Actor { uid: Some(33), auid: Some(1000), ..dpkg.clone() }));
    let only_1000 = Rule { users: vec![1000], ..rule(true) };
    let by = |auid| {
        of(std::slice::from_ref(&only_1000), WATCH, &[(&Actor { auid, ..dpkg.clone() }, Deed::Written)])
            .is_ok()
    };
    assert!(by(Some(1000)) && !by(Some(1001)) && !by(None), "sudo keeps the login id");
    // What a script runs as another user is still what dpkg started.
    assert!(with(Actor { uid: Some(33), ..child.clone() }));
    assert!(!with(Actor { exe_file: None, ..dpkg.clone() }), "a path proves nothing");
    assert!(
        with(Actor { exe: Some("/usr/bin/dpkg (deleted)".into()), ..dpkg.clone() }),
        "it replaced itself"
    );
    assert!(!with(Actor { exe: Some("/tmp/usr/bin/dpkg".into()), ..dpkg }));
}

#[test]
fn what_nobody_was_seen_making_is_trusted_by_its_owner_only() {
    let dpkg = actor(7, "/usr/bin/dpkg");
    let inherited = witnessed(&[(&dpkg, Deed::Created)]).as_possible();
    let of = |owner| judge(&[rule(true)], WATCH, &inherited, &dpkg, Left { owner, first_ns: 5 * LAG_NS });
    assert!(of(Some(0)).is_ok());
    for owner in [Some(1000), None] {
        assert!(matches!(of(owner), Err(Untrusted::Refused(why)) if why.contains("seen")), "{owner:?}");
    }
}

#[test]
fn interpreters_are_known_whatever_their_version() {
    for name in ["sh", "python3.11", "perl5.36.0", "ruby3.1", "ld-linux-x86-64.so.2", "busybox", "php-8.2"] {
        assert!(is_interpreter(name), "{name}");
    }
    for name in ["dpkg", "apt-get", "dnf5", "deploy", "shell", "pythonic"] {
        assert!(!is_interpreter(name), "{name}");
    }
    assert!(
        PRESETS
            .iter()
            .flat_map(|preset| preset.programs)
            .all(|p| !is_interpreter(p.rsplit('/').next().unwrap_or(p)))
    );
}

#[test]
fn what_was_altered_before_is_not_made_right_by_a_touch() {
    use crate::core::entry::tests::regular;
    let (approved, altered) = (regular(1), regular(8));
    let touched = Entry { mode: 0o600, ..altered.clone() };
    let replaced = Entry { mode: 0o600, ..regular(5) };
    assert!(!is_remade(Some(&approved), &altered, &touched), "content is still a stranger's");
    assert!(is_remade(Some(&approved), &altered, &replaced));
    assert!(is_remade(Some(&approved), &altered, &approved), "put back");
    assert!(!is_remade(None, &altered, &touched));
    assert!(is_remade(None, &altered, &replaced));
    let folder = Entry { kind: crate::core::entry::FileType::Directory, sha256: None, ..regular(1) };
    assert!(is_remade(Some(&approved), &folder, &touched), "another object");
    let mode_and_content = Entry { mode: 0o777, ..altered };
    assert!(!is_remade(
        Some(&approved),
        &mode_and_content,
        &Entry { sha256: approved.sha256, ..mode_and_content.clone() }
    ));
}

/// A package's script starts a service by itself.
#[test]
fn what_outlives_its_updater_is_not_trusted_with_it() {
    let apt = actor(6, "/usr/bin/apt-get");
    let dpkg = child_of(&apt, 7, "/usr/bin/dpkg");
    let mut service = child_of(&dpkg, 8, "/usr/sbin/served");
    let mut with = |dpkg_ended, apt_ended| {
        (service.ancestors[0].ended_ns, service.ancestors[1].ended_ns) = (dpkg_ended, apt_ended);
        let both = Rule { programs: vec!["/usr/bin/dpkg".into(), "/usr/bin/apt-get".into()], ..rule(true) };
        of(&[both], WATCH, &[(&service, Deed::Written)]).ok()
    };
    assert_eq!(with(None, None), Some(vec![7]));
    assert_eq!(with(Some(6 * LAG_NS), None), Some(vec![7]), "it ended after the change");
    assert_eq!(with(Some(4 * LAG_NS), None), Some(vec![7]), "the report is late");
    assert_eq!(with(Some(3 * LAG_NS), None), Some(vec![6]), "apt-get goes on");
    assert_eq!(with(Some(3 * LAG_NS), Some(3 * LAG_NS + 7)), None);
}
