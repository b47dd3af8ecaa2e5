//! Another configuration, without a moment in which nobody watches.
//!
//! The new sensors are started and every watch is marked by them while the old session still works. Then the old one takes in
//! what the kernel had reported by now and ends; the new one compares every watch and goes on with what its sensors have seen
//! since they watch. Until then anything that is wrong with the new configuration leaves the old one in force.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use anyhow::{Context, bail};
use crossbeam_channel::{Receiver, Sender, bounded, select};
use tokio::sync::oneshot;

use crate::config::Config;
use crate::core::event::Record;
use crate::core::observation::{Deed, Signal, WatchId};
use crate::core::path::{RelPath, display};
use crate::metrics::serve::Port;
use crate::sensor::scan::{self, ScanProgress};
use crate::sink::Sinks;
use crate::store::Store;
use crate::store::vault::{Limits, Vault};

use super::host;
use super::newcomer::{self, Newcomer, has_baseline, know_mounts, require_mounts};
use super::notice::Notice;
use super::reconcile::Reconciler;
use super::record::Stamp;
use super::scanner::Approved;
use super::sensors::Sensors;
use super::session::{Carried, End, Prepared, Session, Told};
use super::start::{House, Signals, as_started, open_port, report};
use super::watch::Watch;

/// What becomes of the daemon after a hangup.
pub(super) enum Next {
    GoOn(Session, Sinks),
    /// Somebody wanted it to end meanwhile.
    End(Session, Sinks),
}

/// A configuration that may come into force: its sensors watch.
struct Standby {
    prepared: Prepared,
    sensors: Arc<Sensors>,
    /// Watches without a baseline, by their places; approved once nothing can be refused any more.
    newcomers: Vec<(usize, Newcomer)>,
    /// What the sensors said meanwhile beside their observations.
    held: Vec<Signal>,
}

impl House {
    /// Reads the configuration again. The error is one after which the daemon cannot go on.
    pub(super) fn reload(
        &mut self,
        signals: &mut Signals,
        session: Session,
        sinks: Sinks,
    ) -> anyhow::Result<Next> {
        (self.tell)(Notice::Reloading);
        let config = match self.acceptable(&session) {
            Ok(Some(config)) => config,
            Ok(None) => {
                (self.tell)(Notice::Unchanged);
                return Ok(Next::GoOn(session, sinks));
            }
            Err(error) => return Ok(self.refuse(&error, session, sinks)),
        };
        // The new port is opened before the old one is closed.
        let port = match config.metrics == self.config.metrics {
            true => None,
            false => match open_port(&self.runtime, &config, &self.metrics) {
                Ok(port) => Some(port),
                Err(error) => return Ok(self.refuse(&error, session, sinks)),
            },
        };
        let progress = Arc::new(ScanProgress::default());
        let (done, standby) = oneshot::channel();
        let (vault, shared) = (self.vault.clone(), progress.clone());
        let thread = std::thread::Builder::new()
            .name("fim-reload".into())
            .spawn(move || drop(done.send(prepare(&config, &vault, &shared))));
        if let Err(error) = thread {
            return Ok(self.refuse(&error.into(), session, sinks));
        }
        let standby = self.runtime.block_on(async {
            tokio::select! {
                standby = standby => Some(standby),
                () = signals.end() => None,
            }
        });
        match standby {
            None => {
                progress.stop.store(true, Ordering::Relaxed);
                Ok(Next::End(session, sinks))
            }
            Some(Ok(Ok(standby))) => self.hand_over(standby, session, sinks, port),
            Some(Ok(Err(error))) => Ok(self.refuse(&error, session, sinks)),
            Some(Err(_)) => {
                Ok(self.refuse(&anyhow::anyhow!("reading it has failed; report this"), session, sinks))
            }
        }
    }

    /// The configuration as it is now, unless it is the one in force.
    fn acceptable(&self, session: &Session) -> anyhow::Result<Option<Config>> {
        let config = Config::load(&self.config.file)?;
        if config.digest == self.config.digest {
            return Ok(None);
        }
        if config.state.dir != self.config.state.dir {
            bail!("[state] dir cannot change while fim runs; restart fim for that");
        }
        if config.control != self.config.control {
            bail!("[control] cannot change while fim runs; restart fim for that");
        }
        if let Some(trouble) = session.progress.troubled() {
            bail!("{trouble}; reload again once that is over");
        }
        crate::sink::check(&config)?;
        Ok(Some(as_started(config, self.dry_run)))
    }

    fn refuse(&mut self, error: &anyhow::Error, session: Session, sinks: Sinks) -> Next {
        let sentence = format!("the configuration is not reloaded, the old one stays in force: {error:#}");
        (self.tell)(Notice::Refused(&sentence));
        // Of `systemctl reload` two hangups come: Type=notify-reload sends one, and ExecReload= is for older systemds.
        if self.refused.replace(sentence.clone()).as_ref() == Some(&sentence) {
            return Next::GoOn(session, sinks);
        }
        if session.out.try_send(Signal::Trouble(sentence)).is_err() {
            tracing::warn!("that the configuration was refused could not be recorded; fim is too busy");
        }
        Next::GoOn(session, sinks)
    }

