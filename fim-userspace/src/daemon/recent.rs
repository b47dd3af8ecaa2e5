//! Which paths were put right a moment ago: late reports about them are no news.

use std::collections::HashMap;

use crate::core::observation::WatchId;
use crate::core::path::RelPath;

/// Nanoseconds for which reports may still come in that were true before the response.
const LATE_NS: u64 = 1_000_000_000;
const LIMIT: usize = 65_536;

#[derive(Default)]
pub struct Recent(HashMap<(WatchId, RelPath), u64>);

impl Recent {
    pub fn note(&mut self, watch: WatchId, path: &RelPath, now_ns: u64) {
        if self.0.len() >= LIMIT {
            self.0.retain(|_, at| now_ns.saturating_sub(*at) < LATE_NS);
        }
        self.0.insert((watch, path.clone()), now_ns);
    }

    /// The same paths under the numbers that their watches have from now on.
    pub fn renumbered(self, number: impl Fn(WatchId) -> Option<WatchId>) -> Self {
        let one = |((watch, path), at)| Some(((number(watch)?, path), at));
        Self(self.0.into_iter().filter_map(one).collect())
    }

    pub fn responded(&self, watch: WatchId, path: &RelPath, now_ns: u64) -> bool {
        self.0.get(&(watch, path.clone())).is_some_and(|at| now_ns.saturating_sub(*at) < LATE_NS)
    }
}
