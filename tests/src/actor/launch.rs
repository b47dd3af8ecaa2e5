//! Starting another program in a poorer world than this one.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

/// Becomes `program`; comes back only with the reason why it could not.
pub fn execute(command: &[String]) -> io::Error {
    match command.split_first() {
        Some((program, args)) => Command::new(program).args(args).exec(),
        None => io::Error::other("no program given"),
    }
}

/// Hides the kernel's type information from this process and what it becomes.
pub fn without_btf() -> io::Result<()> {
    private_mounts()?;
    mount(Some("none"), "/sys/kernel/btf", Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    Ok(())
}

/// Mounts made from here on are seen by this process and its children alone.
pub fn private_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    Ok(())
}

/// A root that file permissions bind: what a service with a narrow CapabilityBoundingSet is.
pub fn without_dac() -> io::Result<()> {
    for capability in [CapabilitySet::DAC_OVERRIDE, CapabilitySet::DAC_READ_SEARCH] {
        remove_capability_from_bounding_set(capability)?;
    }
    Ok(())
}
