//! Start order and drain: lock, database, sensors, marks, then `ready`; the same way back at the end.

use std::collections::HashSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, bounded};
use nix::sys::signal::SigSet;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::oneshot;

use crate::config::Config;
use crate::core::event::Record;
use crate::core::observation::Signal;
use crate::metrics::Metrics;
use crate::metrics::serve::Port;
use crate::sink::Bell;
use crate::sink::alert::Report;
use crate::store::vault::Vault;
use crate::store::{Lock, Store};

use super::clock::boottime_ns;
use super::control::{Control, Job, WAITING};
use super::journal::Announce;
use super::keeper::Keeper;
use super::maintenance::Maintenance;
use super::newcomer::{require_baseline, require_mounts};
use super::notice::{Notice, Tell};
use super::recent::Recent;
use super::reload::Next;
use super::session::{Carried, End, Prepared, Session, Told};
use super::take::open_vault;
use super::watchdog::Watchdog;

/// How the daemon is started.
pub struct Start {
    /// Nothing is carried out, whatever any configuration says.
    pub dry_run: bool,
    /// Within this time systemd wants an answer, again and again.
    pub watchdog: Option<Duration>,
    pub tell: Tell,
    pub metrics: Arc<Metrics>,
}

/// What outlives every session.
pub(super) struct House {
    /// In force.
    pub config: Config,
    pub dry_run: bool,
    pub tell: Tell,
    pub vault: Arc<Vault>,
    pub jobs: Receiver<Job>,
    pub metrics: Arc<Metrics>,
    /// Where Prometheus reads, if anywhere.
    pub port: Option<Port>,
    pub runtime: Runtime,
    /// See [`Carried::distrust_from_ns`]; until everything was compared once.
    pub distrust_from_ns: Option<i64>,
    /// Why the last configuration was refused.
    pub refused: Option<String>,
}

/// Runs until SIGINT or SIGTERM; SIGHUP has log files reopened and the configuration read again. `announce` sees each record
/// once it is in the ledger.
pub fn run(config: &Config, start: Start, announce: Announce) -> anyhow::Result<ExitCode> {
    super::require_privilege("watch and restore files")?;
    // Whoever started fim may have blocked the signals that end it.
    SigSet::all().thread_unblock().context("the signals that end fim cannot be unblocked")?;
    super::descriptors::raise_descriptors();
    super::secrecy::forbid_dumps();
    let config = as_started(config.clone(), start.dry_run);
    let _lock = Lock::acquire(&config.state.dir)?;
    let mut store = Store::open(&config.state.dir)?;
    let distrust_from_ns = not_surely_on_disk(&mut store, &super::maintenance::boot_id()?)?;
    let vault = Arc::new(open_vault(&config)?);
    let prepared = Prepared::new(&config)?;
    require_baseline(&store, &prepared.watches)?;
    require_mounts(&store, &prepared.watches)?;
    let maintenance = Maintenance::load(&store)?;
    let keeper = Keeper::open(&store, config.ledger)?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("the threads for sinks cannot be started; raise the limits on processes and memory")?;
    // From here on: before, SIGHUP would end the daemon.
    let mut signals = Signals::new(&runtime)?;
    let _watchdog = Watchdog::start(start.watchdog, &start.tell)?;
    let bell = Bell::default();
    let mut sinks = crate::sink::start(runtime.handle(), &config, &report(&prepared.out), &bell)?;
    let announce: Announce = {
        let mut print = announce;
        let metrics = start.metrics.clone();
        Box::new(move |records: &[Record]| {
            metrics.recorded(records, boottime_ns());
            print(records);
            bell.ring();
        })
    };
    let sensors = prepared.sensors();
    let (control, jobs) = listen(&config.state.dir, &start.metrics);
    let carried = Carried {
        store,
        keeper,
        maintenance,
        vault: vault.clone(),
        journal: Told::New(announce),
        recent: Recent::default(),
        owed: HashSet::new(),
        since_ns: 0,
        started: None,
        reloaded: None,
        held: Vec::new(),
        distrust_from_ns,
    };
    let ready = {
        let tell = start.tell.clone();
        Box::new(move || tell(Notice::Ready))
    };
    let mut session = Session::begin(prepared, sensors, carried, jobs.clone(), ready, &start.metrics)?;
    // The kernel's types, of which next to nothing is needed any more.
    crate::sys::memory::give_back();
    let Start { dry_run, tell, metrics, .. } = start;
    // A host that is not measured is watched all the same.
    let port = open_port(&runtime, &config, &metrics).unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        None
    });
    let mut house =
        House { config, dry_run, tell, vault, jobs, metrics, port, runtime, distrust_from_ns, refused: None };
    while house.runtime.block_on(signals.next(&mut session.gone)) == Wake::Hangup {
        sinks.reopen().ring();
        let next = house.reload(&mut signals, session, sinks)?;
        let goes_on = matches!(next, Next::GoOn(..));
        let (Next::GoOn(same, theirs) | Next::End(same, theirs)) = next;
        (session, sinks) = (same, theirs);
        if !goes_on {
            break;
        }
    }
    (house.tell)(Notice::Stopping);
    drop(control);
    let ended = session.end(End::Stop);
    sinks.drain(&house.runtime);
    ended.map(|_| ExitCode::SUCCESS)
}

