//! `fim doctor`: what this kernel and these file systems let fim see, and what would let it see more.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::config::Config;
use crate::core::path::{RelPath, display};
use crate::core::tier::Tier;
use crate::daemon::watch::Watch;
use crate::sensor::dirs::Directories;
use crate::sensor::ebpf::{Ebpf, Refused};
use crate::sensor::fanotify::Fanotify;
use crate::store::Store;

#[derive(Serialize)]
struct Findings {
    kernel: String,
    btf: bool,
    /// Active security modules, where the kernel says.
    security_modules: Option<String>,
    tier: String,
    refused: Vec<RefusedTier>,
    hooks: Vec<HookFinding>,
    watches: Vec<WatchFinding>,
    database: String,
    /// Each one sentence that says what to do.
    problems: Vec<String>,
}

#[derive(Serialize)]
struct RefusedTier {
    tier: &'static str,
    reason: String,
}

#[derive(Serialize)]
struct HookFinding {
    hook: &'static str,
    state: &'static str,
    reason: Option<String>,
}

#[derive(Serialize)]
struct WatchFinding {
    path: String,
    /// `live`, or why not.
    fanotify: String,
    target_fid: bool,
    rename: bool,
    pidfd: bool,
}

/// Exit codes: 0 all is well, 1 there are problems.
pub fn run(config: &Config, as_json: bool) -> anyhow::Result<ExitCode> {
    crate::daemon::require_privilege("examine the kernel")?;
    let findings = examine(config);
    if as_json {
        println!("{}", serde_json::to_string(&findings)?);
    } else {
        print(&findings);
    }
    Ok(if findings.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn examine(config: &Config) -> Findings {
    let mut problems = Vec::new();
    // Loaded and attached for a moment: nothing else tells what this kernel really takes.
    let (out, _unread) = crossbeam_channel::bounded(1);
    let (tier, refused, hooks) = match Ebpf::start(Tier::Lsm, Directories::new(), out) {
        Ok((ebpf, refused)) => (ebpf.tier(), refused, ebpf.attach_table()),
        Err(refused) => (Tier::Fanotify, refused, Vec::new()),
    };
    let hooks: Vec<HookFinding> = hooks
        .iter()
        .map(|h| HookFinding { hook: h.hook.name(), state: h.state(), reason: h.reason().map(Into::into) })
        .collect();
    let failed = hooks.iter().filter(|h| h.state == "failed");
    problems.extend(failed.map(|h| {
        format!("the hook {} could not be attached ({})", h.hook, h.reason.as_deref().unwrap_or("no reason"))
    }));
    let watches = (0..).zip(&config.watches).map(|(id, watch)| match Watch::open(id, watch) {
        Ok(watch) => Some(file_system(&watch, tier, &mut problems)),
        Err(error) => {
            problems.push(format!("{error:#}"));
            None
        }
    });
    let watches = watches.collect::<Vec<_>>().into_iter().flatten().collect();
    Findings {
        kernel: kernel(),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        security_modules: std::fs::read_to_string("/sys/kernel/security/lsm").ok(),
        tier: tier.as_str().into(),
        refused: refused
            .into_iter()
            .map(|Refused { tier, reason }| RefusedTier { tier: tier.as_str(), reason })
            .collect(),
        hooks,
        watches,
        database: database(config, &mut problems),
        problems,
    }
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").map(|s| s.trim().to_owned()).unwrap_or_default()
}

fn file_system(watch: &Watch, tier: Tier, problems: &mut Vec<String>) -> WatchFinding {
    let path = display(watch.path());
    let probed = watch
        .root
        .open_dir(&RelPath::root())
        .map_err(|e| e.to_string())
        .and_then(|dir| Fanotify::probe(dir.as_fd(), true).map_err(|e| e.to_string()));
    let (features, why_not) = match probed {
        Ok((features, marked)) => (Some(features), marked.err().map(|e| e.to_string())),
        Err(sentence) => (None, Some(sentence)),
    };
    if let Some(sentence) = &why_not {
        let cover = if tier.hooks_files() { "eBPF covers it" } else { "set `interval` for this watch" };
        problems.push(format!("{path}: {sentence}; {cover}"));
    }
    WatchFinding {
        path,
        fanotify: why_not.unwrap_or_else(|| "live".into()),
        target_fid: features.is_some_and(|f| f.target_fid),
        rename: features.is_some_and(|f| f.rename),
        pidfd: features.is_some_and(|f| f.pidfd),
    }
}

fn database(config: &Config, problems: &mut Vec<String>) -> String {
    let opened = Store::open_read_only(&config.state.dir).and_then(|store| {
        let taken = store.baseline_taken()?;
        Ok((taken, store.ledger_head()?.seq))
    });
    match opened {
        Ok((Some(taken), seq)) => format!("baseline of {} by {}, {seq} records", taken.time, taken.by),
        Ok((None, _)) => {
            problems.push("there is no baseline yet; approve the present state with `fim init`".into());
            "no baseline".into()
        }
        Err(error) => {
            problems.push(error.to_string());
            "not usable".into()
        }
    }
}

fn print(f: &Findings) {
    println!("kernel      {}", f.kernel);
    println!("BTF         {}", if f.btf { "yes" } else { "no (/sys/kernel/btf/vmlinux is missing)" });
    println!("modules     {}", f.security_modules.as_deref().map_or("unknown", str::trim));
    println!("tier        {}", f.tier);
    for refused in &f.refused {
        println!("  not {}: {}", refused.tier, refused.reason);
    }
    for hook in f.hooks.iter().filter(|h| h.state != "unused") {
        let reason = hook.reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default();
        println!("  hook {:<24} {}{reason}", hook.hook, hook.state);
    }
    for watch in &f.watches {
        println!("watch       {}: fanotify {}", watch.path, watch.fanotify);
    }
    println!("database    {}", f.database);
    match f.problems.as_slice() {
        [] => println!("no problems found"),
        problems => problems.iter().for_each(|p| println!("problem     {p}")),
    }
}
