//! The kernel: what it offers, which tier that makes, and what became of each hook.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::Notes;
use super::advice::{self, Known};
use super::host::Capabilities;
use crate::config::TierChoice;
use crate::core::tier::Tier;
use crate::sensor::dirs::Directories;
use crate::sensor::ebpf::{Ebpf, Refused};
use crate::store::status::Status;

#[derive(Serialize)]
pub struct Kernel {
    pub release: String,
    /// Whether it describes its own types, which eBPF needs.
    pub btf: bool,
    /// The active security modules, in their order; `None` where the kernel does not say.
    pub security_modules: Option<Vec<String>>,
    /// `none`, `integrity` or `confidentiality`; `None` where the kernel does not say.
    pub lockdown: Option<String>,
}

impl Kernel {
    pub fn look() -> Self {
        let read = |file: &str| fs::read_to_string(file).ok();
        let modules = |text: String| text.trim().split(',').map(str::to_owned).collect();
        Self {
            release: read("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            security_modules: read("/sys/kernel/security/lsm").map(modules),
            lockdown: read("/sys/kernel/security/lockdown").as_deref().and_then(in_brackets),
        }
    }

    /// Whether it was built with this option; `None` where its configuration does not lie beside it.
    pub fn built_with(&self, option: &str) -> Option<bool> {
        let text = fs::read_to_string(format!("/boot/config-{}", self.release)).ok()?;
        Some(text.lines().any(|line| line == format!("{option}=y")))
    }
}

/// The word in force: `none [integrity] confidentiality`.
fn in_brackets(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

#[derive(Serialize)]
pub struct TierFinding {
    /// What the running daemon is in.
    pub running: Option<String>,
    /// The best that can be had here, found by loading and attaching.
    pub possible: Option<&'static str>,
    /// Better tiers that cannot be had.
    pub refused: Vec<RefusedTier>,
    /// The one line to change for a better tier; `None` in the best one, and where no such line is known.
    pub better: Option<String>,
}

impl TierFinding {
    /// The running one, or else the possible one.
    pub fn in_use(&self) -> Option<Tier> {
        Tier::from_name(self.running.as_deref().or(self.possible)?)
    }
}

#[derive(Serialize)]
pub struct RefusedTier {
    pub tier: String,
    pub reason: String,
}

#[derive(Serialize)]
pub struct HookFinding {
    pub hook: String,
    /// `attached`, `failed`, `absent` (not in this kernel) or `unused` (not in this tier).
    pub state: String,
    pub reason: Option<String>,
}

/// What else decides about the tier.
pub struct Asked<'a> {
    pub choice: TierChoice,
    pub file: &'a Path,
    pub missing: Option<&'a Capabilities>,
}

/// Programs are loaded and attached for a moment: nothing else tells what this kernel really takes.
pub fn tiers(
    kernel: &Kernel,
    live: Option<&Status>,
    asked: &Asked<'_>,
    root: bool,
    notes: &mut Notes,
) -> (TierFinding, Vec<HookFinding>) {
    let trial = root.then(trial);
    let running = live.map(|status| status.tier.clone());
    let possible = trial.as_ref().map(|trial| trial.tier);
    let (refused, tried_hooks) = trial.map_or((Vec::new(), Vec::new()), |trial| (trial.refused, trial.hooks));
    let hooks = match live.filter(|status| !status.attach.is_empty()) {
        // What the daemon says of its own is among the problems already.
        Some(status) => status.attach.iter().map(HookFinding::from).collect(),
        None => {
            for hook in tried_hooks.iter().filter(|hook| hook.state == "failed") {
                let why = hook.reason.as_deref().unwrap_or("no reason given");
                notes.problem(format!(
                    "the hook {} could not be attached: {why}; what it alone would see is found by scans",
                    hook.hook
                ));
            }
            tried_hooks
        }
    };
    let better = advice::better(&Known {
        running: running.as_deref().and_then(Tier::from_name),
        possible,
        choice: asked.choice,
        file: asked.file,
        kernel,
        missing: asked.missing.map(|caps| caps.missing.as_slice()).unwrap_or_default(),
        forbidden: refused.iter().any(|refused| refused.reason.contains("not permitted")),
        foreign_pids: crate::sensor::ebpf::own_pids_are_the_kernels().is_err(),
    });
    (TierFinding { running, possible: possible.map(Tier::as_str), refused, better }, hooks)
}

struct Trial {
    tier: Tier,
    refused: Vec<RefusedTier>,
    hooks: Vec<HookFinding>,
}

fn trial() -> Trial {
    let (out, _unread) = crossbeam_channel::bounded(1);
    let (tier, refused, hooks) = match Ebpf::start(Tier::Lsm, Directories::new(), out) {
        Ok((ebpf, refused)) => (ebpf.tier(), refused, ebpf.attach_table()),
        Err(refused) => (Tier::Fanotify, refused, Vec::new()),
    };
    let told = |Refused { tier, reason }| RefusedTier { tier: tier.to_string(), reason };
    let hooks = hooks.iter().map(|hook| HookFinding {
        hook: hook.hook.name().into(),
        state: hook.state().into(),
        reason: hook.reason().map(Into::into),
    });
    Trial { tier, refused: refused.into_iter().map(told).collect(), hooks: hooks.collect() }
}

impl From<&crate::store::status::AttachedHook> for HookFinding {
    fn from(hook: &crate::store::status::AttachedHook) -> Self {
        Self { hook: hook.hook.clone(), state: hook.state.clone(), reason: hook.reason.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_in_brackets_is_the_one_in_force() {
        assert_eq!(in_brackets("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(in_brackets("none integrity\n"), None);
    }
}
