//! What a daemon that died in the middle of a response left behind.

use crate::core::correlate::Look;
use crate::core::event::EventKind;
use crate::core::path::RelPath;
use crate::core::quarantine::Reason;
use crate::core::witness::Deeds;
use crate::tree::private::is_private_name;

use super::clock::boottime_ns;
use super::journal::Entry;
use super::reconcile::Reconciler;
use super::watch::Watch;

impl Reconciler {
    /// A daemon that died in the middle of a response left an intent, and perhaps a private name beside the file. Both
    /// become a record; the file itself is compared by the first scan.
    pub(super) fn heal(&mut self) -> anyhow::Result<()> {
        for (id, intent) in self.store.intents_open()? {
            let mut event = intent.event;
            event.kind = EventKind::Interrupted;
            event.response = crate::core::event::Response::Pending;
            event.message = Some("fim died during its response; the file is compared again".into());
            let mut evidence = Vec::new();
            let watch = self.watches.iter().find(|w| w.path() == intent.watch).cloned();
            if let Some(watch) = watch {
                evidence = intent.path.parent().map(|at| self.recover(&watch, &at)).unwrap_or_default();
                // Read whole: what the response had built may not have reached the disk.
                let now = boottime_ns();
                let mut look = Look::new(watch.id, intent.path.clone(), now);
                look.deeds = Deeds::SCANNED;
                self.correlator.schedule(look, now);
            }
            self.journal.add(Entry { event, closes: Some(id), evidence, approved: Vec::new() });
        }
        self.journal.write(&mut self.store, &self.progress, true);
        Ok(())
    }

    fn recover(&self, watch: &Watch, folder: &RelPath) -> Vec<crate::store::EvidenceRow> {
        let Ok(dir) = watch.root.open_dir(folder) else { return Vec::new() };
        let Ok(names) = rustix::fs::Dir::read_from(&dir) else { return Vec::new() };
        let mut rows = Vec::new();
        for entry in names.flatten().filter(|entry| is_private_name(entry.file_name().to_bytes())) {
            match self.responder.recover(&watch.root, folder, entry.file_name().to_bytes()) {
                Ok(evidence) => {
                    let evidence = evidence.into_iter().map(|e| (Reason::Interrupted, e)).collect();
                    rows.extend(super::settle::evidence_rows(watch, evidence));
                }
                Err(error) => tracing::warn!("{error}"),
            }
        }
        rows
    }
}
