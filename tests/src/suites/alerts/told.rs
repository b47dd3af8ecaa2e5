//! What fim tells of itself: start, end, less than full sight, a sign of life; and a receiver that gets nothing.

use std::os::unix::net::UnixDatagram;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Receivers, fim, text};
use crate::fim::{Policy, Setting};
use crate::report::Outcome;
use crate::wait;

/// Whatever the other keys of an alert say.
const STRICT: &str = "min_severity = \"critical\"\nkinds = [\"type\"]\n";

/// A folder that is watched from the start.
const MANY: &str = "many";

pub fn lifecycle(setting: &Setting) -> Outcome {
    let (fim, receivers) = (fim(setting, "told", Policy::Alert)?, Receivers::start()?);
    std::fs::write(fim.watched.join("file"), "approved").map_err(text)?;
    std::fs::create_dir(fim.watched.join(MANY)).map_err(text)?;
    let mail = format!("{STRICT}group = \"0s\"");
    receivers.configure(&fim, "", [&format!("{STRICT}heartbeat = \"10s\""), &mail, &mail])?;
    fim.init()?;
    // systemd's end of the line.
    let socket = fim.home.join("notify");
    let systemd = UnixDatagram::bind(&socket).map_err(text)?;
    systemd.set_read_timeout(Some(setting.patience)).map_err(text)?;
    let mut command = fim.command(&["run"]);
    let mut daemon = fim.spawn({
        command.env("NOTIFY_SOCKET", &socket);
        command
    })?;
    daemon.wait_ready(setting.patience)?;
    let mut said = [0; 4096];
    let length = systemd.recv(&mut said).map_err(|e| format!("systemd heard nothing: {e}"))?;
    let said = String::from_utf8_lossy(&said[..length]);
    if !said.lines().any(|line| line == "READY=1") {
        return Err(format!("systemd heard {said:?}"));
    }
    let hook = |kind: &str| wait::until(setting.patience, || found(&receivers, kind));
    let started = hook("started")?;
    let sentence = started["message"].as_str().unwrap_or_default().to_owned();
    let words = [fim.watched.display().to_string(), "3 entries".to_owned(), setting.expect_tier.clone()];
    if let Some(word) = words.iter().find(|word| !sentence.contains(*word)) {
        return Err(format!("the start does not say {word:?}: {sentence}"));
    }
    let beat = hook("heartbeat")?;
    if beat["host"] != started["host"] {
        return Err(format!("who sends that? {beat}"));
    }
    if setting.expect_tier != "scan" {
        overflow(&fim, daemon.pid())?;
        hook("coverage_gap")?;
        // Its scan ends it.
        wait::until(setting.patience, || fim.at_rest())?;
    }
    daemon.stop(setting.patience)?;
    let stopped = hook("stopped")?;
    for record in [&started, &stopped] {
        let seq = format!("fim show {}", record["seq"]);
        let told = receivers.forms()?;
        if told.iter().filter(|form| form["Body"].as_str().is_some_and(|body| body.ends_with(&seq))).count()
            != 2
        {
            return Err(format!("both numbers are told once of {record}: {told:?}"));
        }
        if !receivers.mail.mails().iter().any(|mail| mail["body"].as_str().is_some_and(|b| b.contains(&seq)))
        {
            return Err(format!("no mail about {record}"));
        }
    }
    fim.remove();
    Ok(format!("\"{sentence}\""))
}

fn found(receivers: &Receivers, kind: &str) -> Result<Value, String> {
    let bodies =
        receivers.hook.seen().into_iter().filter_map(|r| serde_json::from_slice::<Value>(&r.body).ok());
    let bodies: Vec<Value> = bodies.collect();
    let of_kind = bodies.iter().find(|body| body["kind"] == kind).cloned();
    of_kind.ok_or_else(|| format!("no {kind} among {} messages", bodies.len()))
}

/// More reports than the kernel keeps, while the daemon stands still.
fn overflow(fim: &crate::fim::Fim, pid: u32) -> Result<(), String> {
    let limit = std::fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").map_err(text)?;
    let limit: u32 = limit.trim().parse().map_err(text)?;
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("not a pid")?;
    kill_process(pid, Signal::STOP).map_err(text)?;
    let folder = fim.watched.join(MANY);
    // The first ones may be read by a thread that does not stand still yet.
    let most = limit.saturating_add(limit / 4);
    let made = (0..most).try_for_each(|n| std::fs::write(folder.join(n.to_string()), ""));
    kill_process(pid, Signal::CONT).map_err(text)?;
    made.map_err(text)
}
