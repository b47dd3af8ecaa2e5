//! What the ledger needs by the clock: a seal each interval, and the removal of what is over the limits.

use crate::config::LedgerConfig;
use crate::core::event::{EventKind, rfc3339};
use crate::store::seal::{self, Beside, Sealer};
use crate::store::{Store, StoreError};

use super::clock::{boottime_ns, realtime_ns};
use super::journal::Journal;
use super::record::Stamp;

/// Nanoseconds between two looks for records over the limits.
const LOOK_NS: u64 = 3_600 * SECOND_NS;
/// Nanoseconds until what failed is tried again.
const RETRY_NS: u64 = 60 * SECOND_NS;
const SECOND_NS: u64 = 1_000_000_000;
/// Records removed in one transaction: a response that comes meanwhile waits for this many.
const AT_ONCE: usize = 100;

/// What the ledger is told when something was done to the tables beside it.
pub const ALTERED: &str = "the baseline, the evidence, a former version or the summaries in the database were altered while \
                           fim was not running, by something else than fim; compare them with a backup";

pub struct Keeper {
    /// What lies beside the ledger was not as the last daemon left it.
    pub altered: bool,
    limits: LedgerConfig,
    sealer: Option<Sealer>,
    /// Nanoseconds since boot, as all times here.
    next_seal: u64,
    next_look: u64,
    /// Pruned records are being removed; the last one that was.
    removing: Option<u64>,
}

impl Keeper {
    /// Says so when sealing is not set up: fim works without.
    pub fn open(store: &Store, limits: LedgerConfig) -> Result<Self, StoreError> {
        let sealer = Sealer::open(store.dir())?;
        if sealer.is_none() {
            tracing::warn!("the ledger is not sealed; set it up with `fim seal setup` while fim is stopped");
        }
        let altered = sealer.is_some() && store.beside()? == Beside::Altered;
        if altered {
            tracing::error!("{ALTERED}");
        }
        // What an earlier run left unremoved is gone on with at once.
        Ok(Self { altered, limits, sealer, next_seal: 0, next_look: boottime_ns(), removing: Some(0) })
    }

    /// Other limits are looked at at once.
    pub fn limit(&mut self, limits: LedgerConfig) {
        (self.limits, self.next_look) = (limits, boottime_ns());
    }

    /// When there is something to do.
    pub fn due(&self) -> u64 {
        let removal = self.removing.map(|_| 0);
        let seal = self.sealer.as_ref().map(|_| self.next_seal);
        [removal, seal, Some(self.next_look)].into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// Seals the head now, whatever the clock says.
    pub fn seal(&mut self, store: &mut Store, reason: &str) {
        let Some(sealer) = &mut self.sealer else { return };
        let wait = match sealer.seal(store, realtime_ns() / 1_000, reason) {
            Ok(_) => u64::try_from(self.limits.seal_interval.as_nanos()).unwrap_or(u64::MAX),
            Err(error) => {
                tracing::error!("the ledger could not be sealed: {error}");
                RETRY_NS
            }
        };
        self.next_seal = boottime_ns().saturating_add(wait);
    }

    /// Does what is due.
    pub fn keep(&mut self, store: &mut Store, journal: &mut Journal, stamp: &Stamp) {
        let now = boottime_ns();
        if now < self.due() || !journal.healthy() {
            return;
        }
        if self.sealer.is_some() && now >= self.next_seal {
            self.seal(store, seal::TIME);
        }
        if let Err(error) = self.prune(now, store, journal, stamp) {
            tracing::error!("old records could not be removed: {error}");
            (self.removing, self.next_look) = (None, now + RETRY_NS);
        }
    }

    fn prune(
        &mut self,
        now: u64,
        store: &mut Store,
        journal: &mut Journal,
        stamp: &Stamp,
    ) -> Result<(), StoreError> {
        if let Some(after) = self.removing {
            self.removing = store.prune_some(after, AT_ONCE)?;
        } else if now >= self.next_look {
            self.next_look = now + LOOK_NS;
            let real = realtime_ns();
            if let Some(pruning) = store.pruning(self.limits.retention, real / 1_000)? {
                let event = |message| stamp.about_fim(EventKind::Purged, message);
                journal.wrote(&store.prune(&pruning, &rfc3339(real), event)?);
            }
            // Also what an earlier attempt could not remove.
            self.removing = Some(0);
        }
        Ok(())
    }
}
