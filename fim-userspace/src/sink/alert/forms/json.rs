//! For programs: a record as `fim log --json` prints it; anything else says what it is in `kind`.

use serde_json::{Value, json};

use crate::core::digest::Digest;
use crate::sink::alert::message::card::LISTED;
use crate::sink::alert::message::{Content, Message};

pub fn body(message: &Message) -> Value {
    let simple = |kind: &str, time: &str| json!({ "kind": kind, "id": message.id, "host": message.host, "time": time });
    match &message.content {
        Content::Record(record) => json!(record),
        Content::Digest(digest) => digest_body(message, digest),
        Content::Heartbeat { time } => simple("heartbeat", time),
        Content::Test { time } => simple("test", time),
    }
}

fn digest_body(message: &Message, digest: &Digest) -> Value {
    let paths =
        digest.paths.list(LISTED).into_iter().map(|(path, count)| json!({ "path": path, "count": count }));
    let doers = digest
        .doers
        .list(LISTED)
        .into_iter()
        .map(|(doer, count)| json!({ "uid": doer.uid, "exe": doer.exe, "count": count }));
    let severities: serde_json::Map<String, Value> = digest
        .by_severity
        .iter()
        .map(|(severity, count)| (severity.as_str().to_owned(), json!(count)))
        .collect();
    json!({
        "kind": "digest",
        "id": message.id,
        "host": message.host,
        "time": digest.last.time,
        "count": digest.count,
        "first": digest.first,
        "last": digest.last,
        "kinds": digest.by_kind,
        "severities": severities,
        "responses": digest.by_response,
        "paths": paths.collect::<Vec<_>>(),
        "actors": doers.collect::<Vec<_>>(),
        "gravest": digest.gravest,
    })
}
