//! Whether the seals are all there, and what they say of the chain.

use std::collections::BTreeMap;
use std::fmt;

use rusqlite::Connection;
use serde::Serialize;

use super::{KeyState, REPLACED, Seal, VerificationKey, all};
use crate::store::ledger::Hash;

/// What is wrong with the seals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SealFault {
    /// The table cannot be read as what was written.
    Unreadable,
    /// The seal of this epoch is missing.
    Missing { epoch: u64 },
    /// The seal of this epoch was not made with its key.
    Forged { epoch: u64 },
    /// A seal says that the ledger had fewer records than the one before it.
    Backwards { epoch: u64 },
    /// There are seals, but no key that goes on from them.
    NoKeyFile,
    /// The key that is left does not follow from the verification key.
    KeyAltered { epoch: u64 },
    /// No seal belongs to the verification key.
    OtherKey,
}

impl fmt::Display for SealFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => f.write_str("the seals cannot be read"),
            Self::Missing { epoch } => write!(f, "the seal of epoch {epoch} is missing"),
            Self::Forged { epoch } => {
                write!(f, "the seal of epoch {epoch} was altered or not made by this host's fim")
            }
            Self::Backwards { epoch } => {
                write!(f, "the seal of epoch {epoch} is about fewer records than the one before")
            }
            Self::NoKeyFile => f.write_str("the sealing key is missing from the state directory"),
            Self::KeyAltered { epoch } => {
                write!(f, "the sealing key of epoch {epoch} was altered or put back to an older one")
            }
            Self::OtherKey => f.write_str("no seal was made with this verification key"),
        }
    }
}

/// What the seals prove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sealed {
    pub seals: u64,
    /// Seals that were checked with the verification key.
    pub proven: u64,
    /// The last record that a proven seal, or without a key any seal, is about.
    pub seq: u64,
    /// When that seal was made, microseconds since the epoch.
    pub time_us: Option<i64>,
    pub fault: Option<SealFault>,
}

/// What seals say about the chain: hash of the record, by its number.
pub(in crate::store) type Expected = BTreeMap<u64, Hash>;

/// Checks the seals among themselves. `state`: the key that is left, where it can be read: outer `None` when that was
/// not tried.
pub(in crate::store) fn check(
    db: &Connection,
    key: Option<&VerificationKey>,
    state: Option<Option<&KeyState>>,
) -> (Sealed, Expected) {
    let mut sealed = Sealed::default();
    let mut expected = Expected::new();
    let Ok(seals) = all(db) else {
        sealed.fault = Some(SealFault::Unreadable);
        return (sealed, expected);
    };
    sealed.seals = seals.len() as u64;
    let mut setups: BTreeMap<&str, Vec<&Seal>> = BTreeMap::new();
    for seal in &seals {
        setups.entry(&seal.setup).or_default().push(seal);
    }
    let wanted = key.map(VerificationKey::setup);
    if wanted.as_ref().is_some_and(|setup| !setups.contains_key(setup.as_str())) {
        sealed.fault = Some(SealFault::OtherKey);
    }
    match state {
        Some(None) if !seals.is_empty() => drop(sealed.fault.get_or_insert(SealFault::NoKeyFile)),
        // Setting it up makes the first seal.
        Some(Some(state)) if !setups.contains_key(state.setup.as_str()) => {
            sealed.fault.get_or_insert(SealFault::Missing { epoch: 0 });
        }
        _ => {}
    }
    for (setup, seals) in setups {
        let key = key.filter(|_| wanted.as_deref() == Some(setup));
        let state = state.map(|s| s.filter(|s| s.setup == setup));
        let mut proof = Sealed::default();
        if let Some(fault) = series(&seals, key, state, &mut proof, &mut expected) {
            sealed.fault.get_or_insert(fault);
        }
        // With a key only what it proves counts.
        if (wanted.is_none() || key.is_some()) && proof.time_us > sealed.time_us {
            (sealed.proven, sealed.seq, sealed.time_us) = (proof.proven, proof.seq, proof.time_us);
        }
    }
    (sealed, expected)
}

/// One setup's seals, by epoch.
fn series(
    seals: &[&Seal],
    key: Option<&VerificationKey>,
    state: Option<Option<&KeyState>>,
    sealed: &mut Sealed,
    expected: &mut Expected,
) -> Option<SealFault> {
    let mut keys = key.map(VerificationKey::epochs);
    let mut last_seq = 0;
    for (epoch, seal) in (0..).zip(seals) {
        if seal.epoch != epoch {
            return Some(SealFault::Missing { epoch });
        }
        if seal.seq < last_seq {
            return Some(SealFault::Backwards { epoch });
        }
        last_seq = seal.seq;
        // Two that disagree cannot both be right.
        if expected.get(&seal.seq).is_some_and(|hash| *hash != seal.hash) {
            return Some(SealFault::Forged { epoch });
        }
        if let Some(keys) = &mut keys {
            if !keys.next().is_some_and(|key| key.made(seal)) {
                return Some(SealFault::Forged { epoch });
            }
            sealed.proven += 1;
        }
        expected.insert(seal.seq, seal.hash);
        (sealed.seq, sealed.time_us) = (seal.seq, Some(seal.time_us));
    }
    let made = seals.len() as u64;
    match state? {
        // The key goes on from the last seal, or has still to, after a crash between the two.
        Some(state) if state.epoch > made => Some(SealFault::Missing { epoch: made }),
        Some(state) if state.epoch + 1 < made => Some(SealFault::KeyAltered { epoch: state.epoch }),
        Some(state) => {
            let right =
                |key: &VerificationKey| key.epochs().nth(state.epoch as usize).as_ref() == Some(&state.key);
            (!key.is_none_or(right)).then_some(SealFault::KeyAltered { epoch: state.epoch })
        }
        // Another setup's key is there: this one must have been closed.
        None if seals.last().is_some_and(|s| s.reason == REPLACED) => None,
        None => Some(SealFault::Missing { epoch: made }),
    }
}
