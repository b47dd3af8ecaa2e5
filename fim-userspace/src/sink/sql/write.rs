//! One transaction: some records of one ledger, with everything that belongs to them.

use std::collections::{BTreeMap, BTreeSet};

use super::compare::{Conflict, Hash, compare};
use super::fault::Fault;
use super::rows::{FOLLOWERS, Item, LedgerKey};
use super::session::Session;
use super::table::{CONFLICTS, HOSTS, LEDGERS};
use super::value::Value;

/// Shows that this host is there.
pub async fn greet(session: &mut Session, host_id: &str, name: &str) -> Result<(), Fault> {
    let version = env!("CARGO_PKG_VERSION");
    session.insert(&HOSTS, vec![vec![host_id.into(), name.into(), version.into()]]).await
}

/// Writes what is new of `items` (in order, not empty) and remembers what contradicts earlier deliveries.
pub async fn write(session: &mut Session, key: &LedgerKey, name: &str, items: &[Item]) -> Result<(), Fault> {
    session.script("BEGIN;\n").await?;
    // The row is locked from here on: nobody else writes this ledger, not even an earlier session of this host.
    session.insert(&LEDGERS, vec![key.values()]).await?;
    let links: Vec<_> = items.iter().map(|item| item.link.clone()).collect();
    let (Some(first), Some(last)) = (links.first(), links.last()) else { return Ok(()) };
    let known = known(session, key, first.seq.saturating_sub(1), last.seq).await?;
    let compared = compare(&links, &known);
    let new: BTreeSet<u64> = compared.new.into_iter().collect();
    for follower in &FOLLOWERS {
        let new = items.iter().filter(|item| new.contains(&item.link.seq));
        let rows = new.flat_map(|item| (follower.rows)(key, item)).collect();
        session.insert(follower.table, rows).await?;
    }
    remember(session, key, compared.conflicts).await?;
    if new.contains(&last.seq) {
        let sql = "UPDATE ledgers SET last_seq = ?, last_hash = ? WHERE host_id = ? AND generation = ?";
        let values = [vec![last.seq.into(), last.hash[..].into()], key.values()].concat();
        session.execute(sql, &values).await?;
    }
    greet(session, &key.host_id, name).await?;
    session.script("COMMIT;\n").await
}

pub async fn remember(session: &mut Session, key: &LedgerKey, conflicts: Vec<Conflict>) -> Result<(), Fault> {
    for conflict in &conflicts {
        tracing::error!(
            "the ledger of this host contradicts what was delivered to the central database before: record {} ({:?}); \
             see its table conflicts",
            conflict.seq,
            conflict.reason
        );
    }
    session.insert(&CONFLICTS, conflicts.into_iter().map(|conflict| conflict.row(key)).collect()).await
}

/// The last record of this ledger that is there.
pub async fn last(session: &mut Session, key: &LedgerKey) -> Result<Option<(u64, Hash)>, Fault> {
    let sql = "SELECT seq, hash FROM events WHERE host_id = ? AND generation = ? ORDER BY seq DESC LIMIT 1";
    let rows = session.query(sql, &key.values()).await?;
    Ok(rows.iter().find_map(|row| number_and_hash(row)))
}

async fn known(
    session: &mut Session,
    key: &LedgerKey,
    first: u64,
    last: u64,
) -> Result<BTreeMap<u64, Hash>, Fault> {
    let sql = "SELECT seq, hash FROM events WHERE host_id = ? AND generation = ? AND seq BETWEEN ? AND ?";
    let values = [key.values(), vec![first.into(), last.into()]].concat();
    Ok(session.query(sql, &values).await?.iter().filter_map(|row| number_and_hash(row)).collect())
}

fn number_and_hash(row: &[Value]) -> Option<(u64, Hash)> {
    let [seq, hash] = row else { return None };
    Some((u64::try_from(seq.int()?).ok()?, hash.bytes()?.try_into().ok()?))
}
