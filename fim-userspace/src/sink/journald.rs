//! Every record as one journal entry with fields of its own, so that `journalctl FIM_KIND=modified` works.

use std::path::Path;

use libsystemd::logging::{Priority, journal_send};

use super::{Delivered, Sink, SinkError, line};
use crate::config::JOURNALD;
use crate::core::event::{Record, Verdict};
use crate::core::policy::Severity;

/// Where journald listens (systemd-journald.service(8)).
const SOCKET: &str = "/run/systemd/journal/socket";

/// Marks fim's entries: `journalctl MESSAGE_ID=…`.
pub const MESSAGE_ID: &str = "080fa663665b410ea861cd18b8b9bc59";

#[derive(Default)]
pub struct Journald;

impl Journald {
    pub fn new() -> Self {
        Self
    }
}

impl Sink for Journald {
    fn name(&self) -> &str {
        JOURNALD
    }

    async fn deliver(&mut self, records: &[Record]) -> Result<Delivered, SinkError> {
        if !Path::new(SOCKET).exists() {
            return Err(SinkError::Idle(format!("there is no journald here (no {SOCKET})")));
        }
        let records = records.to_vec();
        let (done, result) = tokio::sync::oneshot::channel();
        // The socket blocks while journald is busy, or hangs: a thread that the daemon's end need not wait for.
        let sender = std::thread::Builder::new().name("fim-journald".into());
        let failed = |reason| SinkError::Failed { reason, retry_after: None };
        sender.spawn(move || done.send(send_all(&records))).map_err(|e| failed(format!("no thread: {e}")))?;
        result.await.unwrap_or_else(|_| Err(failed("sending to the journal was cut short".into())))
    }
}

fn send_all(records: &[Record]) -> Result<Delivered, SinkError> {
    for (index, record) in records.iter().enumerate() {
        let message = line::message(record, &mut |_| None);
        if let Err(e) = journal_send(priority(record.event.severity), &message, fields(record).into_iter()) {
            if index > 0 {
                return Ok(Delivered { count: index, parked: Vec::new() });
            }
            return Err(SinkError::Failed { reason: line::printable(&e.to_string()), retry_after: None });
        }
    }
    Ok(Delivered::all(records))
}

fn priority(severity: Severity) -> Priority {
    match severity {
        Severity::Low => Priority::Info,
        Severity::Medium => Priority::Warning,
        Severity::High => Priority::Error,
        Severity::Critical => Priority::Critical,
    }
}

/// Fields that are known; one that is not is left out.
pub(super) fn fields(record: &Record) -> Vec<(&'static str, String)> {
    let event = &record.event;
    let mut fields = vec![
        ("MESSAGE_ID", MESSAGE_ID.to_owned()),
        ("SYSLOG_IDENTIFIER", "fim".to_owned()),
        ("FIM_SEQ", record.seq.to_string()),
        ("FIM_EVENT_ID", record.id.clone()),
        ("FIM_TIME", event.time.clone()),
        ("FIM_KIND", event.kind.as_str().to_owned()),
        ("FIM_SEVERITY", event.severity.as_str().to_owned()),
        ("FIM_RESPONSE", event.response.as_str().to_owned()),
        ("FIM_TIER", event.tier.clone()),
    ];
    let mut add = |name, value: Option<String>| fields.extend(value.map(|v| (name, v)));
    add("FIM_PATH", event.path.clone());
    add("FIM_PATH_RAW", event.path_raw.clone());
    add("FIM_OLD_PATH", event.old_path.clone());
    add("FIM_WATCH", event.watch.clone());
    add("FIM_ERROR", event.error.clone());
    add("FIM_AUTHORISED_BY", event.authorised_by.clone());
    let verdict = event.verdict.map(|v| match v {
        Verdict::Authorised => "authorised",
        Verdict::Unauthorised => "unauthorised",
    });
    add("FIM_VERDICT", verdict.map(str::to_owned));
    let digest = |state: &Option<crate::core::event::State>| state.as_ref().and_then(|s| s.sha256.clone());
    add("FIM_SHA256_BEFORE", digest(&event.before));
    add("FIM_SHA256_AFTER", digest(&event.after));
    if let Some(actor) = &event.actor {
        let id = |n: Option<u32>| n.map(|n| n.to_string());
        add("FIM_ACTOR_PID", id(actor.pid));
        add("FIM_ACTOR_PPID", id(actor.ppid));
        add("FIM_ACTOR_UID", id(actor.uid));
        add("FIM_ACTOR_GID", id(actor.gid));
        add("FIM_ACTOR_EUID", id(actor.euid));
        add("FIM_ACTOR_AUID", id(actor.auid));
        add("FIM_ACTOR_COMM", actor.comm.clone());
        add("FIM_ACTOR_EXE", actor.exe.clone());
        add("FIM_ACTOR_CONTAINER", actor.container.clone());
    }
    fields
}
