//! The same decisions where no daemon runs.

use std::sync::Arc;

use crate::config::Config;
use crate::core::tier::Tier;
use crate::daemon::newcomer::require_baseline;
use crate::daemon::record::Stamp;
use crate::daemon::take::open_vault;
use crate::daemon::watch::Watch;
use crate::respond::Responder;
use crate::store::vault::Vault;
use crate::store::{Lock, Store};

use super::Desk;

/// Holds the lock of the state directory, as a daemon would.
pub struct Alone {
    _lock: Lock,
    store: Store,
    vault: Arc<Vault>,
    watches: Vec<Arc<Watch>>,
    responder: Responder,
    stamp: Stamp,
}

impl Alone {
    pub fn open(config: &Config, lock: Lock) -> anyhow::Result<Self> {
        let store = Store::open(&config.state.dir)?;
        let vault = Arc::new(open_vault(config)?);
        let watches = Watch::open_all(config)?;
        require_baseline(&store, &watches)?;
        let masks = config.sensor.masks.clone();
        let stamp = Stamp { host: crate::daemon::host(), tier: Tier::Scan.as_str().into(), masks };
        let responder = Responder::new(vault.clone());
        Ok(Self { _lock: lock, store, vault, watches, responder, stamp })
    }

    pub fn desk(&mut self) -> Desk<'_> {
        Desk {
            store: &mut self.store,
            vault: &self.vault,
            watches: &self.watches,
            responder: &self.responder,
            stamp: &self.stamp,
            sight: None,
            records: Vec::new(),
            looks: Vec::new(),
            unrecorded: Vec::new(),
            unreleased: Vec::new(),
        }
    }
}
