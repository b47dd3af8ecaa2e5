//! Times as people write them.

use anyhow::bail;
use jiff::civil::{Date, DateTime, Time};
use jiff::{Span, Timestamp, ToSpan, Zoned};

/// `text` seen from `now`, in the time zone of `now`: RFC 3339, a date with or without a time, a time of today, `now`,
/// `today`, `yesterday`, or how long ago (`2h`, `2 hours ago`).
pub(super) fn parse(text: &str, now: &Zoned) -> anyhow::Result<Zoned> {
    let zone = now.time_zone();
    let text = text.trim();
    match text.to_ascii_lowercase().as_str() {
        "now" => return Ok(now.clone()),
        "today" => return Ok(now.start_of_day()?),
        "yesterday" => return Ok(now.checked_sub(1.day())?.start_of_day()?),
        _ => {}
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.to_zoned(zone.clone()));
    }
    if let Ok(time) = text.parse::<Time>()
        && text.find(':').is_some_and(|at| at <= 2)
    {
        return Ok(now.date().to_datetime(time).to_zoned(zone.clone())?);
    }
    if let Ok(date) = text.parse::<Date>()
        && text.len() <= 10
    {
        return Ok(date.to_zoned(zone.clone())?);
    }
    if let Ok(time) = text.parse::<DateTime>() {
        return Ok(time.to_zoned(zone.clone())?);
    }
    if let Ok(span) = text.parse::<Span>() {
        return Ok(now.checked_sub(span.abs())?);
    }
    bail!(
        "{text:?} is no time; write for example \"2 hours ago\", \"2h\", \"09:30\", \"yesterday\", \"2026-11-22 14:00\" or \
         \"2026-11-22T14:00:00Z\""
    )
}
