//! Which witnesses run, in which tier, and why not more.

use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::config::TierChoice;
use crate::core::observation::{Signal, WatchId};
use crate::core::path::{RelPath, display};
use crate::core::tier::Tier;
use crate::sensor::actor::{Identify, ProcReader};
use crate::sensor::dirs::Directories;
use crate::sensor::ebpf::{Ebpf, Refused};
use crate::sensor::fanotify::{Exclude, Fanotify, Options};
use crate::sensor::marks::{AllMarks, Marks};

use super::watch::Watch;

/// The running witnesses. Dropped, they stop, having handed on what the kernel had queued.
pub struct Sensors {
    pub tier: Tier,
    /// Higher tiers, and why they could not be had.
    pub refused: Vec<Refused>,
    pub ebpf: Option<Arc<Ebpf>>,
    pub fanotify: Option<Arc<Fanotify>>,
    /// Why there is no fanotify, where there is none.
    pub blind: Option<String>,
    pub dirs: Arc<Directories>,
}

impl Sensors {
    /// Starts the highest tier that the kernel allows and the configuration wants.
    pub fn start(choice: TierChoice, watches: &[Arc<Watch>], out: &Sender<Signal>) -> Self {
        let dirs = Directories::new();
        let highest = match choice {
            TierChoice::Auto | TierChoice::Lsm => Tier::Lsm,
            TierChoice::Fentry => Tier::Fentry,
            TierChoice::Tracepoint => Tier::Tracepoint,
            TierChoice::Fanotify => Tier::Fanotify,
            TierChoice::Scan => Tier::Scan,
        };
        let mut sensors = Self {
            tier: highest,
            refused: Vec::new(),
            ebpf: None,
            fanotify: None,
            blind: None,
            dirs: dirs.clone(),
        };
        if highest == Tier::Scan {
            return sensors;
        }
        if highest != Tier::Fanotify {
            match Ebpf::start(highest, dirs, out.clone()) {
                Ok((ebpf, refused)) => {
                    (sensors.tier, sensors.refused) = (ebpf.tier(), refused);
                    sensors.ebpf = Some(Arc::new(ebpf));
                }
                Err(refused) => (sensors.tier, sensors.refused) = (Tier::Fanotify, refused),
            }
        }
        sensors.start_fanotify(watches, out);
        sensors
    }

    fn start_fanotify(&mut self, watches: &[Arc<Watch>], out: &Sender<Signal>) {
        let identify: Arc<dyn Identify> = match &self.ebpf {
            Some(ebpf) => ebpf.identify(),
            None => Arc::new(ProcReader),
        };
        let options = Options {
            // Where the kernel names the actor of each operation, it costs an open file for nothing.
            pidfd: !self.tier.hooks_files(),
            exclude: exclusions(watches),
            also: self.inodes().into_iter().collect(),
            ..Options::default()
        };
        match Fanotify::start(self.dirs.clone(), identify, out.clone(), options) {
            Ok(fanotify) => {
                watches.iter().for_each(|w| fanotify.watch(w.id, w.root.clone()));
                self.fanotify = Some(Arc::new(fanotify));
            }
            Err(error) => {
                self.blind = Some(error.to_string());
                if !self.tier.hooks_files() {
                    self.tier = Tier::Scan;
                }
            }
        }
    }

    fn inodes(&self) -> Option<Arc<dyn Marks>> {
        self.ebpf.clone().map(|ebpf| ebpf as Arc<dyn Marks>)
    }

    /// What each scan has to tell of the directories it reads.
    pub fn marks(&self) -> Option<Arc<dyn Marks>> {
        let mut all: Vec<Arc<dyn Marks>> = Vec::new();
        all.extend(self.fanotify.iter().map(|f| f.clone() as Arc<dyn Marks>));
        all.extend(self.inodes());
        (!all.is_empty()).then(|| Arc::new(AllMarks(all)) as Arc<dyn Marks>)
    }

    /// What is seen live in this watch, in one sentence.
    pub fn coverage(&self, watch: &Watch) -> String {
        use std::os::fd::AsFd;
        if self.tier == Tier::Scan {
            let why = self.blind.as_deref().unwrap_or("the configuration asks for scans only");
            return format!("found by scans only: {why}");
        }
        let probed = watch
            .root
            .open_dir(&RelPath::root())
            .ok()
            .and_then(|dir| Fanotify::probe(dir.as_fd(), false).ok())
            .map(|(_, marked)| marked);
        match probed {
            Some(Ok(())) => format!("live, {} tier", self.tier.as_str()),
            Some(Err(error)) if self.tier.hooks_files() => {
                format!("live by eBPF alone, {} tier: {error}", self.tier.as_str())
            }
            Some(Err(error)) => format!("found by scans only: {error}"),
            None => format!("{} cannot be probed for fanotify", display(watch.path())),
        }
    }
}

fn exclusions(watches: &[Arc<Watch>]) -> Exclude {
    let watches: Vec<Arc<Watch>> = watches.to_vec();
    Arc::new(move |id: WatchId, path: &RelPath, folder: bool| {
        watches.get(id.0 as usize).is_some_and(|w| w.policy.exclude.excludes(path, folder))
    })
}
