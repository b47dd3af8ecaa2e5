//! Start order and drain: lock, database, sensors, marks, then `ready`; the same way back at the end.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::{Receiver, bounded};
use nix::sys::signal::SigSet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::config::Config;
use crate::core::correlate::{Correlator, Look};
use crate::core::event::{EventKind, Record, rfc3339};
use crate::core::mask::Masks;
use crate::core::observation::{Signal, WatchId};
use crate::core::path::RelPath;
use crate::core::quarantine::Reason;
use crate::core::repetition::Repetition;
use crate::core::tier::Tier;
use crate::core::witness::Deeds;
use crate::respond::Responder;
use crate::sink::alert::Report;
use crate::store::vault::Vault;
use crate::store::{Lock, Store};
use crate::tree::private::is_private_name;

use super::canary::Canary;
use super::clock::{boottime_ns, realtime_ns};
use super::conclude::Begun;
use super::control::{Control, Job, WAITING};
use super::copier::Copier;
use super::copies::LeftAlone;
use super::journal::{Announce, Entry, Journal};
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
use super::take::{open_vault, require_baseline};
use super::trust::Trust;
use super::vouch::Voucher;
use super::watch::Watch;

/// Runs until SIGINT or SIGTERM. `announce` sees each record once it is in the ledger; `ready` is called when changes
/// from then on are certain to be caught.
pub fn run(
    config: &Config,
    announce: Announce,
    ready: impl FnMut() + Send + 'static,
) -> anyhow::Result<ExitCode> {
    super::require_privilege("watch and restore files")?;
    // Whoever started fim may have blocked the signals that end it.
    SigSet::all().thread_unblock().context("the signals that end fim cannot be unblocked")?;
    super::descriptors::raise_descriptors();
    super::secrecy::forbid_dumps();
    let _lock = Lock::acquire(&config.state.dir)?;
    let mut store = Store::open(&config.state.dir)?;
    let distrust_from_ns = not_surely_on_disk(&mut store)?;
    let vault = Arc::new(open_vault(config)?);
    let retention = Retention { max_age: config.vault.max_age, max_size: config.vault.max_size };
    let watches = Watch::open_all(config)?;
    require_baseline(&store, &watches)?;
    let trust = Trust::new(config, &watches)?;
    let maintenance = Maintenance::load(&store)?;
    let keeper = Keeper::open(&store, config.ledger)?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("the threads for sinks cannot be started; raise the limits on processes and memory")?;
    // From here on: before, it would end the daemon.
    let hangup = {
        let _inside = runtime.enter();
        signal(SignalKind::hangup()).context("SIGHUP cannot be waited for")?
    };
    let (out, inbox) = bounded::<Signal>(CHANNEL);
    let report: Report = {
        let out = out.clone();
        // A full channel is tried again with the next refusal.
        Arc::new(move |sentence| out.try_send(Signal::AlertRefused(sentence)).is_ok())
    };
    let sinks = crate::sink::start(runtime.handle(), config, &report)?;
    let announce: Announce = {
        let (mut print, bell) = (announce, sinks.bell());
        Box::new(move |records: &[Record]| {
            print(records);
            bell.ring();
        })
    };

    let sensors = Arc::new(Sensors::start(config.sensor.tier, &watches, &out));
    let mut scanner = Scanner::start(ScanContext {
        watches: watches.clone(),
        state_dir: config.state.dir.clone(),
        marks: sensors.marks(),
        out: out.clone(),
        distrust_from_ns,
    })
    .context("the scanning thread cannot be started; raise the limits on processes and memory")?;
    watches.iter().for_each(|watch| scanner.first(watch.id));
    let mut rolling =
        Rolling::start(watches.clone(), config.state.dir.clone(), config.sensor.scan_period, out.clone())
            .context("the rolling scan cannot be started; raise the limits on processes and memory")?;

    let (control, jobs) = listen(&config.state.dir);
    let parts = Parts {
        jobs,
        store,
        keeper,
        trust,
        maintenance,
        vault,
        retention,
        watches,
        masks: config.sensor.masks.clone(),
        self_test: config.sensor.self_test,
        sensors: sensors.clone(),
        scanner,
        announce,
        ready: Box::new(ready),
    };
    let (stop, stopped) = bounded::<()>(1);
    let (reconciler, gone) = spawn(parts, inbox, stopped)?;
    let ended = wait(&runtime, gone, hangup, &sinks.reopen());
    rolling.stop();
    drop(control);
    drop(sensors);
    drop(out);
    let _ = stop.send(());
    let finished = reconciler.join();
    sinks.drain(&runtime);
    ended?;
    match finished {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(_) => anyhow::bail!("the reconciler failed; its records are safe, restart fim and report this"),
    }
}

