//! Which lines changed: reads the ledger beside the other sinks, compares the versions that records tell of, and fills
//! `difference`. No response ever waits for it; what it does may be repeated, and is there once.

mod key;
mod pairs;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Delivered, Sink, SinkError, open, with_store};
use crate::config::DIFFERENCES;
use crate::core::entry::Digest;
use crate::core::event::Record;
use crate::core::linediff::{self, Comparison, Lines, MOST_BYTES, Version};
use crate::core::policy::Secrets;
use crate::store::lines::{Difference, Finished, Omitted, Outcome, Pair, Side, Since};
use crate::store::vault::{Vault, VaultError};
use crate::store::{Store, StoreError};

use key::LineKey;
use pairs::{Wanted, pairs};

pub use key::KeyError;

/// Bytes of text that are kept of one comparison.
const MOST_TEXT: usize = 256 * 1024;
/// Bytes and references written at once: a response that comes meanwhile may wait for this much.
const PORTION_BYTES: usize = 64 * 1024;
const PORTION: usize = 128;
/// Bytes of a difference without its text.
const ROW: usize = 200;
/// How long one delivery goes on before the cursor is moved.
const TURN: Duration = Duration::from_millis(200);

pub struct Differences {
    store: Arc<Mutex<Store>>,
    reader: Arc<Reader>,
}

/// What a comparison needs besides the database.
struct Reader {
    vault: PathBuf,
    secrets: Secrets,
    key: LineKey,
}

impl Differences {
    /// Makes the key for secret lines where there is none.
    pub fn new(dir: &Path, secrets: &Secrets) -> Result<Self, super::StartError> {
        let key = LineKey::open(dir)?;
        let reader = Reader { vault: dir.join("vault"), secrets: secrets.clone(), key };
        Ok(Self { store: Arc::new(Mutex::new(open(dir)?)), reader: Arc::new(reader) })
    }
}

impl Sink for Differences {
    fn name(&self) -> &str {
        DIFFERENCES
    }

    fn keeps_records(&self) -> bool {
        true
    }

    async fn deliver(&mut self, records: &[Record]) -> Result<Delivered, SinkError> {
        let failed = |reason: String| SinkError::Failed { reason, retry_after: None };
        let (reader, records) = (self.reader.clone(), records.to_vec());
        let work = move |store: &mut Store| Ok(reader.read(store, &records));
        match with_store(&self.store, work).await.map_err(failed)? {
            Ok(count) => Ok(Delivered { count, parked: Vec::new() }),
            Err(reason) => Err(failed(reason)),
        }
    }
}

/// What is compared and not written yet: many small ones are written at once.
#[derive(Default)]
struct Gathered {
    finished: Vec<Finished>,
    links: Vec<(u64, Since, Pair)>,
    weight: usize,
}

impl Gathered {
    fn write(&mut self, store: &mut Store) -> Result<(), StoreError> {
        if !self.links.is_empty() {
            store.compare_finish(&self.finished, &self.links)?;
        }
        *self = Self::default();
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.weight >= PORTION_BYTES || self.links.len() >= PORTION
    }

    fn knows(&self, pair: &Pair) -> bool {
        self.finished.iter().any(|finished| finished.pair == *pair)
    }
}

impl Reader {
    /// Compares what `records` tell of, for a while; returns how many are done with.
    fn read(&self, store: &mut Store, records: &[Record]) -> Result<usize, String> {
        let begun = Instant::now();
        let (mut vault, mut gathered) = (None, Gathered::default());
        let mut done = 0;
        for record in records {
            if done > 0 && begun.elapsed() > TURN {
                break;
            }
            for wanted in pairs(&record.event) {
                // A new one each time: the folder may have been replaced.
                if vault.is_none() {
                    vault = Some(Vault::open_existing(&self.vault).map_err(|e| e.to_string())?);
                }
                let Some(vault) = &vault else { continue };
                self.compare(store, vault, &wanted, &mut gathered).map_err(|e| e.to_string())?;
                gathered.links.push((record.seq, wanted.since, wanted.pair));
            }
            if gathered.is_full() {
                gathered.write(store).map_err(|e| e.to_string())?;
            }
            done += 1;
        }
        gathered.write(store).map_err(|e| e.to_string())?;
        Ok(done)
    }

