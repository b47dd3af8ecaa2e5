//! From row to row: what the neighbours, the checkpoint, the seals and the spans say.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension};

use super::rows::{self, Checked};
use super::{Anchor, Fault, VerifyReport};
use crate::core::entry::Digest;
use crate::store::ledger::{Hash, Head};
use crate::store::retain::Checkpoint;
use crate::store::seal::{Beside, Expected, Sealed};
use crate::store::span::{self, Print, SPAN, Span, Stored};
use crate::store::unsigned;

/// Records between two words about the progress.
const PROGRESS: u64 = 65_536;

struct Walk<'a> {
    last: Head,
    /// The row before could not be read, so its hash is not known.
    blind: bool,
    sound: u64,
    fault: Option<Fault>,
    affected: u64,
    checked: u64,
    pruned: u64,
    /// Records before the checkpoint that are still referred to.
    kept: HashMap<u64, Hash>,
    seals: Expected,
    /// The last record that agreed with its seal.
    sealed: u64,
    /// The last checkpoint that a record told of.
    told: Option<String>,
    /// Those that were not met yet, and how many agreed.
    anchors: HashMap<u64, Vec<&'a Anchor>>,
    agreed: u64,
    last_time_us: i64,
    /// The span that is being read.
    filling: Option<(u64, Span)>,
    spans: Vec<(u64, Print)>,
}

pub(super) fn walk(
    db: &Connection,
    sealed: Sealed,
    seals: Expected,
    anchors: &[Anchor],
    mut progress: Option<&mut dyn FnMut(u64, u64)>,
) -> rusqlite::Result<VerifyReport> {
    let checkpoint = Checkpoint::read(db)?;
    let total = db.query_row("SELECT max(seq) FROM ledger", [], |r| r.get::<_, Option<i64>>(0))?;
    let total = unsigned(total.unwrap_or_default().max(0));
    let mut walk = Walk::new(&checkpoint, seals, anchors);
    rows::each(db, |row| {
        walk.step(row);
        if walk.checked.is_multiple_of(PROGRESS)
            && let Some(progress) = &mut progress
        {
            progress(walk.checked, total.saturating_sub(walk.pruned));
        }
    })?;
    let noted = "SELECT value FROM meta WHERE key = 'ledger_head'";
    let noted: Option<String> = db.prepare(noted)?.query_row([], |row| row.get(0)).optional()?;
    walk.end(&checkpoint, noted.as_deref());
    if walk.fault.is_none() {
        walk.fault = walk.check_spans(db)?;
    }
    Ok(VerifyReport {
        checked: walk.checked,
        sound: walk.sound,
        head: walk.last,
        fault: walk.fault,
        affected: walk.affected,
        pruned: walk.pruned,
        sealed,
        last_time_us: walk.last_time_us,
        anchors: walk.agreed,
        beside: Beside::Open,
    })
}

impl<'a> Walk<'a> {
    fn new(checkpoint: &Checkpoint, seals: Expected, anchors: &'a [Anchor]) -> Self {
        let mut by_seq: HashMap<u64, Vec<&Anchor>> = HashMap::new();
        anchors.iter().for_each(|anchor| by_seq.entry(anchor.seq).or_default().push(anchor));
        let begin = checkpoint.head;
        let mut walk = Self {
            last: begin,
            blind: false,
            sound: begin.seq,
            fault: None,
            affected: 0,
            checked: 0,
            pruned: begin.seq,
            kept: checkpoint.kept.iter().copied().collect(),
            seals,
            sealed: 0,
            told: None,
            anchors: by_seq,
            agreed: 0,
            last_time_us: 0,
            filling: None,
            spans: Vec::new(),
        };
        // What was sealed at the checkpoint proves it.
        if walk.seals.get(&begin.seq).is_some_and(|hash| *hash != begin.hash) || !checkpoint.intact {
            walk.found(Fault::Checkpoint, 0);
        }
        walk
    }

    fn found(&mut self, fault: Fault, affected: u64) {
        self.affected = self.affected.saturating_add(affected);
        if self.fault.is_none() {
            self.sound = match fault {
                Fault::Rewritten { after, .. } => after,
                _ => self.last.seq,
            };
            self.fault = Some(fault);
        }
    }

