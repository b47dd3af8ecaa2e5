//! Changes in the middle of an exec storm.

use std::time::Duration;

use super::{Stage, one};
use crate::report::Outcome;
use crate::storm::Storm;

/// Changes, spread over the storm; each of its own file.
pub const CHANGES: usize = 12;
const FULL: Duration = Duration::from_secs(60);
const QUICK: Duration = Duration::from_secs(6);

/// The file of a change.
pub fn file(number: usize) -> String {
    format!("storm-{number}")
}

/// Processes that are gone within a millisecond make them.
pub fn storm(stage: &Stage<'_>) -> Outcome {
    let length = if stage.setting.full { FULL } else { QUICK };
    let storm = Storm::begin()?;
    for number in 0..CHANGES {
        let due = length.mul_f64(number as f64 / CHANGES as f64);
        std::thread::sleep(due.saturating_sub(storm.age()));
        one(stage, "brief", &stage.fim.watched.join(file(number)))?;
    }
    std::thread::sleep(length.saturating_sub(storm.age()));
    let blown = storm.end()?;
    Ok(format!("({} execs, {:.0} a second)", blown.execs, blown.rate()))
}