    /// Compares a pair, unless that was done before.
    fn compare(
        &self,
        store: &mut Store,
        vault: &Vault,
        wanted: &Wanted,
        gathered: &mut Gathered,
    ) -> Result<(), StoreError> {
        let pair = &wanted.pair;
        if gathered.knows(pair) || store.compared(pair)?.is_some_and(|known| known.outcome.is_final()) {
            return Ok(());
        }
        let none =
            |outcome| Finished { pair: pair.clone(), outcome, encodings: None, differences: Vec::new() };
        let compared = self.contents(vault, wanted).map(|(old, new)| linediff::compare(old, new));
        let mut finished = match compared {
            Err(outcome) => none(outcome),
            Ok(Comparison::Binary) => none(Outcome::Binary),
            Ok(Comparison::TooLarge) => none(Outcome::TooLarge),
            Ok(Comparison::Lines(lines)) => {
                let secret = wanted.paths.iter().any(|path| self.secrets.cover(path));
                let encodings = Some((lines.old.encoding(), lines.new.encoding()));
                let differences = differences(&lines, secret.then_some((&self.key, pair)));
                Finished { encodings, differences, ..none(Outcome::Lines) }
            }
        };
        let weight: usize = finished.differences.iter().map(weight).sum();
        if weight > PORTION_BYTES {
            let id = store.compare_begin(pair)?;
            for portion in portions(&finished.differences) {
                store.compare_add(id, portion)?;
            }
            finished.differences.clear();
        } else {
            gathered.weight += weight;
        }
        gathered.finished.push(finished);
        Ok(())
    }

    /// Both versions, out of the vault.
    fn contents(&self, vault: &Vault, wanted: &Wanted) -> Result<(Vec<u8>, Vec<u8>), Outcome> {
        if wanted.largest > MOST_BYTES {
            return Err(Outcome::TooLarge);
        }
        let one = |digest: Option<Digest>| digest.map_or(Ok(Vec::new()), |digest| content(vault, &digest));
        Ok((one(wanted.pair.before)?, one(wanted.pair.after)?))
    }
}

/// Content of the vault that is not longer than what is compared.
fn content(vault: &Vault, digest: &Digest) -> Result<Vec<u8>, Outcome> {
    let mut out = Bounded(Vec::new());
    match vault.copy_to(digest, &mut out) {
        Ok(_) => Ok(out.0),
        Err(VaultError::Target(_)) => Err(Outcome::TooLarge),
        Err(error) => {
            tracing::debug!("lines cannot be compared: {error}");
            Err(Outcome::NotKept)
        }
    }
}

struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.0.len() + bytes.len()) as u64 > MOST_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The rows of a comparison. Of secret ones the text is replaced by a keyed digest.
fn differences(lines: &Lines, secret: Option<(&LineKey, &Pair)>) -> Vec<Difference> {
    let mut kept = 0;
    let row = |row: &linediff::Row| {
        let mut side = |version: &Version, range: &Range<usize>| {
            let text = (!range.is_empty()).then(|| version.lines(range));
            kept += text.as_ref().map_or(0, String::len);
            let line = if range.is_empty() { range.start } else { range.start + 1 } as u64;
            Side { line, lines: range.len() as u64, text, digest: None }
        };
        let (mut old, mut new) = (side(&lines.old, &row.old), side(&lines.new, &row.new));
        let omitted = match secret {
            Some(_) => Some(Omitted::Secret),
            None => (kept > MOST_TEXT).then_some(Omitted::Long),
        };
        if let Some((key, pair)) = secret {
            old.digest = old.text.as_ref().map(|text| key.digest(&pair.path, text));
            new.digest = new.text.as_ref().map(|text| key.digest(&pair.path, text));
        }
        if omitted.is_some() {
            (old.text, new.text) = (None, None);
        }
        Difference { operation: row.kind.as_str().into(), old, new, omitted }
    };
    lines.rows.iter().map(row).collect()
}

/// About the bytes that it takes in the database.
fn weight(difference: &Difference) -> usize {
    let text = |side: &Side| side.text.as_ref().map_or(0, String::len);
    ROW + text(&difference.old) + text(&difference.new)
}

fn portions(mut rest: &[Difference]) -> Vec<&[Difference]> {
    let mut out = Vec::new();
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |difference: &&Difference| {
            bytes += weight(difference);
            bytes <= PORTION_BYTES
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let (portion, others) = rest.split_at(count);
        out.push(portion);
        rest = others;
    }
    out
}