/// After a restart of the machine, which may have been a power cut: from when on a file's identity says nothing about its
/// content, nanoseconds since the epoch. The kernel writes back within a minute; the last record is from before the end.
fn not_surely_on_disk(store: &mut Store) -> anyhow::Result<Option<i64>> {
    const HOUR_NS: i64 = 3_600_000_000_000;
    let boot = super::maintenance::boot_id()?;
    let before = store.meta_get("boot_id")?;
    if before.as_deref() == Some(boot.as_str()) {
        return Ok(None);
    }
    store.meta_set("boot_id", &boot)?;
    let last = store.last_record_time()?.and_then(|time| time.parse::<jiff::Timestamp>().ok());
    let last_ns = last.map_or(0, |t| i64::try_from(t.as_nanosecond()).unwrap_or(i64::MAX));
    Ok(before.map(|_| last_ns.saturating_sub(HOUR_NS)))
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
    pub announce: Announce,
    pub ready: Box<dyn FnMut() + Send>,
}

/// Opens the control socket. Without it the daemon does its work all the same; commands then say what is wrong.
fn listen(dir: &std::path::Path) -> (Option<Control>, Receiver<Job>) {
    let (out, jobs) = bounded(WAITING);
    let control = Control::start(dir, out)
        .inspect_err(|e| {
            tracing::error!(
                "the control socket in {} cannot be opened ({e}); accept, restore and quarantine work only while fim is stopped",
                crate::core::path::display(dir)
            );
        })
        .ok();
    (control, jobs)
}

/// Puts the reconciler together and starts its thread.
fn spawn(
    parts: Parts,
    inbox: Receiver<Signal>,
    stopped: Receiver<()>,
) -> anyhow::Result<(std::thread::JoinHandle<()>, oneshot::Receiver<()>)> {
    let mut reconciler = assemble(parts, inbox);
    reconciler.check_vault();
    reconciler.heal().context("what an earlier run left unfinished cannot be read")?;
    let (alive, gone) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("fim-reconcile".into())
        .spawn(move || {
            let _alive = alive;
            reconciler.run(&stopped);
            reconciler.scanner.stop();
        })
        .context("the reconciler cannot be started; raise the limits on processes and memory")?;
    Ok((thread, gone))
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
        announce,
        ready,
    } = parts;
    let blind = sensors.tier == Tier::Scan;
    let progress = Arc::new(Progress::new(watches.len()));
    let stamp = Stamp { host: super::host(), tier: sensors.tier.as_str().into(), masks };
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
        journal: Journal::new(announce, stamp.clone(), Portrait::new(watches.clone())),
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
        on_ready: ready,
        reported: None,
        next_report: 0,
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

/// Waits for the end: a signal from outside, or a reconciler that is gone. Meanwhile SIGHUP has the log files reopened.
fn wait(
    runtime: &tokio::runtime::Runtime,
    mut gone: oneshot::Receiver<()>,
    mut hangup: tokio::signal::unix::Signal,
    reopen: &crate::sink::Reopen,
) -> anyhow::Result<()> {
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = &mut gone => return Ok(()),
                _ = hangup.recv() => reopen.ring(),
            }
        }
    })
}

impl Reconciler {
    /// A daemon that died in the middle of a response left an intent, and perhaps a private name beside the file. Both
    /// become a record; the file itself is compared by the first scan.
    fn heal(&mut self) -> anyhow::Result<()> {
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
