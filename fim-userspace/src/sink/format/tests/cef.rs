use super::*;
use crate::config::LogFormat;
use crate::sink::format::body;

/// Header fields and pairs of a line, unescaped: a reader written from the format's description alone.
fn parse(line: &str) -> (Vec<String>, Vec<(String, String)>) {
    let mut header = vec![String::new()];
    let mut chars = line.char_indices();
    let mut rest = "";
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => header.last_mut().expect("a field").push(chars.next().expect("an escaped one").1),
            '|' if header.len() == 7 => {
                rest = &line[at + 1..];
                break;
            }
            '|' => header.push(String::new()),
            c => header.last_mut().expect("a field").push(c),
        }
    }
    // Each key is a word before an unescaped "="; the value before it ends one space earlier.
    let mut starts = Vec::new();
    let bytes = rest.as_bytes();
    for at in 0..bytes.len() {
        let escaped = bytes[..at].iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1;
        if bytes[at] == b'=' && !escaped {
            let key = rest[..at].rfind(' ').map_or(0, |space| space + 1);
            starts.push((key, at));
        }
    }
    let mut pairs = Vec::new();
    for (n, (key, equals)) in starts.iter().enumerate() {
        let end = starts.get(n + 1).map_or(rest.len(), |next| next.0 - 1);
        pairs.push((rest[*key..*equals].to_owned(), unescape(&rest[equals + 1..end])));
    }
    (header, pairs)
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next().expect("an escaped one") {
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                c => out.push(c),
            },
            c => out.push(c),
        }
    }
    out
}

#[test]
fn every_value_comes_back_whatever_is_in_it() {
    let record = hostile();
    let line = body(LogFormat::Cef, &record);
    assert!(!line.chars().any(char::is_control), "{line:?}");
    let (header, pairs) = parse(&line);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(header, ["CEF:0", "fim", "fim", version, "modified", "File modified", "8"]);
    let path = record.event.path.as_deref().expect("a path");
    let expected = [
        ("rt", "1795309323004"),
        ("dvchost", record.event.host.as_str()),
        ("externalId", &record.id),
        ("cn1", "42"),
        ("cat", "file"),
        ("act", "failed"),
        ("outcome", "failure"),
        ("reason", "no = room\\x0aat | all\\"),
        ("cs1", "unauthorised"),
        ("cs1Label", "verdict"),
        ("cs2", "/etc"),
        ("cs3", "window \"x\"] y"),
        ("cs5", record.event.path_raw.as_deref().expect("raw bytes")),
        ("filePath", path),
        ("fname", path.rsplit('/').next().expect("a name")),
        ("fileHash", &"bb".repeat(32)),
        ("fsize", "131"),
        ("filePermission", "0644"),
        ("fileModificationTime", "1795219200000"),
        ("oldFilePath", "/etc/old=1 spid=1"),
        ("oldFileHash", &"aa".repeat(32)),
        ("oldFileSize", "120"),
        ("spid", "123"),
        ("sproc", "/usr/bin/dash"),
        ("suid", "1000"),
        ("cs6", "0123456789ab"),
        ("cn2", "1002"),
        ("cn3", "0"),
    ];
    for (key, value) in expected {
        let found: Vec<&str> = pairs.iter().filter(|(k, _)| k == key).map(|(_, v)| v.as_str()).collect();
        assert_eq!(found, [value], "{key} in {line}");
    }
}

#[test]
fn what_is_unknown_is_left_out() {
    let gap = Event::about_fim(EventKind::CoverageGap, "web1", "lsm", 0, "3 reports were lost".into());
    let line = body(LogFormat::Cef, &Record { seq: 1, id: "0".repeat(32), event: gap });
    let (header, pairs) = parse(&line);
    assert_eq!(header[4..], ["coverage_gap", "Coverage gap", "8"]);
    let keys: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(
        keys,
        ["rt", "dvchost", "externalId", "cn1", "cn1Label", "cat", "act", "msg", "cs4", "cs4Label"]
    );
}
