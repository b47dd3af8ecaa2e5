use jiff::tz::TimeZone;

use super::*;
use crate::config::LogFormat;
use crate::sink::format::{body, rfc3164, rfc5424};

/// The fields of an RFC 5424 message: header words, structured data, the rest.
struct Parsed {
    header: Vec<String>,
    data: Vec<(String, String)>,
    body: Vec<u8>,
}

/// A reader written from the grammar of RFC 5424, section 6.
fn parse(message: &[u8]) -> Parsed {
    let open = message.iter().position(|b| *b == b'[').expect("structured data");
    let header = std::str::from_utf8(&message[..open]).expect("ASCII");
    assert!(header.is_ascii());
    let header: Vec<String> = header.trim_end().split(' ').map(str::to_owned).collect();
    let mut data = Vec::new();
    let mut at = open + message[open..].iter().position(|b| *b == b' ').expect("parameters");
    while message[at] == b' ' {
        let equals = at + message[at..].iter().position(|b| *b == b'=').expect("a value");
        let name = String::from_utf8(message[at + 1..equals].to_vec()).expect("ASCII");
        assert_eq!(message[equals + 1], b'"');
        at = equals + 2;
        let mut value = Vec::new();
        while message[at] != b'"' {
            assert_ne!(message[at], b']', "must be escaped");
            if message[at] == b'\\' {
                at += 1;
                assert!(b"\\\"]".contains(&message[at]), "nothing else needs an escape");
            }
            value.push(message[at]);
            at += 1;
        }
        at += 1;
        data.push((name, String::from_utf8(value).expect("UTF-8")));
    }
    assert_eq!(&message[at..at + 2], b"] ");
    Parsed { header, data, body: message[at + 2..].to_vec() }
}

impl Parsed {
    fn value(&self, name: &str) -> Option<&str> {
        self.data.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

const BOM: &[u8] = b"\xef\xbb\xbf";

#[test]
fn a_message_follows_the_grammar_whatever_is_in_it() {
    let record = hostile();
    let text = body(LogFormat::Text, &record);
    let message = rfc5424::message(&ORIGIN, &record, &text, true, None);
    let parsed = parse(&message);
    let words = ["<83>1", "2026-11-22T01:02:03.004005Z", "we_b__1", "fim", "4711", "modified"];
    assert_eq!(parsed.header, words, "authpriv is 10, an error 3");
    assert!(message.windows(11).any(|w| w == b"[fim@32473 "), "the name of the element");
    assert_eq!(parsed.value("path"), record.event.path.as_deref());
    assert_eq!(parsed.value("pathRaw"), record.event.path_raw.as_deref());
    assert_eq!(parsed.value("oldPath"), Some("/etc/old=1 spid=1"));
    let ids = ["seq", "pid", "uid", "euid", "auid"].map(|name| parsed.value(name));
    assert_eq!(ids, [Some("42"), Some("123"), Some("1000"), Some("0"), Some("1002")]);
    assert_eq!(parsed.body, [BOM, text.as_bytes()].concat());
    let plain = rfc5424::message(&ORIGIN, &record, "{}", false, None);
    assert_eq!(parse(&plain).body, b"{}");
}

#[test]
fn priorities_tell_facility_and_severity() {
    let mut record = sample();
    let cases = [
        (Severity::Low, 0, "<6>1"),
        (Severity::Medium, 10, "<84>1"),
        (Severity::High, 16, "<131>1"),
        (Severity::Critical, 23, "<186>1"),
    ];
    for (severity, facility, expected) in cases {
        record.event.severity = severity;
        let origin = Origin { facility: Facility(facility), pid: 1 };
        let message = rfc5424::message(&origin, &record, "x", false, None);
        assert_eq!(parse(&message).header[0], expected);
    }
}

#[test]
fn what_is_too_long_is_cut_on_a_character_and_says_so() {
    let mut record = sample();
    record.event.set_path("/ä€😀".repeat(700).as_bytes());
    let text = body(LogFormat::Text, &record);
    for limit in 2_040..2_056 {
        let message = rfc5424::message(&ORIGIN, &record, &text, true, Some(limit));
        assert!(message.len() <= limit && message.len() > limit - 5, "{} of {limit}", message.len());
        let parsed = parse(&message);
        assert_eq!((parsed.value("cut"), parsed.value("seq")), (Some("yes"), Some("42")));
        let cut = String::from_utf8(parsed.body).expect("whole characters");
        let cut = cut.strip_prefix('\u{feff}').and_then(|c| c.strip_suffix("… (cut)")).expect("both marks");
        assert!(text.starts_with(cut));
        let older = rfc3164::message(&ORIGIN, &record, &text, &TimeZone::UTC, true, Some(limit));
        assert!(older.len() <= limit && std::str::from_utf8(&older).is_ok_and(|m| m.ends_with("… (cut)")));
    }
    let whole = rfc5424::message(&ORIGIN, &sample(), "short", true, Some(2_048));
    assert_eq!(parse(&whole).value("cut"), None);
}

#[test]
fn the_older_header_has_local_time_and_a_host_only_on_the_network() {
    let record = sample();
    let zone = TimeZone::fixed(jiff::tz::offset(-2));
    let local = rfc3164::message(&ORIGIN, &record, "words", &zone, false, None);
    assert_eq!(String::from_utf8(local).expect("text"), "<83>Nov 21 23:02:03 fim[4711]: words");
    let mut early = record.clone();
    early.event.time = "2026-03-04T01:02:03.004005Z".into();
    let sent = rfc3164::message(&ORIGIN, &early, "words", &TimeZone::UTC, true, None);
    assert_eq!(String::from_utf8(sent).expect("text"), "<83>Mar  4 01:02:03 web1 fim[4711]: words");
}
