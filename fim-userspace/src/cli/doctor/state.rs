//! fim itself: the daemon, the database, the vault, and how each sink fares.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::ask;
use super::super::status::{self, Report};
use super::Notes;
use crate::config::{Config, DEFAULT_SOCKET, DEFAULT_STATE_DIR};
use crate::core::path::display;
use crate::store::status::Status;
use crate::store::vault::{Limits, Vault};
use crate::store::{DATABASE, SinkState};

/// What the vault must be able to take at any time.
const ONE_FILE: u64 = 1 << 20;

#[derive(Default)]
pub struct State {
    pub daemon: Option<Daemon>,
    /// What the running daemon says of itself.
    pub live: Option<Status>,
    pub database: Option<Database>,
    pub vault: Option<VaultFinding>,
    pub sinks: Vec<Sink>,
}

#[derive(Serialize)]
pub struct Daemon {
    pub running: bool,
    pub pid: Option<u32>,
    /// RFC 3339.
    pub since: Option<String>,
    /// When the sensors last passed their self-test, RFC 3339.
    pub self_test_passed: Option<String>,
}

#[derive(Serialize)]
pub struct Database {
    pub usable: bool,
    /// RFC 3339.
    pub baseline_taken: Option<String>,
    pub baseline_by: Option<String>,
    pub records: u64,
    /// Responses without a recorded end.
    pub open_responses: usize,
}

#[derive(Serialize)]
pub struct VaultFinding {
    pub usable: bool,
    pub objects: usize,
    pub bytes: u64,
    /// Whether another file would be taken.
    pub full: bool,
}

#[derive(Serialize)]
pub struct Sink {
    pub name: String,
    /// RFC 3339; `None`: never.
    pub last_success: Option<String>,
    /// Records that it has not delivered yet; `None` before its first.
    pub behind: Option<u64>,
    /// Records that the receiver refused for good.
    pub refused: u64,
    /// Why the last attempt failed, or why there is nothing to deliver to.
    pub error: Option<String>,
}

/// What `fim status` says, here or through the daemon.
#[derive(Deserialize)]
struct Told {
    running: bool,
    problems: Vec<String>,
    daemon: Option<Status>,
    database: Option<ToldDatabase>,
}

#[derive(Deserialize)]
struct ToldDatabase {
    baseline_taken: Option<String>,
    baseline_by: Option<String>,
    ledger_head: u64,
    open_responses: usize,
    sinks: Vec<SinkState>,
}

pub fn look(config: Option<&Config>, notes: &mut Notes) -> State {
    let dir = config.map_or(Path::new(DEFAULT_STATE_DIR), |config| &config.state.dir);
    if let Err(error) = std::fs::read_dir(dir)
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        return of_the_daemon(config, dir, notes);
    }
    // Without a configuration there is nothing to hold them against.
    let Some(config) = config else { return State::default() };
    let mut state = match Report::gather(config) {
        Ok(report) => state(Some(config), report.into(), notes),
        Err(error) => {
            notes.problem(error.to_string());
            State { database: Some(Database::unusable()), ..State::default() }
        }
    };
    state.vault = Some(vault(config, notes));
    state
}

/// Who may not read the records may be one whom the daemon answers.
fn of_the_daemon(config: Option<&Config>, dir: &Path, notes: &mut Notes) -> State {
    let socket = config.map_or(Path::new(DEFAULT_SOCKET), |config| &config.control.socket);
    let told = ask::status(socket).and_then(|text| serde_json::from_str::<Told>(&text).ok());
    let dir = display(dir);
    match told {
        Some(told) => {
            notes
                .unseen(format!("{dir} is root's: the vault, and the database but for what the daemon says"));
            state(config, told, notes)
        }
        None => {
            notes.unseen(format!("{dir} is root's: daemon, database, vault and sinks"));
            State::default()
        }
    }
}

fn state(config: Option<&Config>, told: Told, notes: &mut Notes) -> State {
    let Told { running, problems, daemon: last, database } = told;
    problems.into_iter().for_each(|problem| notes.problem(problem));
    let live = last.as_ref().filter(|_| running).cloned();
    let daemon = Daemon {
        running,
        pid: live.as_ref().map(|status| status.pid),
        since: live.as_ref().map(|status| status.started.clone()),
        self_test_passed: last.and_then(|status| status.self_test_passed),
    };
    let known = database.as_ref().map(|database| database.sinks.as_slice()).unwrap_or_default();
    let names = match config {
        Some(config) => status::configured_sinks(config, known),
        None => known.iter().map(|sink| sink.name.clone()).collect(),
    };
    let head = database.as_ref().map_or(0, |database| database.ledger_head);
    let sinks = names.into_iter().map(|name| sink(name, known, head)).collect();
    let database = database.map(|database| Database {
        usable: true,
        baseline_taken: database.baseline_taken,
        baseline_by: database.baseline_by,
        records: database.ledger_head,
        open_responses: database.open_responses,
    });
    State { daemon: Some(daemon), live, sinks, database, vault: None }
}

fn sink(name: String, known: &[SinkState], head: u64) -> Sink {
    let state = known.iter().find(|state| state.name == name);
    Sink {
        last_success: state.and_then(|state| state.last_success.clone()),
        behind: state.map(|state| head.saturating_sub(state.cursor)),
        refused: state.map_or(0, |state| state.parked),
        error: state.and_then(|state| state.error.clone()),
        name,
    }
}

impl From<Report> for Told {
    fn from(report: Report) -> Self {
        let database = report.database.map(|database| ToldDatabase {
            baseline_taken: database.baseline_taken,
            baseline_by: database.baseline_by,
            ledger_head: database.ledger_head,
            open_responses: database.open_responses,
            sinks: database.sinks,
        });
        Self { running: report.running, problems: report.problems, daemon: report.daemon, database }
    }
}

impl Database {
    fn unusable() -> Self {
        Self { usable: false, baseline_taken: None, baseline_by: None, records: 0, open_responses: 0 }
    }
}

/// Whether it can be used; its objects are read by `fim vault verify`.
fn vault(config: &Config, notes: &mut Notes) -> VaultFinding {
    let mut found = VaultFinding { usable: false, objects: 0, bytes: 0, full: false };
    let place = config.state.dir.join("vault");
    if !place.exists() && !config.state.dir.join(DATABASE).exists() {
        // Nothing was begun yet, which is said already.
        return found;
    }
    let limits = Limits { max_size: config.vault.max_size, min_free: config.vault.min_free };
    let opened = Vault::open_existing(&place).map(|vault| vault.with_limits(limits));
    let listed = opened.and_then(|vault| Ok((vault.objects()?, vault.room_for(ONE_FILE))));
    match listed {
        Ok((objects, room)) => {
            found.usable = true;
            found.objects = objects.len();
            found.bytes = objects.iter().map(|object| object.size).sum();
            if let Err(full) = room {
                found.full = true;
                notes.problem(full.to_string());
            }
        }
        Err(error) => notes.problem(error.to_string()),
    }
    found
}
