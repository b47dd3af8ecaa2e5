//! The ledgers of many hosts in one PostgreSQL or MySQL/MariaDB database. `docs/central.md` describes the tables.
//!
//! Each record goes there once, whatever is repeated: the database is asked what it has, in the transaction that writes,
//! and what is missing before the offered records is brought from this host's ledger too. So a database that was set
//! back, or is new, fills itself.

mod compare;
mod fault;
mod lines;
mod mysql;
mod postgres;
mod rows;
mod schema;
mod server;
mod session;
mod table;
mod tls;
mod value;
mod write;

use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::timeout;

use self::compare::compare_end;
use self::fault::Fault;
use self::rows::{Item, LedgerKey};
use self::server::Server;
use self::session::Session;
use super::{Delivered, Sink, SinkError, open, with_store};
use crate::config::central::is_host_id;
use crate::config::{CENTRAL, CentralConfig};
use crate::core::event::Record;
use crate::core::path::escape;
use crate::store::{EvidenceCopy, Link, Store, StoreError};

pub use lines::CentralLines;
pub use server::ServerError;

const MACHINE_ID: &str = "/etc/machine-id";
/// How long the server may take over one transaction.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a host with nothing to say shows that it is there.
const PULSE: Duration = Duration::from_secs(300);
/// A transaction that the server undid because of another one is made again so often before that is told.
const ATTEMPTS: usize = 3;
/// Records whose lines go in one transaction.
const LINES_AT_ONCE: u64 = 16;

#[derive(Debug, thiserror::Error)]
pub enum CentralError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{MACHINE_ID} does not name this machine ({0}); write host_id = \"…\" into [central]")]
    NoHostId(String),
}

pub struct Central {
    server: Arc<Server>,
    store: Arc<Mutex<Store>>,
    host_id: String,
    batch: usize,
    open: Option<Open>,
}

/// A session that has been introduced.
struct Open {
    session: Session,
    key: LedgerKey,
    /// The last record that the database has of this ledger, 0 for none.
    last: u64,
    /// It has worked at least once, so a failure may only mean that the connection grew old.
    used: bool,
}

enum Job {
    /// The records `first` to `last`, and what is missing before them.
    Bring {
        first: u64,
        last: u64,
    },
    Greet,
    /// Which lines the records `first` to `last` changed, and what is missing of that before them.
    Lines {
        first: u64,
        last: u64,
    },
}

impl Central {
    /// Reads the secrets; does not wait for the server. A new cursor begins before the first record, so that the whole
    /// chain can be verified centrally.
    pub fn new(config: &CentralConfig, dir: &Path) -> Result<Self, CentralError> {
        Self::named(CENTRAL, config, dir)
    }

    /// For the sink of this name.
    fn named(name: &str, config: &CentralConfig, dir: &Path) -> Result<Self, CentralError> {
        let (server, host_id) = parts(config, PATIENCE)?;
        let mut store = open(dir)?;
        if store.cursor_get(name)?.is_none() {
            store.cursor_set(name, 0)?;
        }
        let (server, store) = (Arc::new(server), Arc::new(Mutex::new(store)));
        Ok(Self { server, store, host_id, batch: config.batch, open: None })
    }

    /// Another time limit for a transaction.
    pub fn with_patience(mut self, config: &CentralConfig, patience: Duration) -> Result<Self, CentralError> {
        self.server = Arc::new(parts(config, patience)?.0);
        Ok(self)
    }

