//! Some records that are looked at together, column by column.

use rusqlite::Connection;

use super::plan::Bits;
use crate::store::span::{self, Column, SPAN, Span, unpack};

/// A full span, or records that are in none.
pub(super) struct Block {
    records: Records,
    /// Whether every record lies between the times that are asked for.
    pub in_time: bool,
    /// Places that may still be what is looked for, in rising order.
    places: Vec<u16>,
}

enum Records {
    Span(u64),
    Loose { first: u64, span: Span },
    Listed { seqs: Vec<u64>, span: Span },
}

/// A packed column.
pub(super) struct Packed {
    data: Vec<u8>,
    width: usize,
}

impl Block {
    /// Those of the span that come after the record `begin`.
    pub fn of_span(id: u64, begin: u64, in_time: bool) -> Self {
        let gone = (begin + 1).saturating_sub(span::first(id)).min(SPAN);
        Self { records: Records::Span(id), in_time, places: (gone as u16..SPAN as u16).collect() }
    }

    /// The records from `first` to `last`, no more than a span has.
    pub fn loose(db: &Connection, first: u64, last: u64) -> rusqlite::Result<Self> {
        let span = span::gather(db, first, first, last)?;
        let places = (0..=(last - first) as u16).collect();
        Ok(Self { records: Records::Loose { first, span }, in_time: false, places })
    }

    /// These records, in rising order, no more than a span has.
    pub fn listed(db: &Connection, seqs: &[u64]) -> rusqlite::Result<Self> {
        let mut span = Span::new(seqs.len());
        for (place, seq) in seqs.iter().enumerate() {
            let sql = format!("SELECT {} FROM ledger WHERE seq = ?1", span::STORED);
            let mut select = db.prepare_cached(&sql)?;
            let mut rows = select.query([seq.cast_signed()])?;
            if let Some(row) = rows.next()? {
                span.set(place, span::stored(row, 0)?);
            }
        }
        let records = Records::Listed { seqs: seqs.to_vec(), span };
        Ok(Self { records, in_time: false, places: (0..seqs.len() as u16).collect() })
    }

    pub fn seq(&self, place: u16) -> u64 {
        match &self.records {
            Records::Span(id) => span::first(*id) + u64::from(place),
            Records::Loose { first, .. } => first + u64::from(place),
            Records::Listed { seqs, .. } => seqs.get(usize::from(place)).copied().unwrap_or_default(),
        }
    }

    pub fn column(&self, db: &Connection, column: Column) -> rusqlite::Result<Packed> {
        let (data, count) = match &self.records {
            // A span that is missing is no reason to find nothing at all: `fim log verify` tells of it.
            Records::Span(id) => (span::read(db, *id, column)?.unwrap_or_default(), SPAN as usize),
            Records::Loose { span, .. } | Records::Listed { span, .. } => (span.column(column), span.len()),
        };
        let width = data.len() / count.max(1);
        Ok(Packed { data, width })
    }

    /// Keeps those that have one of `bits` in one of the columns; false when none is left.
    pub fn keep(&mut self, db: &Connection, columns: &[Column], bits: &Bits) -> rusqlite::Result<bool> {
        let before = std::mem::take(&mut self.places);
        for column in columns {
            let column = self.column(db, *column)?;
            if column.width > 0 {
                let mut places = before.clone();
                column.keep(&mut places, bits);
                self.places.append(&mut places);
            }
        }
        if columns.len() > 1 {
            self.places.sort_unstable();
            self.places.dedup();
        }
        Ok(!self.places.is_empty())
    }

    pub fn places(&self) -> &[u16] {
        &self.places
    }
}

fn keep<const W: usize>(places: &mut Vec<u16>, data: &[u8], bits: &Bits) {
    // All of them: reading from one end to the other is quicker.
    if places.len() * W == data.len() {
        places.clear();
        let all = data.chunks_exact(W).enumerate();
        places.extend(all.filter(|(_, n)| bits.has(unpack::<W>(n, 0))).map(|(place, _)| place as u16));
    } else {
        places.retain(|place| bits.has(unpack::<W>(data, usize::from(*place))));
    }
}

impl Packed {
    fn keep(&self, places: &mut Vec<u16>, bits: &Bits) {
        match self.width {
            0 => places.clear(),
            1 => keep::<1>(places, &self.data, bits),
            2 => keep::<2>(places, &self.data, bits),
            3 => keep::<3>(places, &self.data, bits),
            4 => keep::<4>(places, &self.data, bits),
            _ => places.retain(|place| bits.has(self.at(*place))),
        }
    }

    pub fn at(&self, place: u16) -> u64 {
        let place = usize::from(place);
        match self.width {
            0 => 0,
            1 => unpack::<1>(&self.data, place),
            2 => unpack::<2>(&self.data, place),
            3 => unpack::<3>(&self.data, place),
            4 => unpack::<4>(&self.data, place),
            5 => unpack::<5>(&self.data, place),
            6 => unpack::<6>(&self.data, place),
            7 => unpack::<7>(&self.data, place),
            _ => unpack::<8>(&self.data, place),
        }
    }
}
