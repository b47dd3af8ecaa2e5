//! The task graph: who feeds whom, start order, drain.

pub use crate::sys::clock;
pub mod control;
pub mod hands;
pub mod limits;
pub mod newcomer;
pub mod scanner;
pub mod take;
pub mod watch;

mod act;
mod apart;
mod authority;
mod by_hand;
mod canary;
mod conclude;
mod copier;
mod copies;
mod descriptors;
pub mod estimate;
mod examine;
mod heal;
mod journal;
mod keeper;
mod maintenance;
mod notice;
mod outline;
mod portrait;
mod privileges;
mod progress;
mod recent;
mod reconcile;
mod record;
mod refill;
mod reload;
mod report;
mod rolling;
mod secrecy;
mod sensors;
mod session;
mod settle;
mod shortage;
mod sight;
mod signals;
mod start;
mod tell;
mod trust;
mod vouch;
mod watchdog;

use anyhow::bail;

pub use crate::sink::host;
pub use canary::act as act_as_canary;
pub use journal::Announce;
pub use maintenance::left as window_left;
pub use notice::{Notice, Tell};
pub use privileges::{KEPT as CAPABILITIES, reduce as reduce_privileges};
pub use start::{Start, run};

/// Refuses to work half-blind: without these, files are skipped and nothing can be put back.
pub fn require_privilege(purpose: &str) -> anyhow::Result<()> {
    use caps::{CapSet, Capability};
    let needed = [Capability::CAP_DAC_READ_SEARCH, Capability::CAP_DAC_OVERRIDE, Capability::CAP_CHOWN];
    let missing = needed.iter().find(|cap| !caps::has_cap(None, CapSet::Effective, **cap).unwrap_or(false));
    match missing {
        None => Ok(()),
        Some(cap) => bail!(
            "fim needs to run as root to {purpose} ({cap} is missing); start it as root, with sudo, or as a system service"
        ),
    }
}
