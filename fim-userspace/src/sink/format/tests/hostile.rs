//! Whatever a file, a program or a user is called: each record stays one line of its own format.

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::ORIGIN;
use crate::config::LogFormat;
use crate::sink::format::{body, rfc3164, rfc5424};
use crate::sink::line;
use crate::sink::tests::hostile::{is_breaking, named, names};

const FORMATS: [LogFormat; 4] = [LogFormat::Text, LogFormat::Json, LogFormat::Ecs, LogFormat::Cef];

/// What stands outside `"…"` of a structured data element, escapes undone.
fn outside(message: &str) -> String {
    let mut out = String::new();
    let (mut chars, mut inside) = (message.chars(), false);
    while let Some(c) = chars.next() {
        match c {
            '\\' if inside => drop(chars.next()),
            '"' => inside = !inside,
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_line_of_a_log_is_one_line(name in names()) {
        let record = named(&name);
        for format in FORMATS {
            let text = body(format, &record);
            prop_assert!(!text.chars().any(is_breaking), "{format:?}: {text:?}");
            match format {
                LogFormat::Json | LogFormat::Ecs => {
                    let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
                    prop_assert!(read.is_object());
                }
                LogFormat::Cef => {
                    // Seven fields of a header, then pairs whose names are ours.
                    let parts: Vec<&str> = text.split('|').take(7).collect();
                    prop_assert!(parts.iter().all(|part| !part.ends_with('\\')), "{text}");
                    let clean = text.replace("\\\\", "").replace("\\=", "");
                    for (before, _) in clean.match_indices('=').map(|(at, _)| clean.split_at(at)) {
                        let key = before.rsplit([' ', '|']).next().unwrap_or_default();
                        prop_assert!(key.chars().all(|c| c.is_ascii_alphanumeric()) && !key.is_empty(), "{key:?}: {text}");
                    }
                }
                LogFormat::Text => {}
            }
        }
        // For terminals, also of what was never a record's.
        let raw = String::from_utf8_lossy(&name).into_owned();
        prop_assert!(!line::message(&record, &mut |_| Some(raw.clone())).chars().any(is_breaking));
    }

    #[test]
    fn a_syslog_message_has_our_header_and_our_parameters(name in names(), limit in prop::option::of(480usize..4_096)) {
        let record = named(&name);
        for format in FORMATS {
            let body = body(format, &record);
            let new = String::from_utf8(rfc5424::message(&ORIGIN, &record, &body, false, limit)).expect("UTF-8");
            let old = String::from_utf8(rfc3164::message(&ORIGIN, &record, &body, &TimeZone::UTC, true, limit)).expect("UTF-8");
            for message in [&new, &old] {
                prop_assert!(!message.chars().any(is_breaking), "{message:?}");
                prop_assert!(limit.is_none_or(|limit| message.len() <= limit.max(480)), "{} bytes", message.len());
            }
            let header: Vec<&str> = new.splitn(7, ' ').collect();
            prop_assert!(header[0].ends_with(">1") && header[3] == "fim" && header[6].starts_with("[fim@32473 "), "{new}");
            let data = header[6].strip_suffix(&body).unwrap_or(header[6]);
            let outside = outside(data);
            let element = outside.split(']').next().expect("an element");
            let known = ["seq", "id", "severity", "response", "tier", "verdict", "watch", "path", "pathRaw", "oldPath",
                "sha256Before", "sha256After", "pid", "uid", "euid", "auid", "exe", "container", "cut"];
            for parameter in element.split(' ').skip(1) {
                prop_assert!(known.contains(&parameter.trim_end_matches('=')), "{parameter:?} in {new}");
            }
        }
    }

    #[test]
    fn a_journal_entry_has_our_fields(name in names()) {
        let fields = crate::sink::journald::fields(&named(&name));
        let ours = |field: &str| field.starts_with("FIM_") || ["MESSAGE_ID", "SYSLOG_IDENTIFIER"].contains(&field);
        prop_assert!(fields.iter().all(|(field, value)| ours(field) && !value.chars().any(is_breaking)), "{fields:?}");
    }
}
