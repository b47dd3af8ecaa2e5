//! The daemon's work under one configuration: sensors, scans and the reconciler. A reload ends one session and begins the
//! next, whose sensors watch already.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;

use crate::config::Config;
use crate::core::correlate::Correlator;
use crate::core::event::rfc3339;
use crate::core::mask::Masks;
use crate::core::observation::{Signal, WatchId};
use crate::core::repetition::Repetition;
use crate::core::tier::Tier;
use crate::metrics::{self, Metrics};
use crate::pulse;
use crate::respond::Responder;
use crate::store::Store;
use crate::store::vault::Vault;

use super::canary::Canary;
use super::clock::{boottime_ns, realtime_ns};
use super::conclude::Begun;
use super::control::Job;
use super::copier::Copier;
use super::copies::LeftAlone;
use super::journal::{Announce, Journal};
use super::keeper::Keeper;
use super::limits::Retention;
use super::maintenance::Maintenance;
use super::portrait::Portrait;
use super::progress::Progress;
use super::recent::Recent;
use super::reconcile::{CHANNEL, Reconciler};
use super::record::Stamp;
use super::report::Reporter;
use super::rolling::Rolling;
use super::scanner::{Context as ScanContext, Scanner};
use super::sensors::Sensors;
use super::shortage::Standing;
use super::sight::Sight;
use super::trust::Trust;
use super::vouch::Voucher;
use super::watch::Watch;

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Stop,
    /// Another one goes on.
    Reload,
}

/// What a configuration became, before anything depends on it.
pub(super) struct Prepared {
    pub config: Config,
    pub watches: Vec<Arc<Watch>>,
    pub trust: Trust,
    pub out: Sender<Signal>,
    pub inbox: Receiver<Signal>,
}

impl Prepared {
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let watches = Watch::open_all(config)?;
        let trust = Trust::new(config, &watches)?;
        let (out, inbox) = bounded::<Signal>(CHANNEL);
        Ok(Self { config: config.clone(), watches, trust, out, inbox })
    }

    pub fn sensors(&self) -> Arc<Sensors> {
        Arc::new(Sensors::start(self.config.sensor.tier, &self.watches, &self.out))
    }
}

/// What goes on from one session to the next.
pub(super) struct Carried {
    pub store: Store,
    pub keeper: Keeper,
    pub maintenance: Maintenance,
    pub vault: Arc<Vault>,
    pub journal: Told,
    pub recent: Recent,
    /// Watches whose gap has not been closed.
    pub owed: HashSet<PathBuf>,
    /// Changes before then were taken in by the session before; nanoseconds since boot.
    pub since_ns: u64,
    /// When the daemon was started, RFC 3339; `None`: now.
    pub started: Option<String>,
    /// What the reload brought, if it is one.
    pub reloaded: Option<String>,
    /// What the new sensors said before this session began.
    pub held: Vec<Signal>,
    /// See [`ScanContext::distrust_from_ns`].
    pub distrust_from_ns: Option<i64>,
}

/// The way into the ledger.
pub(super) enum Told {
    New(Announce),
    Before(Box<Journal>),
}

pub(super) struct Session {
    pub watches: Vec<Arc<Watch>>,
    pub progress: Arc<Progress>,
    rolling: Rolling,
    pub out: Sender<Signal>,
    stop: Sender<End>,
    thread: JoinHandle<Reconciler>,
    metrics: Arc<Metrics>,
    /// Becomes ready when the reconciler is gone, whatever the reason.
    pub gone: oneshot::Receiver<()>,
}

impl Session {
    /// Begins to scan and to reconcile. `ready` is called once every watch is marked and compared.
    pub fn begin(
        prepared: Prepared,
        sensors: Arc<Sensors>,
        carried: Carried,
        jobs: Receiver<Job>,
        ready: Box<dyn FnMut() + Send>,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let Prepared { config, watches, trust, out, inbox } = prepared;
        let Carried {
            store,
            keeper,
            maintenance,
            vault,
            journal,
            recent,
            owed,
            since_ns,
            started,
            reloaded,
            held,
            distrust_from_ns,
        } = carried;
        let threads = "cannot be started; raise the limits on processes and memory";
        let mut scanner = Scanner::start(ScanContext {
            watches: watches.clone(),
            state_dir: config.state.dir.clone(),
            marks: sensors.marks(),
            out: out.clone(),
            distrust_from_ns,
        })
        .with_context(|| format!("the scanning thread {threads}"))?;
        for watch in &watches {
            if owed.contains(watch.path()) { scanner.rescan(watch.id) } else { scanner.first(watch.id) }
        }
        let period = config.sensor.scan_period;
        let rolling = Rolling::start(watches.clone(), config.state.dir.clone(), period, out.clone())
            .with_context(|| format!("the rolling scan {threads}"))?;
        let parts = Parts {
            jobs,
            store,
            keeper,
            trust,
            maintenance,
            vault,
            retention: Retention { max_age: config.vault.max_age, max_size: config.vault.max_size },
            watches: watches.clone(),
            masks: config.sensor.masks.clone(),
            self_test: config.sensor.self_test,
            sensors,
            scanner,
            journal,
            ready,
        };
        let mut reconciler = assemble(parts, inbox);
        (reconciler.recent, reconciler.since_ns, reconciler.reloaded) = (recent, since_ns, reloaded);
        reconciler.held = held;
        if let Some(started) = started {
            reconciler.reporter.started = started;
        }
        let progress = reconciler.progress.clone();
        let source = source(&config, reconciler.reporter.clone());
        let (stop, stopped) = bounded::<End>(1);
        let (thread, gone) = spawn(reconciler, stopped)?;
        metrics.attach(source);
        Ok(Self { watches, progress, rolling, out, stop, thread, metrics: metrics.clone(), gone })
    }

