//! What older kernels write, replayed from bytes.

use super::*;
use crate::sys::fanotify::Batch;
use crate::sys::fanotify::records::tests::{Recorder, info};
use interpret::{Finding, Interpreter};

fn dir_handle(n: u8) -> FileHandle {
    FileHandle { fsid: [11, 12], kind: 1, bytes: vec![n; 8].into() }
}

/// A watch with its root (handle 1) and `sub` (handle 2).
fn interpreter() -> (Arc<Directories>, Interpreter) {
    let dirs = Directories::new();
    for (n, path) in [(1, ""), (2, "sub")] {
        let key = DirKey { dev: 5, ino: u64::from(n) };
        dirs.register(W, &p(path), key, Some(dir_handle(n)));
    }
    (dirs.clone(), Interpreter::new(dirs, Arc::default(), Arc::new(|_, _, _| false)))
}

fn named(dir: u8, name: &str) -> Vec<Vec<u8>> {
    vec![info(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, &dir_handle(dir), Some(name.as_bytes()))]
}

fn replay(interpreter: &mut Interpreter, bytes: Vec<u8>) -> Vec<(String, Deed)> {
    let mut findings = Vec::new();
    for event in Batch::recorded(bytes).events() {
        interpreter.event(&event, &mut findings);
    }
    interpreter.expire(true, &mut findings);
    let deed = |finding| match finding {
        Finding::Deed { path, deed, .. } => (path.to_string(), deed),
        other => panic!("{other:?}"),
    };
    findings.into_iter().map(deed).collect()
}

const FROM: u64 = libc::FAN_MOVED_FROM;
const TO: u64 = libc::FAN_MOVED_TO;

