//! For people: a line for each finding, what is wrong at the end.

use std::fmt::Write as _;

use super::Findings;
use super::state::{Database, VaultFinding};
use crate::core::size::show as size;
use crate::sink::line::printable;

pub fn text(f: &Findings) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = kernel(&mut out, f).and_then(|()| host(&mut out, f)).and_then(|()| own(&mut out, f));
    let _ = end(&mut out, f);
    out
}

const UNKNOWN: &str = "not known";

fn kernel(out: &mut String, f: &Findings) -> std::fmt::Result {
    writeln!(out, "kernel      {}", f.kernel.release)?;
    writeln!(
        out,
        "BTF         {}",
        if f.kernel.btf { "yes" } else { "no (/sys/kernel/btf/vmlinux is missing)" }
    )?;
    let modules = f.kernel.security_modules.as_ref().map(|modules| modules.join(","));
    writeln!(out, "modules     {}", modules.as_deref().unwrap_or(UNKNOWN))?;
    writeln!(out, "lockdown    {}", f.kernel.lockdown.as_deref().unwrap_or(UNKNOWN))?;
    let tier = &f.tier;
    let possible = tier.possible.unwrap_or(UNKNOWN);
    match &tier.running {
        Some(running) => writeln!(out, "tier        {running}; the best here: {possible}")?,
        None => writeln!(out, "tier        the best here: {possible}")?,
    }
    for refused in &tier.refused {
        writeln!(out, "  no {}: {}", refused.tier, printable(&refused.reason))?;
    }
    if let Some(better) = &tier.better {
        writeln!(out, "  for a better one: {better}")?;
    }
    for hook in f.hooks.iter().filter(|h| h.state != "unused") {
        let reason = hook.reason.as_ref().map(|r| format!(" ({})", printable(r))).unwrap_or_default();
        writeln!(out, "  hook {:<24} {}{reason}", hook.hook, hook.state)?;
    }
    let unused = f.hooks.iter().filter(|h| h.state == "unused").count();
    if unused > 0 {
        writeln!(out, "  {unused} more hooks are not used in this tier")?;
    }
    Ok(())
}

fn host(out: &mut String, f: &Findings) -> std::fmt::Result {
    for watch in &f.watches {
        let kind = watch.file_system.as_deref().unwrap_or("unknown file system");
        let live = watch
            .reason
            .as_ref()
            .map_or_else(|| "live".to_owned(), |why| format!("not live: {}", printable(why)));
        let features =
            watch.features.map(|f| [("target", f.target_fid), ("rename", f.rename), ("pidfd", f.pidfd)]);
        let features = features.into_iter().flatten().filter(|(_, has)| *has).map(|(name, _)| name);
        let features = features.collect::<Vec<_>>().join(", ");
        let features = if features.is_empty() { "none" } else { &features };
        writeln!(out, "watch       {} ({kind}): fanotify {live}; features: {features}", watch.path)?;
    }
    let files = f.host.limits.open_files.map_or("no limit of".to_owned(), |most| most.to_string());
    write!(out, "limits      {files} open files")?;
    for (name, value) in &f.host.limits.sysctl {
        write!(out, ", {name} {value}")?;
    }
    writeln!(out)?;
    let rights = match f.host.capabilities.as_ref().map(|caps| (caps.of, caps.missing.as_slice())) {
        None => UNKNOWN.into(),
        Some((of, [])) => format!("the {of} has all capabilities that fim needs"),
        Some((of, missing)) => format!("the {of} lacks {}", missing.join(", ")),
    };
    writeln!(out, "rights      {rights}")?;
    let clock = match f.host.clock_synchronised {
        Some(true) => "kept right",
        Some(false) => "kept right by nobody",
        None => UNKNOWN,
    };
    writeln!(out, "clock       {clock}")?;
    for room in &f.host.room {
        let inodes = room.free_inodes.map_or(String::new(), |free| format!(", {free} inodes"));
        let (free, total) = (size(room.free), size(room.total));
        writeln!(out, "room        {} {}: {free} of {total} free{inodes}", room.what, room.path)?;
    }
    Ok(())
}

fn own(out: &mut String, f: &Findings) -> std::fmt::Result {
    writeln!(out, "config      {}: {}", f.config.file, if f.config.sound { "sound" } else { "not usable" })?;
    let daemon = match &f.daemon {
        None => UNKNOWN.into(),
        Some(daemon) => match (daemon.pid, &daemon.since) {
            (Some(pid), Some(since)) => format!("runs (pid {pid}) since {since}"),
            _ => "does not run".to_owned(),
        },
    };
    writeln!(out, "daemon      {daemon}")?;
    if let Some(passed) = f.daemon.as_ref().and_then(|daemon| daemon.self_test_passed.as_ref()) {
        writeln!(out, "self-test   succeeded last at {passed}")?;
    }
    writeln!(out, "database    {}", f.database.as_ref().map_or(UNKNOWN.into(), database))?;
    writeln!(out, "vault       {}", f.vault.as_ref().map_or(UNKNOWN.into(), vault))?;
    for sink in &f.sinks {
        let success = sink.last_success.as_deref().unwrap_or("never");
        write!(out, "sink        {}: last success {success}", printable(&sink.name))?;
        if let Some(behind) = sink.behind.filter(|behind| *behind > 0) {
            write!(out, ", {behind} behind")?;
        }
        if sink.refused > 0 {
            write!(out, ", {} refused for good", sink.refused)?;
        }
        writeln!(out, "{}", sink.error.as_ref().map_or(String::new(), |e| format!("; {}", printable(e))))?;
    }
    Ok(())
}

fn database(database: &Database) -> String {
    if !database.usable {
        return "not usable".into();
    }
    let records = database.records;
    match (&database.baseline_taken, &database.baseline_by) {
        (Some(taken), by) => {
            let by = printable(by.as_deref().unwrap_or("somebody"));
            format!("sound; baseline of {taken} by {by}, {records} records")
        }
        (None, _) => format!("sound; no baseline, {records} records"),
    }
}

fn vault(vault: &VaultFinding) -> String {
    match (vault.usable, vault.full) {
        (false, _) => "not usable".into(),
        (true, true) => format!("full: {} objects, {}", vault.objects, size(vault.bytes)),
        (true, false) => {
            format!("{} objects, {}; `fim vault verify` reads them all", vault.objects, size(vault.bytes))
        }
    }
}

fn end(out: &mut String, f: &Findings) -> std::fmt::Result {
    for sentence in &f.notes.unseen {
        writeln!(out, "? not seen: {}", printable(sentence))?;
    }
    for problem in &f.notes.problems {
        writeln!(out, "! {}", printable(problem))?;
    }
    if f.notes.problems.is_empty() && f.notes.unseen.is_empty() {
        writeln!(out, "no problems found")?;
    }
    Ok(())
}
