use serde_json::{Value, json};

use super::*;
use crate::config::LogFormat;
use crate::core::actor::{ExeFile, ExePlace, Standing};
use crate::core::entry::Digest;
use crate::sink::format::body;

/// Fields of Elastic Common Schema 8.17.0 with their types, from generated/csv/fields.csv of its repository at v8.17.0.
/// `[]` is what the schema normalises to a list.
const FIELDS: &str = "
    @timestamp date
    container.id keyword
    container.runtime keyword
    ecs.version keyword
    error.message match_only_text
    event.action keyword
    event.category keyword[]
    event.dataset keyword
    event.id keyword
    event.kind keyword
    event.module keyword
    event.outcome keyword
    event.provider keyword
    event.reason keyword
    event.sequence long
    event.severity long
    event.type keyword[]
    file.directory keyword
    file.extension keyword
    file.gid keyword
    file.hash.sha256 keyword
    file.mode keyword
    file.mtime date
    file.name keyword
    file.path keyword
    file.size long
    file.target_path keyword
    file.type keyword
    file.uid keyword
    host.hostname keyword
    host.name keyword
    log.level keyword
    message match_only_text
    process.args keyword[]
    process.args_count long
    process.entity_id keyword
    process.executable keyword
    process.hash.sha256 keyword
    process.name keyword
    process.parent.entity_id keyword
    process.parent.executable keyword
    process.parent.name keyword
    process.parent.pid long
    process.pid long
    process.thread.id long
    process.working_directory keyword
    related.hash keyword[]
    related.user keyword[]
    rule.name keyword
    source.address keyword
    user.effective.id keyword
    user.effective.name keyword
    user.group.id keyword
    user.group.name keyword
    user.id keyword
    user.name keyword
";

fn leaves(value: &Value, name: String, out: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                leaves(inner, name, out);
            }
        }
        other => out.push((name, other.clone())),
    }
}

/// Every field of the document outside `fim` is one of the schema's, with a value of its type.
fn conforms(record: &Record) -> Vec<String> {
    let text = body(LogFormat::Ecs, record);
    assert!(!text.contains('\n'), "{text}");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let mut found = Vec::new();
    leaves(&document, String::new(), &mut found);
    let known: Vec<(&str, &str)> = FIELDS.lines().filter_map(|line| line.trim().split_once(' ')).collect();
    for (name, value) in found.iter().filter(|(name, _)| !name.starts_with("fim.")) {
        let kind = known.iter().find(|(field, _)| field == name).map(|(_, kind)| *kind);
        let kind = kind.unwrap_or_else(|| panic!("{name} is no field of the schema"));
        let (kind, values) = match (kind.strip_suffix("[]"), value) {
            (Some(kind), Value::Array(values)) => (kind, values.clone()),
            (None, single) if !single.is_array() => (kind, vec![single.clone()]),
            _ => panic!("{name} must {}be a list: {value}", if kind.ends_with("[]") { "" } else { "not " }),
        };
        for value in values {
            let good = match kind {
                "long" => value.is_i64() || value.is_u64(),
                "date" => value.as_str().is_some_and(|t| t.parse::<jiff::Timestamp>().is_ok()),
                _ => value.as_str().is_some_and(|t| !t.is_empty()),
            };
            assert!(good, "{name} is no {kind}: {value}");
        }
    }
    allowed(&document);
    found.into_iter().map(|(name, _)| name).collect()
}

/// The values and combinations that the schema allows (its "categorization fields").
fn allowed(document: &Value) {
    let event = &document["event"];
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    assert!(["alert", "event"].contains(&text(&event["kind"]).as_str()), "{event}");
    if let Some(outcome) = event.get("outcome") {
        assert!(["success", "failure", "unknown"].contains(&text(outcome).as_str()), "{event}");
    }
    let types: &[&str] = match event.get("category").map(|c| text(&c[0])).as_deref() {
        Some("file" | "configuration") => &["access", "change", "creation", "deletion", "info"],
        Some("process") => &["access", "change", "end", "info", "start"],
        None => &["error", "info"],
        Some(other) => panic!("the category {other}"),
    };
    assert!(types.contains(&text(&event["type"][0]).as_str()), "{event}");
}

