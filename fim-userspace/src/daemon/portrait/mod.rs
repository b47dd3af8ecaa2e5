//! What is found out about an actor once its change has been answered: nothing here delays a response.

mod names;
mod programs;

use std::collections::HashMap;
use std::sync::Arc;

use crate::core::actor::{Actor, Ancestor};
use crate::core::event::Event;
use crate::sensor::actor::origin;
use crate::store::Store;

use self::names::NameBook;
pub use self::programs::Programs;
use super::watch::Watch;

/// Where logins came from, by process: its whole chain lives longer than most of what it does.
const ORIGINS: usize = 1024;

/// Completes the actors of records.
pub struct Portrait {
    names: NameBook,
    programs: Programs,
    origins: HashMap<(u32, Option<u64>), Option<String>>,
}

impl Portrait {
    pub fn new(watches: Vec<Arc<Watch>>) -> Self {
        Self { names: NameBook::start(), programs: Programs::new(watches), origins: HashMap::new() }
    }

    /// Adds names of ids, what the baseline says of the programs, and where the login came from.
    pub fn complete(&mut self, event: &mut Event, store: &Store) {
        for actor in event.actor.iter_mut().chain(&mut event.other_actors) {
            self.programs(actor, store);
            if actor.from.is_none() {
                actor.from = self.origin(actor);
            }
            self.names.fill(actor);
        }
    }

    fn programs(&mut self, actor: &mut Actor, store: &Store) {
        let alive = actor.pid.zip(actor.start_ns);
        if let (Some(exe), Some(file)) = (&actor.exe, &mut actor.exe_file) {
            self.programs.examine(exe, file, alive, store);
        }
        for Ancestor { pid, start_ns, exe, exe_file, .. } in &mut actor.ancestors {
            if let (Some(exe), Some(file)) = (exe, exe_file) {
                self.programs.examine(exe, file, start_ns.map(|start_ns| (*pid, start_ns)), store);
            }
        }
    }

    fn origin(&mut self, actor: &Actor) -> Option<String> {
        // The oldest but init: the login's own service, or the session's first process.
        let nearest = actor.ancestors.first()?;
        let key = (nearest.pid, nearest.start_ns);
        if let Some(known) = self.origins.get(&key) {
            return known.clone();
        }
        if self.origins.len() >= ORIGINS {
            self.origins.clear();
        }
        let found = origin::of(actor);
        self.origins.insert(key, found.clone());
        found
    }
}
