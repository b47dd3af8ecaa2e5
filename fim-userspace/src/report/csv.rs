//! The unauthorised changes as a table for other programs (RFC 4180).

use std::io::Write;

use super::{Change, Period, each};
use crate::core::event::Verdict;
use crate::store::Store;

/// A column's name and its value.
type Column = (&'static str, fn(&Change) -> String);

fn or_nothing<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map(T::to_string).unwrap_or_default()
}

const COLUMNS: [Column; 17] = [
    ("seq", |c| c.seq.to_string()),
    ("id", |c| c.id.clone()),
    ("time", |c| c.time.clone()),
    ("host", |c| c.host.clone()),
    ("kind", |c| c.kind.into()),
    ("path", |c| c.path.clone()),
    ("old_path", |c| or_nothing(&c.old_path)),
    ("severity", |c| c.severity.into()),
    ("verdict", |c| {
        match c.verdict {
            Some(Verdict::Authorised) => "authorised",
            Some(Verdict::Unauthorised) => "unauthorised",
            None => "",
        }
        .into()
    }),
    ("response", |c| c.response.into()),
    ("error", |c| or_nothing(&c.error)),
    ("uid", |c| or_nothing(&c.uid)),
    ("auid", |c| or_nothing(&c.auid)),
    ("pid", |c| or_nothing(&c.pid)),
    ("exe", |c| or_nothing(&c.exe)),
    ("sha256_before", |c| or_nothing(&c.sha256_before)),
    ("sha256_after", |c| or_nothing(&c.sha256_after)),
];

/// All of them, as they are read from the ledger.
///
/// # Errors
/// When the database cannot be read, or `out` not written.
pub fn write(store: &Store, period: Period, out: impl Write) -> anyhow::Result<()> {
    let mut table = ::csv::Writer::from_writer(out);
    table.write_record(COLUMNS.map(|(name, _)| name))?;
    let (since, until) = period.times();
    each(store, &period.criteria(), |record| {
        let (event, time) = (&record.event, &record.event.time);
        let within = *time >= since && *time < until;
        if within && event.kind.is_change() && event.verdict != Some(Verdict::Authorised) {
            let change = Change::from(record);
            table.write_record(COLUMNS.map(|(_, value)| harmless(value(&change))))?;
        }
        Ok::<(), anyhow::Error>(())
    })?;
    Ok(table.flush()?)
}

/// Spreadsheets take text that begins like this for a formula, and names of files are anybody's to choose.
fn harmless(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text }
}
