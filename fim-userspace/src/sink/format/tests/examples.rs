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
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/logs.md");
    let documented = std::fs::read_to_string(&file).expect("docs/logs.md");
    let missing: Vec<String> =
        lines.into_iter().filter(|line| !documented.lines().any(|l| l.trim() == line)).collect();
    assert!(missing.is_empty(), "docs/logs.md lacks these lines:\n{}", missing.join("\n"));
}
