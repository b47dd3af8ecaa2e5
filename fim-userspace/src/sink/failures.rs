//! How often each sink has failed since the start, for the metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

static COUNTS: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

pub(super) fn count(sink: &str) {
    let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    match counts.get_mut(sink) {
        Some(count) => *count += 1,
        None => drop(counts.insert(sink.into(), 1)),
    }
}

pub fn of(sink: &str) -> u64 {
    COUNTS.lock().unwrap_or_else(PoisonError::into_inner).get(sink).copied().unwrap_or(0)
}
