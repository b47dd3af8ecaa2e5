//! Which lines changed, in the central database: a sink of its own, since it follows the comparison, not the ledger.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use super::fault::Fault;
use super::rows::LedgerKey;
use super::session::Session;
use super::table::{COMPARISONS, DIFFERENCES, EVENT_COMPARISONS};
use super::value::{Row, Value};
use super::{Central, CentralError, Job};
use crate::config::{CENTRAL_LINES, CentralConfig, DIFFERENCES as COMPARISON};
use crate::core::event::Record;
use crate::core::path::escape;
use crate::sink::{Delivered, Sink, SinkError};
use crate::store::lines::{Compared, Difference, Since};
use crate::store::{Store, StoreError};

/// How long the comparison is waited for at once, and how often it is asked.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

pub struct CentralLines(Central);

impl CentralLines {
    /// As [`Central::new`]: begins with the first record.
    pub fn new(config: &CentralConfig, dir: &Path) -> Result<Self, CentralError> {
        Central::named(CENTRAL_LINES, config, dir).map(Self)
    }

    /// The last record whose lines are compared.
    async fn compared(&self) -> Result<u64, SinkError> {
        let cursor = |store: &mut Store| store.cursor_get(COMPARISON);
        match self.0.local(cursor).await {
            Ok(cursor) => Ok(cursor.unwrap_or_default()),
            Err(fault) => Err(SinkError::Failed { reason: fault.to_string(), retry_after: None }),
        }
    }
}

impl Sink for CentralLines {
    fn name(&self) -> &str {
        CENTRAL_LINES
    }

    fn keeps_records(&self) -> bool {
        true
    }

    async fn deliver(&mut self, records: &[Record]) -> Result<Delivered, SinkError> {
        let first = records.first().map_or(0, |record| record.seq);
        let begun = tokio::time::Instant::now();
        let mut through = self.compared().await?;
        while through < first {
            if begun.elapsed() > PATIENCE {
                return Err(SinkError::Idle(format!("the lines of record {first} are not compared yet")));
            }
            tokio::time::sleep(PAUSE).await;
            through = self.compared().await?;
        }
        let count = records.iter().take_while(|record| record.seq <= through).count();
        let last = records[..count].last().map_or(first, |record| record.seq);
        self.0.run(&Job::Lines { first, last }).await?;
        Ok(Delivered { count, parked: Vec::new() })
    }
}

/// What records tell of, with the differences of each comparison once.
pub struct Bundle {
    links: Vec<(u64, Since, i64)>,
    compared: Vec<(Compared, Vec<Difference>)>,
}

impl Bundle {
    /// Of the records `first` to `last`.
    pub fn read(store: &Store, first: u64, last: u64) -> Result<Self, StoreError> {
        let mut bundle = Self { links: Vec::new(), compared: Vec::new() };
        let mut seen = BTreeSet::new();
        for (seq, since, compared) in store.compared_by(first, last)? {
            bundle.links.push((seq, since, compared.id));
            if seen.insert(compared.id) {
                let differences = store.differences(compared.id)?;
                bundle.compared.push((compared, differences));
            }
        }
        Ok(bundle)
    }
}

/// Writes it, in one transaction. What is there already stays.
pub async fn write(session: &mut Session, key: &LedgerKey, bundle: &Bundle) -> Result<(), Fault> {
    if bundle.links.is_empty() {
        return Ok(());
    }
    session.script("BEGIN;\n").await?;
    let compared = bundle.compared.iter().map(|(compared, _)| comparison(key, compared)).collect();
    session.insert(&COMPARISONS, compared).await?;
    for (compared, differences) in &bundle.compared {
        let rows = differences.iter().map(|one| difference(key, compared.id, one)).collect();
        session.insert(&DIFFERENCES, rows).await?;
    }
    let link = |(seq, since, id): &(u64, Since, i64)| {
        [key.values(), vec![(*seq).into(), since.as_str().into(), Value::Int(*id)]].concat()
    };
    session.insert(&EVENT_COMPARISONS, bundle.links.iter().map(link).collect()).await?;
    session.script("COMMIT;\n").await
}

/// The last record of this ledger whose lines are there.
pub async fn last(session: &mut Session, key: &LedgerKey) -> Result<u64, Fault> {
    let sql = "SELECT MAX(seq) FROM event_comparisons WHERE host_id = ? AND generation = ?";
    let rows = session.query(sql, &key.values()).await?;
    let last = rows.first().and_then(|row| row.first()).and_then(Value::int);
    Ok(last.and_then(|seq| u64::try_from(seq).ok()).unwrap_or_default())
}

fn comparison(key: &LedgerKey, compared: &Compared) -> Row {
    let path = compared.pair.path.as_os_str().as_bytes();
    let digest = |digest: Option<crate::core::entry::Digest>| Value::from(digest.map(|d| d.to_string()));
    let mut row = key.values();
    row.extend([
        Value::Int(compared.id),
        escape(path).into(),
        path.into(),
        digest(compared.pair.before),
        digest(compared.pair.after),
        compared.outcome.as_str().into(),
        compared.old_encoding.as_ref().into(),
        compared.new_encoding.as_ref().into(),
    ]);
    row
}

fn difference(key: &LedgerKey, comparison: i64, difference: &Difference) -> Row {
    let Difference { operation, old, new, omitted } = difference;
    let mut row = key.values();
    row.extend([
        Value::Int(comparison),
        old.line.into(),
        old.lines.into(),
        new.line.into(),
        new.lines.into(),
        operation.into(),
        old.text.as_ref().into(),
        new.text.as_ref().into(),
        omitted.map(|omitted| omitted.as_str()).into(),
        old.digest.as_ref().into(),
        new.digest.as_ref().into(),
    ]);
    row
}
