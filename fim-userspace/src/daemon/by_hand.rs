//! The reconciler's turn with what a person asked for.

use crate::control::{Act, Answer};
use crate::core::correlate::Look;
use crate::core::witness::Deeds;

use super::clock::boottime_ns;
use super::control::Job;
use super::hands::{self, Desk};
use super::reconcile::Reconciler;

impl Reconciler {
    /// Carries a request out between two rounds: nobody else writes meanwhile.
    pub(super) fn by_hand(&mut self, job: Job) {
        // What happened before is told before.
        self.conclude();
        self.await_copies();
        self.write();
        // A client that went away hears nothing; what it asked for is done all the same.
        let mut tell = |answer: Answer| drop(job.reply.send(answer));
        if !self.journal.healthy() || self.journal.unwritten() > 0 {
            let sentence =
                "the database cannot be written at present, so nothing can be decided; see `fim status`";
            return tell(Answer::Failed { sentence: sentence.into() });
        }
        if let Act::Prune { max_age: Some(_), .. } = &job.act
            && let Some(sentence) = self.ages_mean_nothing()
        {
            return tell(Answer::Failed { sentence });
        }
        if let Act::Maintain(wish) = &job.act {
            return tell(self.maintain(wish, &job.person));
        }
        let mut desk = Desk {
            store: &mut self.store,
            vault: &self.vault,
            watches: &self.watches,
            responder: &self.responder,
            stamp: &self.stamp,
            sight: Some(&self.sight),
            records: Vec::new(),
            looks: Vec::new(),
            unrecorded: Vec::new(),
            unreleased: Vec::new(),
        };
        hands::carry_out(&mut desk, &job.act, &job.person, &mut tell);
        let Desk { records, looks, unrecorded, unreleased, .. } = desk;
        self.journal.wrote(&records);
        unrecorded.into_iter().for_each(|entry| self.journal.add(entry));
        self.unreleased.extend(unreleased);
        self.write();
        if let Act::Prune { .. } = &job.act {
            self.look_for_room_now();
        }
        let now = boottime_ns();
        for (watch, path, directory) in looks {
            self.look_again(Look::new(watch, path, now), directory);
        }
    }

    fn look_again(&mut self, mut look: Look, directory: bool) {
        look.directory = directory;
        if directory {
            look.deeds = Deeds::CAME_ALONG;
        }
        self.correlator.schedule(look, boottime_ns());
    }
}
