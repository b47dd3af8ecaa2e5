//! Writing approved content over the very file that is there: a mount point can be neither exchanged nor renamed.
//!
//! Weaker than an exchange in two ways that cannot be helped: for a moment the file holds part of each version, and
//! who holds it open may write on. So what was there goes to the vault, durably, before the first byte is written, and
//! the digest is checked afterwards.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::fs::OFlags;

use super::act::Act;
use super::evidence::Keeper;
use super::failure::Failure;
use super::flags;
use super::object::Id;
use crate::core::entry::{Entry, Found};
use crate::tree::attributes;
use crate::tree::flags as tree_flags;
use crate::tree::hash::hash_fd;
use crate::tree::inspect::open_content;
use crate::tree::root::reopen;

const METHOD: &str = "in place: it is a mount point of its own";

impl Act<'_> {
    pub fn write_over(&mut self, approved: &Entry, expected: Option<&Found>) -> Result<(), Failure> {
        let digest = approved.sha256.ok_or(Failure::Moved)?;
        let (object, id) = self.look(&self.name)?.ok_or(Failure::Moved)?;
        if Some(id) != expected.map(Id::expected) {
            return Err(Failure::Moved);
        }
        // Before anything of the file is given up: the content has to be there, and whole.
        self.vault().verify(&digest).map_err(Failure::Vault)?;
        let mut keeper = Keeper::new(self.vault(), self.dir(), false);
        keeper.store(object.as_fd(), self.path)?;
        let kept = keeper.evidence;
        self.evidence.extend(kept);
        self.method = Some(METHOD);

        // A failure leaves it no less protected than it was.
        let lifted = flags::lift_for_work(object.as_fd());
        let failed = |what: &'static str| move |e: std::io::Error| Failure::io(what, e);
        let file = reopen(object.as_fd(), OFlags::WRONLY).map_err(failed("opening it for writing"))?;
        let mut file = File::from(file);
        if tree_flags::prepare(file.as_fd(), approved).is_err() {
            file.set_len(0).map_err(failed("emptying it"))?;
            tree_flags::prepare(file.as_fd(), approved).map_err(Failure::attribute)?;
        }
        let length = self.vault().copy_to(&digest, &mut file).map_err(Failure::Vault)?;
        file.set_len(length).map_err(failed("cutting it to its length"))?;
        attributes::apply(object.as_fd(), approved).map_err(Failure::attribute)?;
        file.sync_all().map_err(failed("syncing it"))?;
        drop(file);
        tree_flags::apply(object.as_fd(), approved).map_err(Failure::attribute)?;
        if let Some(lifted) = lifted {
            lifted.stays_off();
        }
        let content = open_content(object.as_fd()).map_err(failed("reading it again"))?;
        let (now, _) = hash_fd(&content).map_err(failed("reading it again"))?;
        if now != digest || self.id_of(&self.name)? != Some(id) {
            return Err(Failure::Moved);
        }
        self.righted = Some(Instant::now());
        Ok(())
    }
}
