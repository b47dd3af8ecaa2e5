//! docs/logs.md shows what these functions write.

use jiff::tz::TimeZone;

use super::*;
use crate::config::LogFormat;
use crate::sink::format::{body, rfc3164, rfc5424};

#[test]
fn the_documentation_shows_what_is_written() {
    let record = sample();
    let text = body(LogFormat::Text, &record);
    let formats = [LogFormat::Text, LogFormat::Json, LogFormat::Ecs, LogFormat::Cef];
    let mut lines: Vec<String> = formats.iter().map(|format| body(*format, &record)).collect();
    let message = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text").replace('\u{feff}', "BOM");
    lines.push(message(rfc5424::message(&ORIGIN, &record, &text, true, None)));
    lines.push(message(rfc3164::message(&ORIGIN, &record, &text, &TimeZone::UTC, false, None)));
    let documented = include_str!("../../../../../docs/logs.md");
    for line in lines {
        assert!(documented.lines().any(|l| l.trim() == line), "docs/logs.md lacks this line:\n{line}");
    }
}
