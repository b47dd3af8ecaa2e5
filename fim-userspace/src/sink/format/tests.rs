mod cef;
mod ecs;
mod examples;
mod syslog;

use crate::config::Facility;
use crate::core::actor::{Actor, Ancestor, Confidence};
use crate::core::entry::FileType;
use crate::core::event::{Event, EventKind, Record, Response, State, Verdict};
use crate::core::policy::Severity;

use super::Origin;

pub(in crate::sink) const ORIGIN: Origin = Origin { facility: Facility(10), pid: 4711 };

fn state(digest: u8, size: u64) -> State {
    State {
        kind: FileType::Regular,
        sha256: Some(format!("{digest:02x}").repeat(32)),
        size,
        mode: "0644".into(),
        uid: 7,
        gid: 8,
        mtime: Some("2026-11-21T00:00:00.000000Z".into()),
        target: None,
        flags: None,
    }
}

/// A record with a value of its own in every field.
pub(in crate::sink) fn sample() -> Record {
    let mut event =
        Event::about_fim(EventKind::Modified, "web1", "lsm", 1_795_309_323_004_005_000, String::new());
    event.set_path(b"/etc/hosts");
    event.message = None;
    event.watch = Some("/etc".into());
    event.severity = Severity::High;
    event.verdict = Some(Verdict::Unauthorised);
    event.response = Response::Restored;
    event.latency_us.detected = Some(210);
    event.latency_us.restored = Some(1_640);
    event.before = Some(state(0xaa, 120));
    event.after = Some(state(0xbb, 131));
    let mut actor = Actor::unknown();
    actor.pid = Some(123);
    actor.ppid = Some(99);
    actor.start_ns = Some(5_000_000_000);
    actor.uid = Some(1000);
    actor.gid = Some(1001);
    actor.euid = Some(0);
    actor.auid = Some(1002);
    actor.session = Some(3);
    actor.tty = Some("pts/1".into());
    actor.comm = Some("sh".into());
    actor.exe = Some("/usr/bin/dash".into());
    actor.cmdline = vec!["sh".into(), "-c".into(), "echo x >> /etc/hosts".into()];
    actor.cwd = Some("/home/ann".into());
    actor.container = Some("0123456789ab".into());
    actor.ancestors = vec![Ancestor {
        pid: 99,
        start_ns: Some(4_000_000_000),
        uid: Some(1000),
        comm: Some("bash".into()),
        exe: Some("/usr/bin/bash".into()),
        ..Ancestor::default()
    }];
    actor.confidence = Confidence::Exact;
    event.actor = Some(actor);
    Record { seq: 42, id: "4f".repeat(16), event }
}

/// One with everything in it that could break a format.
pub(in crate::sink) fn hostile() -> Record {
    let mut record = sample();
    let event = &mut record.event;
    event.set_path(b"/etc/a|b=c \"d\"]\\e\n\xff\x1b[2J CEF:0|x ");
    event.old_path = Some("/etc/old=1 spid=1".into());
    event.host = "we b\u{e9}\n1".into();
    event.response = Response::Failed;
    event.error = Some("no = room\nat | all\\".into());
    event.authorised_by = Some("window \"x\"] y".into());
    record
}
