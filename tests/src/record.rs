//! The ledger as a script reads it. Only what tests assert is named; unknown keys are nobody's business here.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

#[derive(Clone, Debug, Deserialize)]
pub struct Record {
    pub seq: u64,
    pub id: String,
    pub kind: String,
    pub path: Option<String>,
    pub old_path: Option<String>,
    pub verdict: Option<String>,
    pub authorised_by: Option<String>,
    pub vouched: Option<bool>,
    pub package: Option<String>,
    pub response: String,
    pub error: Option<String>,
    pub severity: Option<String>,
    pub time: String,
    pub tier: String,
    pub actor: Option<Actor>,
    pub before: Option<State>,
    pub after: Option<State>,
    #[serde(default)]
    pub transient: bool,
    pub message: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Actor {
    pub pid: Option<u32>,
    pub ppid: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub exe: Option<String>,
    pub confidence: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct State {
    #[serde(rename = "type")]
    pub kind: String,
    pub sha256: Option<String>,
    pub size: u64,
    pub mode: String,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Option<String>,
}

impl Record {
    /// Whether it is about a watched file rather than about fim.
    pub fn is_change(&self) -> bool {
        matches!(self.kind.as_str(), "created" | "modified" | "deleted" | "renamed" | "attributes" | "type")
    }

    pub fn is_about(&self, path: &Path) -> bool {
        self.path.as_deref().is_some_and(|p| Path::new(p) == path)
    }

    /// One line for a failure message.
    pub fn brief(&self) -> String {
        let who = self.actor.as_ref().map_or("nobody".into(), |a| {
            format!("pid {:?} uid {:?} gid {:?} exe {:?} {}", a.pid, a.uid, a.gid, a.exe, a.confidence)
        });
        format!(
            "[{} {} {}{} {} {who}{}{}]",
            self.seq,
            self.kind,
            self.path.as_deref().unwrap_or("-"),
            self.old_path.as_ref().map_or(String::new(), |p| format!(" from {p}")),
            self.response,
            if self.transient { " transient" } else { "" },
            self.error.as_ref().map_or(String::new(), |e| format!(" error: {e}")),
        )
    }
}

/// Reads JSON lines.
pub fn parse_lines(text: &str) -> Result<Vec<Record>, String> {
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).map_err(|e| format!("not a record ({e}): {line}")))
        .collect()
}

/// Every `(path, kind)` that any object anywhere in `text` (JSON, or JSON lines) names.
pub fn named_changes(text: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>().map_while(Result::ok) {
        walk(&value, &mut out);
    }
    out
}

fn walk(value: &Value, out: &mut Vec<(String, String)>) {
    match value {
        Value::Array(items) => items.iter().for_each(|v| walk(v, out)),
        Value::Object(map) => {
            if let (Some(Value::String(path)), Some(Value::String(kind))) = (map.get("path"), map.get("kind"))
            {
                out.push((path.clone(), kind.clone()));
            }
            map.values().for_each(|v| walk(v, out));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) const LINE: &str = r#"{"seq":42,"id":"ab","time":"2026-11-22T01:02:03.004005Z","host":"h","kind":"modified","path":"/w/a","path_raw":null,"old_path":null,"watch":"/w","verdict":"unauthorised","authorised_by":null,"response":"restored","severity":"high","tier":"lsm","actor":{"pid":123,"ppid":7,"start_ns":5,"uid":1234,"gid":2345,"euid":1234,"auid":null,"comm":"fim-actor","exe":"/bin/fim-actor","cmdline":[],"container":null,"ancestors":[],"confidence":"exact"},"before":{"type":"regular","sha256":"aa","size":1,"mode":"0644","uid":0,"gid":0,"mtime":"x"},"after":null,"latency_us":{"detected":210,"restored":640}}"#;

    #[test]
    fn the_documented_line_reads() {
        let records = parse_lines(&format!("{LINE}\n\n{LINE}\n")).expect("reads");
        assert_eq!(records.len(), 2);
        let r = &records[0];
        assert!(r.is_change() && r.is_about(Path::new("/w/a")) && !r.is_about(Path::new("/w")));
        assert_eq!(r.actor.as_ref().and_then(|a| a.gid), Some(2345));
        assert!(parse_lines("{").is_err());
    }

    #[test]
    fn changes_are_found_in_any_wrapping() {
        let lines =
            "{\"path\":\"/a\",\"kind\":\"modified\"}\n{\"changes\":[{\"path\":\"/b\",\"kind\":\"created\"}]}";
        let expected = [("/a", "modified"), ("/b", "created")].map(|(p, k)| (p.to_owned(), k.to_owned()));
        assert_eq!(named_changes(lines), expected);
    }
}