#[test]
fn documents_hold_only_the_schemas_fields_with_its_types() {
    let mut seen = conforms(&sample());
    let mut more = hostile();
    more.event.set_path(b"/etc/motd.txt");
    more.event.other_actors.push(Actor::unknown());
    more.event.rules = vec!["*.txt".into()];
    let actor = more.event.actor.as_mut().expect("an actor");
    (actor.tid, actor.from, actor.runtime) = (Some(124), Some("2001:db8::7".into()), Some("podman".into()));
    actor.names.uid = Some("ann".into());
    actor.names.gid = Some("staff".into());
    actor.names.euid = Some("root".into());
    actor.exe_file = Some(ExeFile {
        dev: 2,
        ino: 3,
        place: ExePlace::Linked,
        sha256: Some(Digest([0xcd; 32])),
        baseline: Some(Standing::Approved),
    });
    let document: Value = serde_json::from_str(&body(LogFormat::Ecs, &more)).expect("JSON");
    let expected = [
        ("/process/thread/id", json!(124)),
        ("/process/hash/sha256", json!("cd".repeat(32))),
        ("/user/name", json!("ann")),
        ("/user/group/name", json!("staff")),
        ("/user/effective/name", json!("root")),
        ("/source/address", json!("2001:db8::7")),
        ("/container/runtime", json!("podman")),
        ("/fim/rules/0", json!("*.txt")),
        ("/fim/actor/exe_baseline", json!("approved")),
    ];
    for (pointer, value) in expected {
        assert_eq!(document.pointer(pointer), Some(&value), "{pointer}");
    }
    if let Some(after) = &mut more.event.after {
        after.kind = FileType::Symlink;
        after.target = Some("../x".into());
    }
    seen.extend(conforms(&more));
    for line in FIELDS.lines().filter_map(|line| line.trim().split_once(' ')) {
        assert!(seen.iter().any(|name| name == line.0), "{} is never written", line.0);
    }
}

#[test]
fn every_kind_of_record_conforms() {
    for kind in EventKind::ALL {
        conforms(&Record {
            seq: 1,
            id: "00".repeat(16),
            event: Event::about_fim(kind, "web1", "lsm", 7, "words".into()),
        });
        let mut full = sample();
        full.event.kind = kind;
        full.event.after = None;
        conforms(&full);
    }
}

#[test]
fn values_stand_where_the_schema_says() {
    let mut record = sample();
    record.event.set_path(b"/etc/a\n\xff.conf");
    let document: Value = serde_json::from_str(&body(LogFormat::Ecs, &record)).expect("JSON");
    let at = |pointer: &str| document.pointer(pointer).unwrap_or(&Value::Null).clone();
    let expected = [
        ("/@timestamp", "2026-11-22T01:02:03.004005Z"),
        ("/event/kind", "alert"),
        ("/event/category/0", "file"),
        ("/event/type/0", "change"),
        ("/event/action", "modified"),
        ("/event/outcome", "success"),
        ("/file/path", "/etc/a\\x0a\\xff.conf"),
        ("/file/name", "a\\x0a\\xff.conf"),
        ("/file/directory", "/etc"),
        ("/file/extension", "conf"),
        ("/file/type", "file"),
        ("/file/uid", "7"),
        ("/file/gid", "8"),
        ("/fim/path_raw", "L2V0Yy9hCv8uY29uZg=="),
        ("/process/name", "sh"),
        ("/process/parent/name", "bash"),
        ("/process/entity_id", "web1:123:5000000000"),
        ("/user/id", "1000"),
        ("/user/group/id", "1001"),
        ("/user/effective/id", "0"),
        ("/fim/actor/login_uid", "1002"),
        ("/rule/name", "/etc"),
    ];
    for (pointer, value) in expected {
        assert_eq!(at(pointer), value, "{pointer}");
    }
    assert_eq!(
        (at("/event/sequence"), at("/process/pid"), at("/process/parent/pid")),
        (42.into(), 123.into(), 99.into())
    );
    assert_eq!((at("/file/size"), at("/fim/before/size")), (131.into(), 120.into()));
    record.event.verdict = Some(Verdict::Authorised);
    record.event.response = Response::None;
    let quiet: Value = serde_json::from_str(&body(LogFormat::Ecs, &record)).expect("JSON");
    assert_eq!((&quiet["event"]["kind"], quiet["event"].get("outcome")), (&"event".into(), None));
}
