//! Which capabilities the daemon keeps. All others go before the first thread is started, so that no thread has more.

use anyhow::Context;
use caps::{CapSet, Capability, CapsHashSet};

/// What each is for:
/// - reading and altering everybody's files, and putting back owner, mode, device, ACL and capabilities:
///   `CHOWN`, `DAC_OVERRIDE`, `DAC_READ_SEARCH` (also `open_by_handle_at`), `FOWNER`, `FSETID`, `MKNOD`, `SETFCAP`;
/// - the flags `i` and `a`: `LINUX_IMMUTABLE`;
/// - fanotify, `trusted.*` attributes, security labels: `SYS_ADMIN`;
/// - the programs in the kernel: `BPF`, `PERFMON`, and `SYS_RESOURCE` for their memory before Linux 5.11;
/// - which program another user's process runs: `SYS_PTRACE`;
/// - the helper of the self-test, which becomes nobody and is ended: `SETUID`, `SETGID`, `KILL`.
pub const KEPT: [Capability; 16] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_LINUX_IMMUTABLE,
    Capability::CAP_MKNOD,
    Capability::CAP_SETFCAP,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_SYS_RESOURCE,
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
];

/// Gives up all other capabilities, for good and for whatever is started from here on.
///
/// # Errors
/// When the kernel refuses, which it does not where the capabilities can be read.
pub fn reduce() -> anyhow::Result<()> {
    let failed =
        "the capabilities that fim does not need cannot be given up; start it as root or as a system service";
    let kept =
        |set: CapsHashSet| -> CapsHashSet { set.into_iter().filter(|cap| KEPT.contains(cap)).collect() };
    let bounding = caps::read(None, CapSet::Bounding).context(failed)?;
    // Without CAP_SETPCAP the bounding set stays as who started fim has made it.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).context(failed)? {
        for cap in bounding.into_iter().filter(|cap| !KEPT.contains(cap)) {
            caps::drop(None, CapSet::Bounding, cap).context(failed)?;
        }
    }
    caps::clear(None, CapSet::Ambient).context(failed)?;
    caps::clear(None, CapSet::Inheritable).context(failed)?;
    let effective = kept(caps::read(None, CapSet::Effective).context(failed)?);
    caps::set(None, CapSet::Effective, &effective).context(failed)?;
    let permitted = kept(caps::read(None, CapSet::Permitted).context(failed)?);
    caps::set(None, CapSet::Permitted, &permitted).context(failed)
}