    fn step(&mut self, row: Option<Checked>) {
        self.checked += 1;
        let Some(row) = row else {
            self.found(Fault::Unreadable { after: self.last.seq }, 1);
            self.last.seq += 1;
            self.blind = true;
            return;
        };
        let seq = unsigned(row.seq);
        if row.seq < 1 {
            return self.found(Fault::Altered { seq }, 1);
        }
        if seq <= self.pruned {
            return self.leftover(seq, &row);
        }
        // An unreadable row before may stand for none that belongs here.
        if self.blind && seq == self.last.seq {
            self.last.seq -= 1;
        }
        let expected = self.last.seq + 1;
        if seq != expected {
            self.found(Fault::Missing { seq: expected, next: seq }, seq.saturating_sub(expected));
        } else if !row.linked || (!self.blind && row.prev != self.last.hash) {
            self.found(Fault::Altered { seq }, 1);
        } else if !row.columns {
            self.found(Fault::Columns { seq }, 1);
        } else if self.seals.get(&seq).is_some_and(|hash| *hash != row.hash) {
            self.found(
                Fault::Rewritten { after: self.sealed.max(self.pruned), seq },
                seq - self.sealed.max(self.pruned),
            );
        }
        if self.seals.get(&seq) == Some(&row.hash) {
            self.sealed = seq;
        }
        self.meet_anchors(seq, &row.hash);
        self.last_time_us = row.stored.time_us;
        self.blind = false;
        self.last = Head { seq, hash: row.hash };
        if row.checkpoint.is_some() {
            self.told = row.checkpoint;
        }
        self.fill_span(seq, row.stored);
    }

    fn meet_anchors(&mut self, seq: u64, hash: &Hash) {
        for anchor in self.anchors.remove(&seq).unwrap_or_default() {
            match anchor.names(hash) {
                true => self.agreed += 1,
                false => self.found(Fault::Anchor { seq }, 0),
            }
        }
    }

    fn fill_span(&mut self, seq: u64, record: Stored) {
        let id = span::of(seq);
        if self.filling.as_ref().is_none_or(|(filled, _)| *filled != id) {
            self.filling = Some((id, Span::new(SPAN as usize)));
        }
        let Some((_, span)) = &mut self.filling else { return };
        span.set((seq - span::first(id)) as usize, record);
        if seq == span::first(id) + SPAN - 1 {
            self.spans.push((id, span.print()));
        }
    }

    /// A record before the checkpoint: one that is kept, or one that waits to be removed.
    fn leftover(&mut self, seq: u64, row: &Checked) {
        let expected = self.kept.remove(&seq);
        self.meet_anchors(seq, &row.hash);
        if !row.linked || expected.is_some_and(|hash| hash != row.hash) {
            self.found(Fault::Altered { seq }, 1);
        } else if !row.columns {
            self.found(Fault::Columns { seq }, 1);
        }
    }

    fn end(&mut self, checkpoint: &Checkpoint, noted: Option<&str>) {
        let sealed = self.seals.last_key_value().map_or(0, |(seq, _)| *seq);
        if sealed > self.last.seq {
            self.found(Fault::Truncated { last: self.last.seq, noted: sealed }, sealed - self.last.seq);
        }
        match check_end(self.last, noted) {
            Some(fault @ Fault::Truncated { last, noted }) => self.found(fault, noted - last),
            Some(fault) => self.found(fault, 0),
            None => {}
        }
        if let Some(seq) = self.kept.keys().min().copied() {
            let missing = self.kept.len() as u64;
            self.found(Fault::Missing { seq, next: seq + 1 }, missing);
        }
        if let Some(seq) = self.anchors.keys().filter(|seq| **seq > self.pruned).min().copied() {
            self.found(Fault::Anchor { seq }, 0);
        }
        let link = checkpoint.link.map(|link| Digest(link).to_string());
        if link != self.told {
            self.found(Fault::Checkpoint, 0);
        }
        if self.fault.is_none() {
            self.sound = self.last.seq;
        }
    }

    /// Every span that is full has its rows, and no other has any.
    fn check_spans(&self, db: &Connection) -> rusqlite::Result<Option<Fault>> {
        let (first, end) = (span::full(self.pruned), span::full(self.last.seq));
        let full = self.spans.iter().filter(|(id, _)| (first..end).contains(id));
        for (id, expected) in full {
            if Print::read(db, *id).ok().flatten().as_ref() != Some(expected) {
                return Ok(Some(Fault::Spans { id: *id }));
            }
        }
        let stray = span::stray(db, first, end)?;
        Ok(stray.map(|id| Fault::Spans { id }))
    }
}

fn check_end(last: Head, noted: Option<&str>) -> Option<Fault> {
    let Some(text) = noted else {
        return (last.seq != 0).then_some(Fault::HeadAltered);
    };
    let parsed =
        text.split_once(' ').and_then(|(seq, hex)| Some((seq.parse::<u64>().ok()?, Digest::from_hex(hex)?)));
    match parsed {
        Some((seq, hash)) if seq == last.seq && hash.0 == last.hash => None,
        Some((seq, _)) if seq > last.seq => Some(Fault::Truncated { last: last.seq, noted: seq }),
        _ => Some(Fault::HeadAltered),
    }
}
