//! A time in which what is changed is meant to be.

use serde::{Deserialize, Serialize};

use super::event::rfc3339;

/// The longest window: a longer one would be no watch at all.
pub const LONGEST_NS: u64 = 7 * 24 * 3_600 * 1_000_000_000;

/// A moment on both clocks. Only the one since boot never jumps; only the other outlives a restart of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    pub boot: String,
    /// Nanoseconds since boot.
    pub boot_ns: u64,
    /// Nanoseconds since the epoch.
    pub wall_ns: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub id: u64,
    pub reason: String,
    /// Who opened it, as records say it.
    pub opened_by: String,
    /// Roots of watches as records name them; empty: all.
    pub watches: Vec<String>,
    /// Which boot it was opened in.
    pub boot: String,
    /// Nanoseconds since that boot.
    pub start_boot_ns: u64,
    /// Nanoseconds since the epoch.
    pub start_wall_ns: i64,
    /// How long it lasts, nanoseconds.
    pub length_ns: u64,
    /// Its first record.
    pub seq: u64,
}

impl Window {
    /// What records within it name as their authority.
    pub fn authority(&self) -> String {
        authority(self.id)
    }

    /// Nanoseconds until it ends; 0: it has. The clock that comes first counts, so that setting the other back gives no
    /// time. After a restart of the machine the time since boot is never longer than the time since the start.
    pub fn left_ns(&self, now: &Moment) -> u64 {
        let wall = self.end_wall_ns().saturating_sub(now.wall_ns).max(0).cast_unsigned();
        wall.min(self.end_boot_ns(&now.boot).saturating_sub(now.boot_ns))
    }

    /// When it ends at the latest, nanoseconds since `boot`.
    pub fn end_boot_ns(&self, boot: &str) -> u64 {
        let start = if self.boot == boot { self.start_boot_ns } else { 0 };
        start.saturating_add(self.length_ns)
    }

    pub fn end_wall_ns(&self) -> i64 {
        self.start_wall_ns.saturating_add(i64::try_from(self.length_ns).unwrap_or(i64::MAX))
    }

    /// When it ends by the clock for people, RFC 3339.
    pub fn ends(&self) -> String {
        rfc3339(self.end_wall_ns())
    }

    pub fn has(&self, watch: &str) -> bool {
        self.watches.is_empty() || self.watches.iter().any(|root| root == watch)
    }

    /// Whether something that was first reported then, nanoseconds since the boot `boot`, was not before the window.
    pub fn is_after_start(&self, boot: &str, first_ns: u64) -> bool {
        self.boot != boot || first_ns >= self.start_boot_ns
    }
}

pub fn authority(id: u64) -> String {
    format!("maintenance:{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000_000;

    fn window() -> Window {
        Window {
            id: 3,
            reason: "upgrade".into(),
            opened_by: "person: ann (uid 1000)".into(),
            watches: vec!["/etc".into()],
            boot: "a".into(),
            start_boot_ns: 100 * MINUTE,
            start_wall_ns: 5_000 * MINUTE as i64,
            length_ns: 30 * MINUTE,
            seq: 7,
        }
    }

    #[test]
    fn neither_clock_can_prolong_it() {
        let left = |boot: &str, boot_min: u64, wall_min: i64| {
            let now =
                Moment { boot: boot.into(), boot_ns: boot_min * MINUTE, wall_ns: wall_min * MINUTE as i64 };
            window().left_ns(&now) / MINUTE
        };
        for (name, boot, boot_min, wall_min, expected) in [
            ("at its start", "a", 100, 5_000, 30),
            ("in it", "a", 110, 5_010, 20),
            ("over", "a", 130, 5_030, 0),
            ("long over", "a", 900, 6_000, 0),
            ("the clock was set back", "a", 125, 1, 5),
            ("and it is over all the same", "a", 130, 1, 0),
            ("the clock was set forward", "a", 101, 5_029, 1),
            ("the machine was restarted", "b", 2, 5_010, 20),
            ("restarted, and the clock is wrong", "b", 2, 0, 28),
            ("restarted long ago", "b", 31, 0, 0),
        ] {
            assert_eq!(left(boot, boot_min, wall_min), expected, "{name}");
        }
    }

    #[test]
    fn only_what_came_after_its_start_is_in_it() {
        let window = window();
        assert!(window.is_after_start("a", 100 * MINUTE) && !window.is_after_start("a", 100 * MINUTE - 1));
        assert!(window.is_after_start("b", 1), "the restart came after its start");
        assert!(window.has("/etc") && !window.has("/usr"));
        assert!(Window { watches: Vec::new(), ..window }.has("/usr"));
    }
}