    /// Does `job` with a session. A session that failed is dropped; one that had worked before is replaced at once.
    async fn run(&mut self, job: &Job) -> Result<(), SinkError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut used = false;
            let done = match self.session().await {
                Err(fault) => Err(fault),
                Ok(mut open) => {
                    let done = self.work(&mut open, job).await;
                    used = open.used;
                    // Before its first record a ledger cannot be named; by the next time it may have one.
                    if done.is_ok() && !open.key.generation.is_empty() {
                        self.open = Some(Open { used: true, ..open });
                    }
                    done
                }
            };
            match done {
                Ok(()) => return Ok(()),
                Err(Fault::Again(_)) if attempts < ATTEMPTS => {}
                Err(Fault::Lost(_)) if used => {}
                Err(fault) => {
                    return Err(SinkError::Failed { reason: fault.to_string(), retry_after: None });
                }
            }
        }
    }

    async fn session(&mut self) -> Result<Open, Fault> {
        match self.open.take() {
            Some(open) => Ok(open),
            None => self.within(self.begin()).await,
        }
    }

    async fn work(&self, open: &mut Open, job: &Job) -> Result<(), Fault> {
        match *job {
            Job::Bring { first, last } => self.bring(open, first, last).await,
            Job::Lines { first, last } => self.bring_lines(open, first, last).await,
            Job::Greet => {
                let Open { session, key, .. } = open;
                self.within(async {
                    self.check_end(session, key).await?;
                    write::greet(session, &key.host_id, &host_name()).await
                })
                .await
            }
        }
    }

    /// A server that stands still is a lost one.
    async fn within<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        match timeout(self.server.patience, work).await {
            Ok(done) => done,
            Err(_) => Err(Fault::Lost(self.server.silent())),
        }
    }

    async fn begin(&self) -> Result<Open, Fault> {
        let mut session = Session::open(&self.server).await?;
        schema::migrate(&mut session).await?;
        let generation = self.local(Store::ledger_generation).await?;
        // An empty ledger has nothing to deliver; only the host is made known then.
        let key = LedgerKey { host_id: self.host_id.clone(), generation: generation.unwrap_or_default() };
        let last = self.check_end(&mut session, &key).await?;
        Ok(Open { session, key, last, used: false })
    }

    /// Whether this host's ledger still has what it delivered last; the number of that record.
    async fn check_end(&self, session: &mut Session, key: &LedgerKey) -> Result<u64, Fault> {
        let Some((seq, hash)) = write::last(session, key).await? else { return Ok(0) };
        let now = self.local(move |store| store.ledger_links(seq - 1, seq, 1)).await?;
        let conflict = compare_end(seq, hash, now.first());
        write::remember(session, key, conflict.into_iter().collect()).await?;
        Ok(seq)
    }

    /// Brings the records after what is there, up to `through`.
    async fn bring(&self, open: &mut Open, from: u64, through: u64) -> Result<(), Fault> {
        let mut after = from.saturating_sub(1).min(open.last);
        while after < through {
            let items = self.items(after, through).await?;
            let Some(end) = items.last().map(|item| item.link.seq) else { break };
            let name = items[items.len() - 1].event.host.clone();
            self.within(write::write(&mut open.session, &open.key, &name, &items)).await?;
            after = end;
            open.last = open.last.max(end);
            open.used = true;
        }
        Ok(())
    }

    /// A session that is new asks what is there: the database may have been set back.
    async fn bring_lines(&self, open: &mut Open, first: u64, last: u64) -> Result<(), Fault> {
        let mut after = first.saturating_sub(1);
        if !open.used {
            after = after.min(self.within(lines::last(&mut open.session, &open.key)).await?);
        }
        while after < last {
            let next = self.local(move |store| store.compared_next(after)).await?;
            let Some(next) = next.filter(|next| *next <= last) else { break };
            after = next - 1;
            let end = last.min(after + LINES_AT_ONCE);
            let bundle = self.local(move |store| lines::Bundle::read(store, after + 1, end)).await?;
            self.within(lines::write(&mut open.session, &open.key, &bundle)).await?;
            (after, open.used) = (end, true);
        }
        Ok(())
    }

    async fn items(&self, after: u64, through: u64) -> Result<Vec<Item>, Fault> {
        let batch = self.batch;
        let (links, copies) = self
            .local(move |store| {
                let links = store.ledger_links(after, through, batch)?;
                let ends = links.first().zip(links.last()).map(|(first, last)| (first.seq, last.seq));
                let copies =
                    ends.map_or(Ok(Vec::new()), |(first, last)| store.evidence_copies(first, last))?;
                Ok((links, copies))
            })
            .await?;
        links.into_iter().map(|link| item(link, &copies)).collect()
    }

    async fn local<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Fault> {
        with_store(&self.store, work).await.map_err(Fault::Refused)
    }
}

impl Sink for Central {
    fn name(&self) -> &str {
        CENTRAL
    }

    fn keeps_records(&self) -> bool {
        true
    }

    async fn deliver(&mut self, records: &[Record]) -> Result<Delivered, SinkError> {
        let records = &records[..records.len().min(self.batch)];
        let (Some(first), Some(last)) = (records.first(), records.last()) else {
            return Ok(Delivered::all(records));
        };
        self.run(&Job::Bring { first: first.seq, last: last.seq }).await?;
        Ok(Delivered::all(records))
    }

    fn pulse_period(&self) -> Option<Duration> {
        Some(PULSE)
    }

    async fn pulse(&mut self) -> Result<(), SinkError> {
        self.run(&Job::Greet).await
    }
}

/// Reads every secret and certificate, as [`Central::new`] would, and leaves no trace.
pub fn check(config: &CentralConfig) -> Result<(), CentralError> {
    parts(config, PATIENCE).map(drop)
}

fn parts(config: &CentralConfig, patience: Duration) -> Result<(Server, String), CentralError> {
    let host_id = match &config.host_id {
        Some(id) => id.clone(),
        None => machine_id()?,
    };
    Ok((Server::new(config, patience)?, host_id))
}

fn machine_id() -> Result<String, CentralError> {
    let text = std::fs::read_to_string(MACHINE_ID).map_err(|e| CentralError::NoHostId(e.to_string()))?;
    let id = text.trim();
    match is_host_id(id) && id != "uninitialized" {
        true => Ok(id.to_owned()),
        false => Err(CentralError::NoHostId("it holds no id".into())),
    }
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    escape(std::os::unix::ffi::OsStrExt::as_bytes(name.as_os_str()))
}

fn item(link: Link, copies: &[EvidenceCopy]) -> Result<Item, Fault> {
    let event = serde_json::from_str(&link.body)
        .map_err(|e| Fault::Refused(format!("the ledger's record {} cannot be read: {e}", link.seq)))?;
    let copies = copies.iter().filter(|copy| copy.seq == link.seq).cloned().collect();
    Ok(Item { link, event, copies })
}
