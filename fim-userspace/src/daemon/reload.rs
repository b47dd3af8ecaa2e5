//! Another configuration, without a moment in which nobody watches.
//!
//! The new sensors are started and every watch is marked by them while the old session still works. Then the old one takes in
//! what the kernel had reported by now and ends; the new one compares every watch and goes on with what its sensors have seen
//! since they watch. Until then anything that is wrong with the new configuration leaves the old one in force.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, bail};
use tokio::sync::oneshot;

use crate::config::Config;
use crate::core::observation::{Signal, WatchId};
use crate::core::path::{RelPath, display};
use crate::sensor::scan::{self, ScanProgress};
use crate::sink::Sinks;
use crate::store::Store;
use crate::store::vault::{Limits, Vault};

use super::notice::Notice;
use super::reconcile::Reconciler;
use super::scanner::Approved;
use super::sensors::Sensors;
use super::session::{Carried, End, Prepared, Session, Told};
use super::start::{House, Signals, as_started, open_port, report};
use super::take::{one_watch, require_baseline};
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
    /// What is new, in sentences.
    news: Vec<String>,
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
            Some(Ok(Ok(standby))) => {
                let next = self.hand_over(standby, session, sinks)?;
                if let Some(port) = port {
                    self.port = port;
                }
                Ok(next)
            }
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

    fn refuse(&self, error: &anyhow::Error, session: Session, sinks: Sinks) -> Next {
        let sentence = format!("the configuration is not reloaded, the old one stays in force: {error:#}");
        (self.tell)(Notice::Refused(&sentence));
        if session.out.try_send(Signal::Trouble(sentence)).is_err() {
            tracing::warn!("that the configuration was refused could not be recorded; fim is too busy");
        }
        Next::GoOn(session, sinks)
    }

    fn hand_over(&mut self, standby: Standby, session: Session, sinks: Sinks) -> anyhow::Result<Next> {
        let Standby { prepared, sensors, mut news } = standby;
        let config = prepared.config.clone();
        let was_ready = session.progress.ready();
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
        let old = session.end(End::Reload)?;
        let mut carried = carry(old, &prepared.watches, self.vault.clone());
        carried.keeper.limit(config.ledger);
        let said = std::iter::once("the configuration was reloaded".to_owned()).chain(news);
        carried.reloaded = was_ready.then(|| said.collect::<Vec<_>>().join("; "));
        let session = Session::begin(prepared, sensors, carried, self.jobs.clone(), ready, &self.metrics)?;
        let bell = sinks.bell();
        sinks.drain(&self.runtime);
        let sinks = crate::sink::start(self.runtime.handle(), &config, &report, &bell)?;
        self.config = config;
        Ok(Next::GoOn(session, sinks))
    }
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
        distrust_from_ns: None,
    }
}

/// Starts the sensors, marks every watch, and approves the present state of those that have no baseline yet.
fn prepare(config: &Config, vault: &Vault, progress: &ScanProgress) -> anyhow::Result<Standby> {
    let prepared = Prepared::new(config)?;
    let mut store = Store::open_beside(&config.state.dir)?;
    let known = store.baseline_watches()?;
    let sensors = prepared.sensors();
    let mut news = Vec::new();
    for watch in &prepared.watches {
        mark(watch, &sensors, &store, progress)?;
        if !known.iter().any(|path| path == watch.path()) {
            news.push(approve(watch, &mut store, vault, progress)?);
        }
    }
    require_baseline(&store, &prepared.watches)?;
    Ok(Standby { prepared, sensors, news })
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

fn approve(
    watch: &Watch,
    store: &mut Store,
    vault: &Vault,
    progress: &ScanProgress,
) -> anyhow::Result<String> {
    let (entries, report) = one_watch(watch, vault, progress)?;
    if progress.stop.load(Ordering::Relaxed) {
        bail!("fim is ending");
    }
    vault.commit_batch()?;
    store.baseline_put_many(watch.path(), &entries)?;
    let unread = match &report.unreadable[..] {
        [] => String::new(),
        [first, ..] => format!("; {} could not be read, first: {first}", report.unreadable.len()),
    };
    let path = display(watch.path());
    Ok(format!("{path} is watched from now on, {} entries approved as they are{unread}", report.entries))
}