    /// `port`: where Prometheus reads from now on, if that changes.
    fn hand_over(
        &mut self,
        standby: Standby,
        session: Session,
        sinks: Sinks,
        port: Option<Option<Port>>,
    ) -> anyhow::Result<Next> {
        let approved = match approve(&standby) {
            Ok(approved) => approved,
            Err(error) => return Ok(self.refuse(&error, session, sinks)),
        };
        let Standby { prepared, sensors, newcomers, held } = standby;
        let config = prepared.config.clone();
        let was_ready = session.progress.ready();
        let mut news: Vec<String> = newcomers.iter().map(|(_, new)| new.sentence()).collect();
        let gone =
            session.watches.iter().filter(|old| !prepared.watches.iter().any(|w| w.path() == old.path()));
        news.extend(gone.map(|old| format!("{} is no longer watched", display(old.path()))));
        let report = report(&prepared.out);
        let ready = {
            let tell = self.tell.clone();
            let notice = if was_ready { Notice::Reloaded } else { Notice::Ready };
            Box::new(move || tell(notice))
        };
        self.vault.set_limits(Limits { max_size: config.vault.max_size, min_free: config.vault.min_free });
        let mut old = session.end(End::Reload)?;
        old.journal.wrote(&approved);
        let mut carried = carry(old, &prepared.watches, self.vault.clone());
        carried.keeper.limit(config.ledger);
        carried.held = held;
        if was_ready {
            self.distrust_from_ns = None;
        }
        carried.distrust_from_ns = self.distrust_from_ns;
        let said = std::iter::once("the configuration was reloaded".to_owned()).chain(news);
        carried.reloaded = was_ready.then(|| said.collect::<Vec<_>>().join("; "));
        let session = Session::begin(prepared, sensors, carried, self.jobs.clone(), ready, &self.metrics)?;
        let bell = sinks.bell();
        sinks.drain(&self.runtime);
        let sinks = crate::sink::start(self.runtime.handle(), &config, &report, &bell)?;
        (self.config, self.refused) = (config, None);
        if let Some(port) = port {
            self.port = port;
        }
        Ok(Next::GoOn(session, sinks))
    }
}

/// The newcomers get their baseline, with its records, beside the session that still works.
fn approve(standby: &Standby) -> anyhow::Result<Vec<Record>> {
    let Standby { prepared, sensors, newcomers, .. } = standby;
    if newcomers.is_empty() {
        return Ok(Vec::new());
    }
    let masks = prepared.config.sensor.masks.clone();
    let stamp = Stamp { host: host(), tier: sensors.tier.as_str().into(), masks };
    let mut store = Store::open_beside(&prepared.config.state.dir)?;
    let watches = || newcomers.iter().filter_map(|(at, new)| Some((&**prepared.watches.get(*at)?, new)));
    let records = newcomer::approve(watches(), &mut store, &stamp)?;
    for (watch, _) in watches() {
        know_mounts(&store, watch)?;
    }
    Ok(records)
}

/// What goes on. The rest of the old session ends here, its sensors as the last.
fn carry(old: Reconciler, watches: &[Arc<Watch>], vault: Arc<Vault>) -> Carried {
    let path = |id: WatchId| old.watch(id).map(|watch| watch.path().to_path_buf());
    let rescans = old.rescans.iter().filter(|(_, _, for_gap)| *for_gap).map(|(id, ..)| *id);
    let owed: HashSet<PathBuf> = old.scanner.owed().into_iter().chain(rescans).filter_map(path).collect();
    let number = |id: WatchId| {
        let path = old.watches.get(id.0 as usize)?.path();
        watches.iter().find(|watch| watch.path() == path).map(|watch| watch.id)
    };
    Carried {
        store: old.store,
        keeper: old.keeper,
        maintenance: old.maintenance,
        vault,
        journal: Told::Before(Box::new(old.journal)),
        recent: old.recent.renumbered(number),
        owed,
        since_ns: old.until_ns,
        started: Some(old.reporter.started),
        reloaded: None,
        held: Vec::new(),
        distrust_from_ns: None,
    }
}

/// Starts the sensors, marks every watch, and looks at those that have no baseline yet.
fn prepare(config: &Config, vault: &Vault, progress: &ScanProgress) -> anyhow::Result<Standby> {
    let prepared = Prepared::new(config)?;
    let store = Store::open_beside(&config.state.dir)?;
    let sensors = prepared.sensors();
    let drain = Drain::start(prepared.inbox.clone())?;
    let mut newcomers = Vec::new();
    for (at, watch) in prepared.watches.iter().enumerate() {
        mark(watch, &sensors, &store, progress)?;
        if has_baseline(&store, watch)? {
            know_mounts(&store, watch)?;
        } else {
            newcomers.push((at, Newcomer::look(watch, vault, progress)?));
        }
        if progress.stop.load(Ordering::Relaxed) {
            bail!("fim is ending");
        }
    }
    require_mounts(&store, &prepared.watches)?;
    Ok(Standby { prepared, sensors, newcomers, held: drain.end() })
}

