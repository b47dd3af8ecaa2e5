//! After places are right: the disk is waited for, records are written, and only then what was there is removed.

use std::sync::Arc;

use super::act::{Act, Unfinished};
use super::clock::boottime_ns;
use super::descriptors::steps_at_once;
use super::reconcile::Reconciler;
use super::watch::Watch;
use crate::store::Upkeep;

/// Nanoseconds for which records may wait while there is still something to put right.
const LONGEST_NS: u64 = 500_000_000;

/// Responses of one round whose places are right.
struct Round {
    watch: Arc<Watch>,
    acts: Vec<Act>,
    unfinished: Unfinished,
}

/// Rounds that wait for the disk.
#[derive(Default)]
pub struct Begun {
    rounds: Vec<Round>,
    acts: usize,
    since_ns: u64,
}

impl Begun {
    /// Takes the acts that have something to wait for; gives the others back, to be settled at once.
    pub fn add(&mut self, watch: &Arc<Watch>, acts: Vec<Act>, mut unfinished: Unfinished) -> Vec<Act> {
        let (mut waiting, mut others) = (Vec::new(), Vec::new());
        let mut places = Vec::with_capacity(acts.len());
        for act in acts {
            places.push(waiting.len());
            if act.unreleased || act.keep { waiting.push(act) } else { others.push(act) }
        }
        if !waiting.is_empty() {
            unfinished.renumber(&places);
            if self.rounds.is_empty() {
                self.since_ns = boottime_ns();
            }
            self.acts += waiting.len();
            self.rounds.push(Round { watch: watch.clone(), acts: waiting, unfinished });
        }
        others
    }

    /// Too much to go on with, in number or time.
    pub fn is_full(&self) -> bool {
        self.acts >= steps_at_once()
            || (self.acts > 0 && boottime_ns().saturating_sub(self.since_ns) > LONGEST_NS)
    }
}

impl Reconciler {
    /// Makes everything durable that was begun, and records it.
    pub(super) fn conclude(&mut self) {
        let Begun { rounds, .. } = std::mem::take(&mut self.begun);
        if rounds.is_empty() {
            return;
        }
        for Round { watch, mut acts, mut unfinished } in rounds {
            unfinished.secure(&self.responder, &watch, &mut acts);
            self.after_storing(&watch);
            self.keep_copies(&watch, &mut acts);
            self.unreleased.push((watch.id, unfinished.secured()));
            let mut upkeep = Upkeep::default();
            for act in acts {
                self.settle(&watch, act, &mut upkeep);
            }
            self.upkeep.push((watch.id, upkeep));
        }
        self.write();
    }
}
