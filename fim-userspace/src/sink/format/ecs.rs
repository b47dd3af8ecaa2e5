//! Elastic Common Schema: <https://www.elastic.co/docs/reference/ecs/ecs-field-reference>.
//!
//! What the schema has no field for stands below `fim`. Ids are keywords there, so they are texts here.

use serde_json::{Map, Value, json};

use super::{folder_and_name, state};
use crate::core::actor::Actor;
use crate::core::entry::FileType;
use crate::core::event::{Event, EventKind, Record, Response, State, Verdict};
use crate::core::policy::Severity;
use crate::sink::line;

/// The version whose fields these are.
pub const VERSION: &str = "8.17.0";

pub fn document(record: &Record) -> Value {
    let event = &record.event;
    let mut doc = Doc::default();
    doc.set("@timestamp", event.time.as_str());
    doc.set("ecs.version", VERSION);
    doc.set("message", line::message(record, &mut |_| None));
    doc.set("log.level", level(event.severity));
    doc.set("host.name", event.host.as_str());
    doc.set("host.hostname", event.host.as_str());
    doc.maybe("rule.name", event.watch.as_deref());
    doc.maybe("error.message", event.error.as_deref().map(line::printable));
    about(&mut doc, record);
    file(&mut doc, record);
    if let Some(actor) = &event.actor {
        process(&mut doc, event, actor);
    }
    own(&mut doc, event);
    Value::Object(doc.0)
}

/// Sets fields by their dotted names.
#[derive(Default)]
struct Doc(Map<String, Value>);

impl Doc {
    fn set(&mut self, field: &str, value: impl Into<Value>) {
        let mut map = &mut self.0;
        let mut names = field.split('.');
        let last = names.next_back().unwrap_or(field);
        for name in names {
            let inner = map.entry(name).or_insert_with(|| Value::Object(Map::new()));
            match inner {
                Value::Object(inner) => map = inner,
                // A field cannot be a value and have fields below it.
                _ => return,
            }
        }
        map.insert(last.to_owned(), value.into());
    }

    fn maybe(&mut self, field: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(field, value);
        }
    }
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "info",
        Severity::Medium => "warning",
        Severity::High => "error",
        Severity::Critical => "critical",
    }
}

/// `event.*`
fn about(doc: &mut Doc, record: &Record) {
    let event = &record.event;
    let alert = event.verdict == Some(Verdict::Unauthorised) || event.kind == EventKind::Escalated;
    doc.set("event.kind", if alert { "alert" } else { "event" });
    let (category, kind) = classes(event.kind);
    doc.maybe("event.category", category.map(|category| json!([category])));
    doc.set("event.type", json!([kind]));
    doc.set("event.action", event.kind.as_str());
    doc.maybe("event.outcome", outcome(event.response));
    doc.set("event.id", record.id.as_str());
    doc.set("event.sequence", record.seq);
    doc.set("event.severity", severity(event.severity));
    doc.set("event.module", "fim");
    doc.set("event.dataset", "fim.ledger");
    doc.set("event.provider", "fim");
    let reason = event.authorised_by.as_deref().map(|by| format!("authorised by {by}"));
    doc.maybe("event.reason", reason.or_else(|| event.message.clone()).map(|text| line::printable(&text)));
}

/// The values that the schema allows for `event.category` and, together with it, for `event.type`.
fn classes(kind: EventKind) -> (Option<&'static str>, &'static str) {
    match kind {
        EventKind::Created => (Some("file"), "creation"),
        EventKind::Deleted => (Some("file"), "deletion"),
        EventKind::Modified | EventKind::Renamed | EventKind::Attributes | EventKind::Type => {
            (Some("file"), "change")
        }
        EventKind::Released | EventKind::Purged | EventKind::Interrupted | EventKind::Escalated => {
            (Some("file"), "info")
        }
        EventKind::Started => (Some("process"), "start"),
        EventKind::Stopped => (Some("process"), "end"),
        EventKind::Reloaded
        | EventKind::Accepted
        | EventKind::MaintenanceStarted
        | EventKind::MaintenanceEnded => (Some("configuration"), "change"),
        EventKind::Rescanned => (None, "info"),
        EventKind::CoverageGap | EventKind::Trouble => (None, "error"),
    }
}

/// How fim's response ended; nothing where there was none.
fn outcome(response: Response) -> Option<&'static str> {
    match response {
        Response::None => None,
        Response::Restored | Response::Quarantined | Response::Deleted => Some("success"),
        Response::Failed => Some("failure"),
        Response::Pending => Some("unknown"),
    }
}

/// The scores that Elastic gives to the same four words.
fn severity(severity: Severity) -> u64 {
    match severity {
        Severity::Low => 21,
        Severity::Medium => 47,
        Severity::High => 73,
        Severity::Critical => 99,
    }
}

/// `file.*` and `related.hash`
fn file(doc: &mut Doc, record: &Record) {
    let event = &record.event;
    if let Some(path) = &event.path {
        let (folder, name) = folder_and_name(path);
        doc.set("file.path", path.as_str());
        doc.set("file.directory", folder);
        doc.set("file.name", name);
        let extension = name.rsplit_once('.').filter(|(stem, end)| !stem.is_empty() && !end.is_empty());
        doc.maybe("file.extension", extension.map(|(_, end)| end));
    }
    if let Some(state) = state(record) {
        put_state(doc, "file.", state);
    }
    let mut hashes: Vec<&str> =
        [&event.before, &event.after].into_iter().flatten().filter_map(|s| s.sha256.as_deref()).collect();
    hashes.dedup();
    doc.maybe("related.hash", (!hashes.is_empty()).then(|| json!(hashes)));
}