/// Takes what new sensors report while nobody works with it: the old session deals with the same, and every watch is compared
/// once the new one begins. Left where it is, it would fill the channel, and be told of as a gap.
struct Drain {
    stop: Sender<()>,
    thread: JoinHandle<Vec<Signal>>,
}

impl Drain {
    fn start(inbox: Receiver<Signal>) -> anyhow::Result<Self> {
        let (stop, stopped) = bounded::<()>(0);
        let thread = std::thread::Builder::new()
            .name("fim-drain".into())
            .spawn(move || {
                let mut held = Held::default();
                loop {
                    let signal = select! {
                        recv(stopped) -> _ => return held.signals,
                        recv(inbox) -> signal => signal,
                    };
                    match signal {
                        Ok(signal) => held.take(signal),
                        Err(_) => return held.signals,
                    }
                }
            })
            .context("a thread cannot be started; raise the limits on processes and memory")?;
        Ok(Self { stop, thread })
    }

    /// What is no observation.
    fn end(self) -> Vec<Signal> {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|_| {
            tracing::error!("a thread of the reload had failed; please report this");
            Vec::new()
        })
    }
}

/// What the next session is given of what came before it.
#[derive(Default)]
struct Held {
    signals: Vec<Signal>,
    linked: HashSet<(WatchId, RelPath)>,
    /// Watches of which more was linked than is held.
    gaps: HashSet<WatchId>,
}

impl Held {
    /// Links that are held: whoever makes them without end must not fill the memory.
    const MOST: usize = 65_536;

    fn take(&mut self, signal: Signal) {
        let Signal::Observed(seen) = &signal else { return self.signals.push(signal) };
        // Files that have another name since are marked.
        if !matches!(seen.deed, Deed::Linked { .. }) || self.gaps.contains(&seen.watch) {
            return;
        }
        let place = (seen.watch, seen.path.clone());
        if self.linked.contains(&place) {
            return;
        }
        if self.linked.len() < Self::MOST {
            self.linked.insert(place);
            return self.signals.push(signal);
        }
        self.gaps.insert(seen.watch);
        let reason = "too many links were made while the configuration was read".to_owned();
        self.signals.push(Signal::Gap { source: seen.source, watch: Some(seen.watch), lost: None, reason });
    }
}

/// From here on the sensors see what happens in this watch.
fn mark(watch: &Watch, sensors: &Sensors, store: &Store, progress: &ScanProgress) -> anyhow::Result<()> {
    let Some(marks) = sensors.marks() else { return Ok(()) };
    let approved = Approved::load(store, watch.path())?;
    let known = |path: &RelPath| approved.get(path).cloned();
    let job = watch.scan(Some(&*marks), &known, progress);
    let marked = scan::walk(&job, &|_, _| {});
    marked.with_context(|| format!("the watch {} cannot be read", display(watch.path())))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::observation::{Observation, Source};

    #[test]
    fn sensors_that_report_much_while_a_new_watch_is_read_make_no_gap() {
        let (out, inbox) = bounded(2);
        let drain = Drain::start(inbox).expect("a thread");
        let seen = |deed| {
            let (source, watch, path) = (Source::Fanotify, WatchId(0), RelPath::new("a").expect("sound"));
            Signal::Observed(Observation {
                source,
                watch,
                path,
                deed,
                directory: false,
                actor: None,
                at_ns: 1,
            })
        };
        let send = |signal| out.send_timeout(signal, Duration::from_secs(60)).expect("there is room again");
        (0..50).for_each(|_| send(seen(Deed::Written)));
        send(seen(Deed::Linked { to: None }));
        send(Signal::Trouble("something".into()));
        (0..50).for_each(|_| send(seen(Deed::Written)));
        let held = drain.end();
        assert!(
            matches!(&held[..], [Signal::Observed(linked), Signal::Trouble(_)] if linked.deed != Deed::Written),
            "{held:?}"
        );
    }

    /// Somebody makes links as fast as he can while a large new watch is read.
    #[test]
    fn links_without_end_are_held_once_each_and_then_a_gap() {
        let mut held = Held::default();
        let linked = |name: &str| {
            Signal::Observed(Observation {
                source: Source::Ebpf,
                watch: WatchId(3),
                path: RelPath::new(name).expect("sound"),
                deed: Deed::Linked { to: None },
                directory: false,
                actor: None,
                at_ns: 7,
            })
        };
        for number in 0..Held::MOST {
            held.take(linked(&number.to_string()));
            held.take(linked("0"));
        }
        assert_eq!(held.signals.len(), Held::MOST);
        (0..9).for_each(|number| held.take(linked(&format!("more-{number}"))));
        assert_eq!(held.signals.len(), Held::MOST + 1);
        assert!(matches!(held.signals.last(), Some(Signal::Gap { watch: Some(WatchId(3)), .. })));
    }
}
