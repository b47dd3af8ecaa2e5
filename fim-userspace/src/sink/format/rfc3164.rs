//! The older syslog header (RFC 3164), as sockets such as /dev/log expect it.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::syslog::{Origin, cut, token};
use crate::core::event::Record;

/// One message, without framing. Its time is local, in `zone`, and has no year. With `host` that name stands after the
/// time, as the network wants and a local socket does not. With `limit` it has so many bytes at most.
pub fn message(
    origin: &Origin,
    record: &Record,
    body: &str,
    zone: &TimeZone,
    with_host: bool,
    limit: Option<usize>,
) -> Vec<u8> {
    let event = &record.event;
    let time = event.time.parse::<Timestamp>().unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone.clone());
    let host = if with_host { format!("{} ", token(&event.host, 255)) } else { String::new() };
    let start = format!(
        "{}{} {host}fim[{}]: ",
        origin.priority(event.severity),
        time.strftime("%b %e %H:%M:%S"),
        origin.pid
    );
    match limit.filter(|limit| start.len() + body.len() > *limit) {
        None => format!("{start}{body}"),
        Some(limit) => format!("{start}{}", cut(body, limit.saturating_sub(start.len()))),
    }
    .into_bytes()
}