fn file_type(kind: FileType) -> String {
    match kind {
        FileType::Regular => "file".into(),
        FileType::Directory => "dir".into(),
        other => json!(other).as_str().unwrap_or("other").to_owned(),
    }
}

/// `process.*`, `user.*`, `container.*`
fn process(doc: &mut Doc, event: &Event, actor: &Actor) {
    let id = |id: Option<u32>| id.map(|id| id.to_string());
    doc.maybe("process.pid", actor.pid);
    doc.maybe("process.thread.id", actor.tid);
    let digest = actor.exe_file.as_ref().and_then(|file| file.sha256);
    doc.maybe("process.hash.sha256", digest.map(|digest| digest.to_string()));
    doc.maybe("process.name", actor.comm.as_deref());
    doc.maybe("process.executable", actor.exe.as_deref());
    doc.maybe("process.working_directory", actor.cwd.as_deref());
    if !actor.cmdline.is_empty() {
        doc.set("process.args", json!(actor.cmdline));
        doc.set("process.args_count", actor.cmdline.len());
    }
    let entity = |pid: Option<u32>, start: Option<u64>| Some(format!("{}:{}:{}", event.host, pid?, start?));
    doc.maybe("process.entity_id", entity(actor.pid, actor.start_ns));
    doc.maybe("process.parent.pid", actor.ppid);
    if let Some(parent) = actor.ancestors.first().filter(|a| Some(a.pid) == actor.ppid) {
        doc.maybe("process.parent.name", parent.comm.as_deref());
        doc.maybe("process.parent.executable", parent.exe.as_deref());
        doc.maybe("process.parent.entity_id", entity(Some(parent.pid), parent.start_ns));
    }
    doc.maybe("user.id", id(actor.uid));
    doc.maybe("user.name", actor.names.uid.as_deref());
    doc.maybe("user.group.id", id(actor.gid));
    doc.maybe("user.group.name", actor.names.gid.as_deref());
    doc.maybe("user.effective.id", id(actor.euid));
    doc.maybe("user.effective.name", actor.names.euid.as_deref());
    doc.maybe("source.address", actor.from.as_deref());
    let mut users: Vec<String> = [actor.uid, actor.euid, actor.auid].into_iter().filter_map(id).collect();
    users.sort();
    users.dedup();
    doc.maybe("related.user", (!users.is_empty()).then(|| json!(users)));
    doc.maybe("container.id", actor.container.as_deref());
    doc.maybe("container.runtime", actor.runtime.as_deref());
    doc.set("fim.actor.confidence", json!(actor.confidence));
    doc.maybe("fim.actor.login_uid", id(actor.auid));
    doc.maybe("fim.actor.start_ns", actor.start_ns);
    doc.maybe("fim.actor.session", actor.session);
    doc.maybe("fim.actor.tty", actor.tty.as_deref());
    doc.maybe("fim.actor.inner_pid", actor.inner_pid);
    doc.maybe("fim.actor.fsuid", id(actor.fsuid));
    doc.maybe("fim.actor.script", actor.script.as_deref());
    doc.maybe("fim.actor.unit", actor.unit.as_deref());
    let baseline = actor.exe_file.as_ref().and_then(|file| file.baseline);
    doc.maybe("fim.actor.exe_baseline", baseline.map(|standing| json!(standing)));
}

/// `fim.*`: what the schema does not know.
fn own(doc: &mut Doc, event: &Event) {
    doc.set("fim.tier", event.tier.as_str());
    doc.set("fim.response", event.response.as_str());
    doc.set("fim.severity", event.severity.as_str());
    doc.maybe("fim.verdict", event.verdict.map(|v| json!(v)));
    doc.maybe("fim.authorised_by", event.authorised_by.as_deref());
    doc.maybe("fim.rules", (!event.rules.is_empty()).then(|| json!(event.rules)));
    doc.maybe("fim.path_raw", event.path_raw.as_deref());
    doc.maybe("fim.old_path", event.old_path.as_deref());
    doc.maybe("fim.method", event.method.as_deref());
    doc.maybe("fim.planned", event.planned.map(Response::as_str));
    doc.maybe("fim.muted", event.muted.then_some(true));
    doc.maybe("fim.transient", event.transient.then_some(true));
    doc.maybe("fim.seen_by", (!event.seen_by.is_empty()).then(|| json!(event.seen_by)));
    doc.maybe("fim.differences", (!event.differences.is_empty()).then(|| json!(event.differences)));
    doc.maybe("fim.other_actors", (!event.other_actors.is_empty()).then(|| json!(event.other_actors)));
    doc.maybe("fim.latency_us.detected", event.latency_us.detected);
    doc.maybe("fim.latency_us.restored", event.latency_us.restored);
    if let (Some(before), Some(_)) = (&event.before, &event.after) {
        doc.set("fim.before", before_state(before));
    }
}

/// The approved state in the words of `file.*`.
fn before_state(state: &State) -> Value {
    let mut doc = Doc::default();
    put_state(&mut doc, "", state);
    Value::Object(doc.0)
}

fn put_state(doc: &mut Doc, prefix: &str, state: &State) {
    let field = |name: &str| format!("{prefix}{name}");
    doc.set(&field("type"), file_type(state.kind));
    doc.maybe(&field("hash.sha256"), state.sha256.as_deref());
    doc.set(&field("size"), state.size);
    doc.set(&field("mode"), state.mode.as_str());
    doc.set(&field("uid"), state.uid.to_string());
    doc.set(&field("gid"), state.gid.to_string());
    doc.maybe(&field("mtime"), state.mtime.as_deref());
    doc.maybe(&field("target_path"), state.target.as_deref());
}
