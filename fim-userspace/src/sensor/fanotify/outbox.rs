//! What waits for room in the channel. The sensor never blocks on it: what does not fit becomes a gap.

use std::collections::{BTreeMap, VecDeque};

use crossbeam_channel::{Sender, TrySendError};

use crate::core::observation::{Observation, Signal, Source, WatchId};

pub struct Outbox {
    out: Sender<Signal>,
    queue: VecDeque<Signal>,
    limit: usize,
    /// Watches whose reports did not fit, and how many.
    gaps: BTreeMap<WatchId, u64>,
    /// Nobody listens any more.
    pub closed: bool,
}

impl Outbox {
    /// `limit`: how many signals wait here before reports are dropped for a gap.
    pub fn new(out: Sender<Signal>, limit: usize) -> Self {
        Self { out, queue: VecDeque::new(), limit, gaps: BTreeMap::new(), closed: false }
    }

    pub fn sender(&self) -> Sender<Signal> {
        self.out.clone()
    }

    pub fn observed(&mut self, observation: Observation) {
        if let Some(lost) = self.gaps.get_mut(&observation.watch) {
            *lost += 1;
        } else if self.queue.len() >= self.limit {
            self.gaps.insert(observation.watch, 1);
        } else {
            self.queue.push_back(Signal::Observed(observation));
        }
    }

    /// Gaps are few, so the limit does not hold for them.
    pub fn gap(&mut self, watch: Option<WatchId>, reason: String) {
        self.queue.push_back(Signal::Gap { source: Source::Fanotify, watch, lost: None, reason });
    }

    pub fn stopped(&mut self, reason: String) {
        self.queue.push_back(Signal::Stopped { source: Source::Fanotify, reason });
    }

    /// Sends what fits; whether nothing is left.
    pub fn flush(&mut self) -> bool {
        loop {
            while let Some(signal) = self.queue.pop_front() {
                match self.out.try_send(signal) {
                    Ok(()) => {}
                    Err(TrySendError::Full(signal)) => {
                        self.queue.push_front(signal);
                        return false;
                    }
                    Err(TrySendError::Disconnected(_)) => {
                        self.closed = true;
                        return true;
                    }
                }
            }
            let Some((watch, lost)) = self.gaps.pop_first() else {
                return true;
            };
            self.queue.push_back(Signal::Gap {
                source: Source::Fanotify,
                watch: Some(watch),
                lost: Some(lost),
                reason: format!("{lost} reports came faster than they could be handled"),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::observation::Deed;
    use crate::core::path::RelPath;

    fn observation(watch: u32, name: &str) -> Observation {
        Observation {
            source: Source::Fanotify,
            watch: WatchId(watch),
            path: RelPath::new(name).expect("sound"),
            deed: Deed::Written,
            directory: false,
            actor: None,
            at_ns: 1,
        }
    }

    #[test]
    fn what_does_not_fit_becomes_one_gap_after_what_did() {
        let (out, signals) = crossbeam_channel::bounded(1);
        let mut outbox = Outbox::new(out, 2);
        for name in ["one", "two", "lost", "lost too"] {
            outbox.observed(observation(7, name));
        }
        assert!(!outbox.flush());
        // Between the overflow and its gap nothing of that watch may go ahead as if all were well.
        outbox.observed(observation(7, "late"));
        let mut seen: Vec<_> = signals.try_iter().collect();
        while !outbox.flush() {
            seen.extend(signals.try_iter());
        }
        seen.extend(signals.try_iter());
        assert_eq!(seen.len(), 3, "{seen:?}");
        assert_eq!(seen[1], Signal::Observed(observation(7, "two")));
        assert!(matches!(&seen[2], Signal::Gap { watch: Some(WatchId(7)), lost: Some(3), .. }), "{seen:?}");

        outbox.observed(observation(7, "after"));
        assert!(outbox.flush());
        assert_eq!(signals.try_recv(), Ok(Signal::Observed(observation(7, "after"))));
    }
}