    /// Ends it once all that the kernel had reported by now is dealt with.
    pub fn end(mut self, end: End) -> anyhow::Result<Reconciler> {
        // The sensors end with the last who holds them.
        self.metrics.detach();
        self.rolling.stop();
        drop(self.out);
        let _ = self.stop.send(end);
        let failed =
            |_| anyhow::anyhow!("the reconciler failed; its records are safe, restart fim and report this");
        self.thread.join().map_err(failed)
    }
}

/// What the metrics ask of this session.
fn source(config: &Config, reporter: Reporter) -> metrics::Source {
    let (alerts, logs, central) = (config.alerts.clone(), config.logs.clone(), config.central.is_some());
    Box::new(move || {
        let mut facts = reporter.facts();
        let sinks = std::mem::take(&mut facts.status.sinks);
        facts.sinks = metrics::sink_labels(sinks, &alerts, &logs, central);
        facts
    })
}

/// Starts the reconciler's thread, which gives it back at its end.
fn spawn(
    mut reconciler: Reconciler,
    stopped: Receiver<End>,
) -> anyhow::Result<(JoinHandle<Reconciler>, oneshot::Receiver<()>)> {
    reconciler.check_vault();
    reconciler.heal().context("what an earlier run left unfinished cannot be read")?;
    let (alive, gone) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("fim-reconcile".into())
        .spawn(move || {
            let _living = pulse::begin("fim-reconcile");
            let _alive = alive;
            reconciler.run(&stopped);
            reconciler.scanner.stop();
            reconciler
        })
        .context("the reconciler cannot be started; raise the limits on processes and memory")?;
    Ok((thread, gone))
}

/// What the reconciler is made of.
pub(super) struct Parts {
    pub jobs: Receiver<Job>,
    pub store: Store,
    pub keeper: Keeper,
    pub trust: Trust,
    pub maintenance: Maintenance,
    pub vault: Arc<Vault>,
    pub retention: Retention,
    pub watches: Vec<Arc<Watch>>,
    pub masks: Arc<Masks>,
    pub self_test: Duration,
    pub sensors: Arc<Sensors>,
    pub scanner: Scanner,
    pub journal: Told,
    pub ready: Box<dyn FnMut() + Send>,
}

pub(super) fn assemble(parts: Parts, inbox: Receiver<Signal>) -> Reconciler {
    let Parts {
        jobs,
        store,
        keeper,
        trust,
        maintenance,
        vault,
        retention,
        watches,
        masks,
        self_test,
        sensors,
        scanner,
        journal,
        ready,
    } = parts;
    let blind = sensors.tier == Tier::Scan;
    let progress = Arc::new(Progress::new(watches.len()));
    let stamp = Stamp { host: super::host(), tier: sensors.tier.as_str().into(), masks };
    let portrait = Portrait::new(watches.clone());
    let journal = match journal {
        Told::New(announce) => Journal::new(announce, stamp.clone(), portrait),
        Told::Before(journal) => journal.carried_on(stamp.clone(), portrait),
    };
    let coverage: Vec<String> = watches.iter().map(|w| sensors.coverage(w)).collect();
    let sight = Sight { marks: sensors.marks(), sensors: sensors.clone() };
    let reporter = Reporter {
        state_dir: store.dir().to_path_buf(),
        watches: watches.clone(),
        progress: progress.clone(),
        sensors,
        started: rfc3339(realtime_ns()),
        coverage,
        vault: vault.clone(),
        told: Arc::default(),
    };
    let number = WatchId(watches.len() as u32);
    let canary = Canary::start(self_test, store.dir(), number, &sight.sensors).unwrap_or_else(|error| {
        tracing::error!("{error:#}; whether the sensors see anything is not tried");
        None
    });
    let now = boottime_ns();
    let intervals = watches
        .iter()
        .filter_map(|w| {
            w.interval.map(|every| every.as_nanos() as u64).map(|every| (w.id, now + every, every))
        })
        .collect();
    let mut reconciler = Reconciler {
        responder: Responder::new(vault.clone()),
        sight,
        correlator: Correlator::new(),
        keeper,
        voucher: Voucher::default(),
        trust,
        maintenance,
        journal,
        recent: Recent::default(),
        repetition: Repetition::default(),
        left_alone: LeftAlone::default(),
        begun: Begun::default(),
        copier: Copier::default(),
        unreleased: Vec::new(),
        upkeep: Vec::new(),
        held: Vec::new(),
        rescans: Vec::new(),
        canary,
        inbox,
        jobs,
        since_ns: 0,
        until_ns: u64::MAX,
        reloaded: None,
        on_ready: ready,
        reported: None,
        next_report: 0,
        tidy_ns: 0,
        watches,
        store,
        vault,
        standing: Standing::new(retention),
        stamp,
        scanner,
        progress,
        reporter,
        intervals,
    };
    if blind {
        reconciler.scan_all_by_interval();
    }
    reconciler
}
