//! Receivers that take nothing: they hold up nobody else, what waits for them is shown, and nothing of it is lost.

use serde_json::Value;

use super::{Receivers, all_sent, fim, ledger, text};
use crate::fim::{Fim, Policy, Setting};
use crate::receiver::http::{Act, Server};
use crate::report::Outcome;
use crate::suites::hands::world::has;
use crate::wait;

/// One that never answers and one that nobody listens at, beside three in good health.
pub fn dead(setting: &Setting) -> Outcome {
    let (fim, receivers) = (fim(setting, "dead", Policy::Restore)?, Receivers::start()?);
    let file = fim.watched.join("file");
    std::fs::write(&file, "approved").map_err(text)?;
    let healthy = Server::start(|_| Act::status(204)).map_err(text)?;
    let mute = Server::start(|_| Act::Hang).map_err(text)?;
    receivers.configure(&fim, "", ["", "group = \"0s\"", "group = \"0s\""])?;
    let alive = std::fs::read_to_string(&fim.config).map_err(text)?;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(text)?;
    let more = |hang: &str, gone: &str| {
        format!(
            "{alive}\n[[alert]]\nname = \"mute\"\ntype = \"webhook\"\nurl = {hang:?}\n\
             [[alert]]\nname = \"gone\"\ntype = \"webhook\"\nurl = {gone:?}\n"
        )
    };
    fim.write_config(&more(&mute.url("/mute"), &format!("http://{nobody}/gone"))).map_err(text)?;
    fim.init()?;
    let head = fim.log_head()?;
    let daemon = fim.start()?;
    for n in 0..20 {
        std::fs::write(&file, format!("evil {n}")).map_err(text)?;
        wait::until(setting.patience, || match std::fs::read(&file) {
            Ok(content) if content == b"approved" => Ok(()),
            _ => Err("the change is not undone".into()),
        })?;
    }
    wait::until(setting.patience, || fim.at_rest())?;
    let told = ledger(&fim, head)?.len();
    wait::until(setting.patience, || match receivers.hook.seen().len() >= told {
        true => Ok(()),
        false => Err(format!("{} of {told} records came to the healthy one", receivers.hook.seen().len())),
    })?;
    if mute.seen().is_empty() {
        return Err("the one that never answers was not asked".into());
    }
    let line = |name: &str| waiting(&fim, name);
    let stuck = wait::until(setting.patience, || match line("gone")? {
        line if line["why"].as_str().is_some_and(|why| why.contains("cannot connect")) => Ok(line),
        line => Err(format!("why nothing comes through is not told: {line}")),
    })?;
    if stuck["pending"].as_u64() < Some(told as u64) || line("soc")?["pending"] != 0 {
        return Err(format!("what waits for whom: {stuck}, {}", line("soc")?));
    }
    daemon.stop(setting.patience)?;
    let said = fim.ok(&["alert", "queue"])?;
    has(
        &said,
        &["gone: ", "mute: ", "cannot connect", "fim is not running: nothing is sent until `fim run`"],
    )?;
    // One alert is removed; the other's receiver is there again.
    fim.write_config(
        &more(&mute.url("/mute"), &healthy.url("/back")).replace("name = \"mute\"", "name = \"anew\""),
    )
    .map_err(text)?;
    let daemon = fim.start()?;
    wait::until(setting.patience, || match line("gone")?["pending"].as_u64() {
        Some(0) => Ok(()),
        _ => Err(format!("{}", line("gone")?)),
    })?;
    let status = String::from_utf8_lossy(&fim.output(&["status"])?.stdout).into_owned();
    if status.lines().any(|line| line.starts_with('!') && line.contains("\"mute\"")) {
        return Err(format!("an alert that was removed is nobody's problem: {status}"));
    }
    daemon.stop(setting.patience)?;
    let records = ledger(&fim, head)?;
    let came: Vec<Value> =
        healthy.seen().iter().filter_map(|r| serde_json::from_slice(&r.body).ok()).collect();
    if came != records {
        return Err(format!("{} of {} records came to the one that was gone", came.len(), records.len()));
    }
    // Put back, the removed one goes on where it was.
    let put_back = Server::start(|_| Act::status(204)).map_err(text)?;
    fim.write_config(&more(&put_back.url("/mute"), &healthy.url("/back"))).map_err(text)?;
    let daemon = fim.start()?;
    all_sent(setting, &fim)?;
    daemon.stop(setting.patience)?;
    let (came, due) = (put_back.seen().len(), ledger(&fim, head)?.len());
    if came != due {
        return Err(format!("{came} of {due} records came to the one that was put back"));
    }
    fim.remove();
    Ok(format!("({due} records waited)"))
}

fn waiting(fim: &Fim, lane: &str) -> Result<Value, String> {
    let lines = fim.ok(&["alert", "queue", "--json"])?;
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = lines.into_iter().find(|line| line["lane"] == lane);
    found.ok_or_else(|| format!("no lane {lane}"))
}