#[test]
fn halves_of_a_rename_are_paired_by_process_and_order() {
    let one = |mask, pid, dir, name| (mask, pid, named(dir, name));
    type Case = (&'static str, Vec<(u64, i32, Vec<Vec<u8>>)>, Vec<(String, Deed)>);
    let cases: Vec<Case> = vec![
        ("in a row", vec![one(FROM, 41, 1, "a"), one(TO, 41, 2, "b")], vec![deed("sub/b", here(Some("a")))]),
        (
            "another process in between",
            vec![one(FROM, 41, 1, "a"), one(libc::FAN_MODIFY, 42, 1, "x"), one(TO, 41, 2, "b")],
            vec![deed("x", Deed::Written), deed("sub/b", here(Some("a")))],
        ),
        (
            "something else by the same process in between",
            vec![one(FROM, 41, 1, "a"), one(libc::FAN_MODIFY, 41, 1, "x"), one(TO, 41, 2, "b")],
            vec![deed("a", Deed::MovedAway), deed("x", Deed::Written), deed("sub/b", here(None))],
        ),
        (
            "two processes",
            vec![one(FROM, 41, 1, "a"), one(FROM, 42, 1, "c"), one(TO, 42, 2, "d"), one(TO, 41, 2, "b")],
            vec![deed("sub/d", here(Some("c"))), deed("sub/b", here(Some("a")))],
        ),
        ("only out", vec![one(FROM, 41, 1, "a")], vec![deed("a", Deed::MovedAway)]),
        ("only in", vec![one(TO, 41, 1, "a")], vec![deed("a", here(None))]),
        (
            "a directory is no file",
            vec![one(FROM, 41, 1, "a"), one(TO | libc::FAN_ONDIR, 41, 2, "b")],
            vec![deed("a", Deed::MovedAway), deed("sub/b", here(None))],
        ),
        (
            "merged",
            vec![one(libc::FAN_CREATE | FROM, 41, 1, "tmp")],
            vec![deed("tmp", Deed::Created), deed("tmp", Deed::MovedAway)],
        ),
    ];
    for (what, events, expected) in cases {
        let (_, mut interpreter) = interpreter();
        let bytes = events
            .iter()
            .fold(Recorder::default(), |recorder, (mask, pid, infos)| recorder.event(*mask, *pid, infos))
            .0;
        assert_eq!(replay(&mut interpreter, bytes), expected, "{what}");
    }
}

#[test]
fn objects_that_differ_are_no_pair() {
    let (_, mut interpreter) = interpreter();
    let of = |object, dir, name| {
        let mut infos = named(dir, name);
        infos.push(info(libc::FAN_EVENT_INFO_TYPE_FID, &dir_handle(object), None));
        infos
    };
    let bytes = Recorder::default().event(FROM, 41, &of(51, 1, "a")).event(TO, 41, &of(52, 1, "b")).0;
    assert_eq!(replay(&mut interpreter, bytes), [deed("a", Deed::MovedAway), deed("b", here(None))]);
    let bytes = Recorder::default().event(FROM, 41, &of(51, 1, "a")).event(TO, 41, &of(51, 1, "b")).0;
    assert_eq!(replay(&mut interpreter, bytes), [deed("b", here(Some("a")))]);
}

#[test]
fn a_renamed_directory_moves_in_the_registry() {
    let (dirs, mut interpreter) = interpreter();
    let dir = libc::FAN_ONDIR;
    let bytes = Recorder::default()
        .event(FROM | dir, 41, &named(1, "sub"))
        .event(TO | dir, 41, &named(1, "top"))
        .event(libc::FAN_CREATE, 41, &named(2, "file"))
        .0;
    assert_eq!(
        replay(&mut interpreter, bytes),
        [deed("top", here(Some("sub"))), deed("top/file", Deed::Created)]
    );
    assert_eq!(dirs.by_handle(&dir_handle(2)), [(W, p("top"))]);
}

#[test]
fn merged_bits_come_in_an_order_that_makes_sense() {
    let (_, mut interpreter) = interpreter();
    let all =
        libc::FAN_DELETE | libc::FAN_CLOSE_WRITE | libc::FAN_ATTRIB | libc::FAN_MODIFY | libc::FAN_CREATE;
    let deeds = replay(&mut interpreter, Recorder::default().event(all, 41, &named(2, "f")).0);
    let expected = [Deed::Created, Deed::Written, Deed::Attributes, Deed::Closed, Deed::Deleted];
    assert_eq!(deeds, expected.map(|d| deed("sub/f", d)));
}

#[test]
fn a_directory_that_took_a_deleted_one_s_name_stays_known() {
    let (dirs, mut interpreter) = interpreter();
    // The scan saw the new directory before the old one's deletion was read.
    dirs.register(W, &p("sub"), DirKey { dev: 5, ino: 99 }, Some(dir_handle(99)));
    let mut infos = named(1, "sub");
    infos.push(info(libc::FAN_EVENT_INFO_TYPE_FID, &dir_handle(2), None));
    let bytes = Recorder::default().event(libc::FAN_DELETE | libc::FAN_ONDIR, 41, &infos).0;
    assert_eq!(replay(&mut interpreter, bytes), [deed("sub", Deed::Deleted)]);
    assert_eq!(dirs.by_handle(&dir_handle(99)), [(W, p("sub"))]);
}

#[test]
fn a_marked_directory_that_nobody_knows_is_a_stray() {
    let (dirs, interpreter) = interpreter();
    let key = DirKey { dev: 5, ino: 60 };
    dirs.register_file(W, &p("linked"), key, Some(dir_handle(60)));
    let old = info(libc::FAN_EVENT_INFO_TYPE_OLD_DFID_NAME, &dir_handle(1), Some(b"f"));
    let new = info(libc::FAN_EVENT_INFO_TYPE_NEW_DFID_NAME, &dir_handle(78), Some(b"g"));
    let object = info(libc::FAN_EVENT_INFO_TYPE_FID, &dir_handle(60), None);
    let cases = [
        ("known", libc::FAN_MODIFY, named(2, "f"), None),
        ("unknown", libc::FAN_MODIFY, named(77, "f"), Some(77)),
        ("where a rename leads", libc::FAN_RENAME, vec![old, new], Some(78)),
        ("the other name of a marked file", libc::FAN_MODIFY, [named(77, "f"), vec![object]].concat(), None),
    ];
    for (what, mask, infos, expected) in cases {
        let batch = Batch::recorded(Recorder::default().event(mask, 41, &infos).0);
        let strays: Vec<_> =
            batch.events().flat_map(|e| interpreter.strays(&e).cloned().collect::<Vec<_>>()).collect();
        assert_eq!(strays, expected.map(dir_handle).into_iter().collect::<Vec<_>>(), "{what}");
    }
}