/// The configuration as `fim run` was told to take it.
pub(super) fn as_started(mut config: Config, dry_run: bool) -> Config {
    if dry_run {
        config.watches.iter_mut().for_each(|watch| watch.policy.dry_run_everything());
    }
    config
}

/// How sinks have trouble of theirs recorded.
pub(super) fn report(out: &Sender<Signal>) -> Report {
    let out = out.clone();
    // A full channel is tried again with the next refusal.
    Arc::new(move |sentence| out.try_send(Signal::Trouble(sentence)).is_ok())
}

/// After a restart of the machine, which may have been a power cut: from when on a file's identity says nothing about its
/// content, nanoseconds since the epoch. The kernel writes back within a minute; the last record is from before the end.
///
/// It holds until everything was compared once after that restart ([`all_is_compared`]), also for a daemon that is started
/// after another one did not come that far.
fn not_surely_on_disk(store: &mut Store, boot: &str) -> anyhow::Result<Option<i64>> {
    const HOUR_NS: i64 = 3_600_000_000_000;
    let Some(before) = store.meta_get(COMPARED)? else {
        store.meta_set(COMPARED, boot)?;
        return Ok(None);
    };
    if before == boot {
        return Ok(None);
    }
    let noted = store.meta_get(UNSURE)?;
    let noted = noted.as_deref().and_then(|note| note.split_once(' '));
    if let Some(from) = noted.filter(|(of, _)| *of == boot).and_then(|(_, from)| from.parse().ok()) {
        return Ok(Some(from));
    }
    let last = store.last_record_time()?.and_then(|time| time.parse::<jiff::Timestamp>().ok());
    let last_ns = last.map_or(0, |t| i64::try_from(t.as_nanosecond()).unwrap_or(i64::MAX));
    let from = last_ns.saturating_sub(HOUR_NS);
    store.meta_set(UNSURE, &format!("{boot} {from}"))?;
    Ok(Some(from))
}

/// The note of the machine's start after which everything was compared once.
const COMPARED: &str = "boot_id";
/// The note of the machine's start after which not everything was, and from when on identities say nothing.
const UNSURE: &str = "unsure";

/// From here on identities can be relied on until the machine is started again.
pub(super) fn all_is_compared(store: &mut Store) {
    let noted = super::maintenance::boot_id()
        .and_then(|boot| store.meta_set(COMPARED, &boot).map_err(anyhow::Error::from));
    if let Err(error) = noted {
        tracing::warn!("the next start reads more files than it needs to: {error:#}");
    }
}

/// Opens the port that `[metrics]` names.
pub(super) fn open_port(
    runtime: &Runtime,
    config: &Config,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Option<Port>> {
    let Some(address) = config.metrics.listen else { return Ok(None) };
    let port = Port::open(runtime.handle(), address, metrics.clone()).with_context(|| {
        format!(
            "the metrics cannot be offered at {address}; choose another [metrics] listen, or end who has it"
        )
    })?;
    Ok(Some(port))
}

/// Opens the control socket. Without it the daemon does its work all the same; commands then say what is wrong.
fn listen(dir: &std::path::Path, metrics: &Arc<Metrics>) -> (Option<Control>, Receiver<Job>) {
    let (out, jobs) = bounded(WAITING);
    let control = Control::start(dir, out, metrics.clone())
        .inspect_err(|e| {
            tracing::error!(
                "the control socket in {} cannot be opened ({e}); accept, restore and quarantine work only while fim is stopped",
                crate::core::path::display(dir)
            );
        })
        .ok();
    (control, jobs)
}

/// What ends the main thread's wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// Somebody wants fim to end, or the reconciler has.
    End,
    Hangup,
}

pub(super) struct Signals {
    terminate: Stream,
    interrupt: Stream,
    hangup: Stream,
}

impl Signals {
    fn new(runtime: &Runtime) -> anyhow::Result<Self> {
        let _inside = runtime.enter();
        let one = |kind| signal(kind).context("the signals that steer fim cannot be waited for");
        Ok(Self {
            terminate: one(SignalKind::terminate())?,
            interrupt: one(SignalKind::interrupt())?,
            hangup: one(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self, gone: &mut oneshot::Receiver<()>) -> Wake {
        tokio::select! {
            _ = self.terminate.recv() => Wake::End,
            _ = self.interrupt.recv() => Wake::End,
            _ = gone => Wake::End,
            _ = self.hangup.recv() => Wake::Hangup,
        }
    }

    /// Somebody wants fim to end.
    pub async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::{Event, EventKind};

    #[test]
    fn after_a_restart_of_the_machine_all_stays_unsure_until_it_was_compared_once() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut store = Store::open(dir.path()).expect("a store");
        let record = |store: &mut Store, ns: i64| {
            let event = Event::about_fim(EventKind::Started, "h", "scan", ns, String::new());
            store.append(&[event], &[]).expect("recorded");
        };
        assert_eq!(not_surely_on_disk(&mut store, "first").expect("read"), None);
        record(&mut store, 7_200_000_000_000);
        let from = not_surely_on_disk(&mut store, "second").expect("read");
        assert_eq!(from, Some(3_600_000_000_000));
        // Ended before everything was compared.
        record(&mut store, 99_200_000_000_000);
        assert_eq!(not_surely_on_disk(&mut store, "second").expect("read"), from);
        all_is_compared(&mut store);
        let now = super::super::maintenance::boot_id().expect("read");
        assert_eq!(not_surely_on_disk(&mut store, &now).expect("read"), None);
    }
}
