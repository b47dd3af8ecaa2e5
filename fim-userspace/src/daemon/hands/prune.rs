//! The vault is brought within limits that a person names.

use std::time::Duration;

use crate::control::{Answer, Pruned};
use crate::core::event::{EventKind, Verdict};
use crate::daemon::clock::realtime_ns;
use crate::daemon::limits::{self, Retention, UpkeepError};

use super::Desk;

/// Seconds, and bytes of all objects together.
pub fn prune(desk: &mut Desk<'_>, max_age: Option<u64>, max_size: Option<u64>, said: &str) -> Answer {
    match carry_out(desk, Retention { max_age: max_age.map(Duration::from_secs), max_size }, said) {
        Ok(pruned) => Answer::Pruned(pruned),
        Err(error) => Answer::Failed { sentence: error.to_string() },
    }
}

fn carry_out(desk: &mut Desk<'_>, retention: Retention, said: &str) -> Result<Pruned, UpkeepError> {
    let stamp = desk.stamp.clone();
    let event = |message: String| {
        let mut event = stamp.about_fim(EventKind::Purged, format!("{message}, {said}"));
        event.verdict = Some(Verdict::Authorised);
        event.authorised_by = Some(said.to_owned());
        event
    };
    let report = limits::prune(desk.store, desk.vault, &retention, realtime_ns(), event)?;
    let told = report.told();
    desk.records.extend(report.record);
    Ok(told)
}
