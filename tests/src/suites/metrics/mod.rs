//! What Prometheus is told, against what the ledger says of the same changes.

mod page;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::fim::{Daemon, Fim, Policy, Setting};
use crate::record::Record;
use crate::report::{Outcome, Report};
use crate::wait;
use page::{Page, get};

pub fn run(setting: &Setting, report: &mut Report) {
    report.case("metrics/counts", || counts(setting));
    report.case("metrics/reload", || reload(setting));
    report.case("metrics/group", || group(setting));
}

fn io(error: io::Error) -> String {
    error.to_string()
}

/// A port that nobody has at this moment.
fn free() -> Result<SocketAddr, String> {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(io)
}

/// The configuration with more before it.
fn configure(fim: &Fim, before: &str) -> Result<String, String> {
    let plain = std::fs::read_to_string(&fim.config).map_err(io)?;
    fim.write_config(&format!("{before}{plain}")).map_err(io)?;
    Ok(plain)
}

fn port(address: SocketAddr) -> String {
    format!("[metrics]\nlisten = \"{address}\"\n")
}

/// Four files altered, two deleted, one mode changed, three files made: the page says what the ledger says.
fn counts(setting: &Setting) -> Outcome {
    let fim = Fim::new(setting, &setting.works[0], "metrics", Policy::Restore)?;
    let address = free()?;
    configure(&fim, &port(address))?;
    let files: Vec<_> = (0..7).map(|n| fim.watched.join(format!("file \"{n}\"\n"))).collect();
    files.iter().try_for_each(|file| std::fs::write(file, "approved")).map_err(io)?;
    fim.init()?;
    let none = fim.output(&["metrics"])?;
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    if none.status.code() != Some(2) || !said.contains("no fim is running") {
        return Err(format!("without a daemon: {} {said}", none.status));
    }
    let daemon = fim.start()?;
    files[..4].iter().try_for_each(|file| std::fs::write(file, "evil")).map_err(io)?;
    files[4..6].iter().try_for_each(std::fs::remove_file).map_err(io)?;
    std::fs::set_permissions(&files[6], std::fs::Permissions::from_mode(0o666)).map_err(io)?;
    (0..3).try_for_each(|n| std::fs::write(fim.watched.join(format!("new{n}")), "new")).map_err(io)?;
    let told = |records: &[Record], kind: &str| records.iter().filter(|r| r.kind == kind).count();
    let records = wait::until(setting.patience, || {
        fim.at_rest()?;
        let records = fim.log_after(0)?;
        let counts = ["modified", "deleted", "attributes", "created"].map(|kind| told(&records, kind));
        if counts == [4, 2, 1, 3] { Ok(records) } else { Err(format!("the ledger has {counts:?}")) }
    })?;
    let (head, text) = get(address, setting.patience)?;
    if !head.starts_with("HTTP/1.1 200") || !head.contains("text/plain; version=0.0.4") {
        return Err(head);
    }
    if ["evil", "file \"", "new0", &fim.home.display().to_string()].iter().any(|word| text.contains(word)) {
        return Err(format!("a path is in it: {text}"));
    }
    let page = Page::parse(&text)?;
    compare(&page, &records)?;
    page.expect("fim_ready", &[], 1.0)?;
    page.expect("fim_tier_info", &[("tier", &setting.expect_tier)], 1.0)?;
    page.expect("fim_watch_files", &[("watch", "1")], 8.0)?;
    page.expect("fim_queue_length", &[("queue", "paths")], 0.0)?;
    page.expect("fim_responses_total", &[("kind", "created"), ("outcome", "quarantined")], 3.0)?;
    page.expect("fim_sink_lag_records", &[("sink", "differences")], 0.0).or_else(|_| {
        wait::until(setting.patience, || {
            let page = Page::parse(&get(address, setting.patience)?.1)?;
            page.expect("fim_sink_lag_records", &[("sink", "differences")], 0.0)
        })
    })?;
    // Approved and altered content of seven files is kept.
    if page.value("fim_vault_room_bytes", &[])? < 1.0 || page.value("fim_start_time_seconds", &[])? < 1.6e9 {
        return Err("no room in the vault, or no time of the start".into());
    }
    same_by_socket(&fim, &page)?;
    daemon.stop(setting.patience)?;
    let samples = page.0.len();
    fim.remove();
    Ok(format!("({samples} samples)"))
}

/// Each count is that of the ledger, and nothing else is counted.
fn compare(page: &Page, records: &[Record]) -> Result<(), String> {
    let mut events: BTreeMap<(String, String), f64> = BTreeMap::new();
    let mut responses: BTreeMap<(String, String), f64> = BTreeMap::new();
    for record in records {
        let verdict = record.verdict.clone().unwrap_or("none".into());
        *events.entry((record.kind.clone(), verdict)).or_default() += 1.0;
        if record.is_change() && record.response != "none" {
            *responses.entry((record.kind.clone(), record.response.clone())).or_default() += 1.0;
        }
    }
    for (name, label, counted) in
        [("fim_events_total", "verdict", &events), ("fim_responses_total", "outcome", &responses)]
    {
        for ((kind, second), count) in counted {
            page.expect(name, &[("kind", kind), (label, second)], *count)?;
        }
        let all: f64 = page.0.iter().filter(|sample| sample.name == name).map(|sample| sample.value).sum();
        if all != counted.values().sum::<f64>() {
            return Err(format!("{name} counts {all}, the ledger has {counted:?}"));
        }
    }
    page.expect("fim_ledger_records", &[], records.len() as f64)?;
    let live = records.iter().filter(|r| r.is_change()).count() as f64;
    for name in ["fim_detection_seconds", "fim_record_seconds", "fim_restore_seconds"] {
        page.expect(&format!("{name}_count"), &[], live)?;
        page.expect(&format!("{name}_bucket"), &[("le", "+Inf")], live)?;
        let sum = page.value(&format!("{name}_sum"), &[])?;
        if !(sum > 0.0 && sum < 60.0 * live) {
            return Err(format!("{name} adds up to {sum} s"));
        }
    }
    if let Some(sample) = page.0.iter().find(|s| !s.help.ends_with('.') || s.kind == "unknown") {
        return Err(format!("no sentence, or no type: {sample:?}"));
    }
    Ok(())
}

/// The command, for a person and as JSON, has the same samples as the port.
fn same_by_socket(fim: &Fim, page: &Page) -> Result<(), String> {
    let by_command = Page::parse(&fim.ok(&["metrics"])?)?;
    let names = |page: &Page| page.0.iter().map(|s| (s.name.clone(), s.labels.clone())).collect::<Vec<_>>();
    if names(&by_command) != names(page) {
        return Err(format!("by command {:?}, by port {:?}", names(&by_command), names(page)));
    }
    let json = fim.ok(&["metrics", "--json"])?;
    for line in json.lines() {
        let object: serde_json::Value = serde_json::from_str(line).map_err(|e| format!("{line}: {e}"))?;
        if object["name"] == "fim_responses_total" && object["labels"]["outcome"] == "quarantined" {
            let kind = object["labels"]["kind"].as_str().unwrap_or_default();
            let labels = [("kind", kind), ("outcome", "quarantined")];
            page.expect("fim_responses_total", &labels, object["value"].as_f64().unwrap_or(f64::NAN))?;
        }
    }
    if json.contains("\"name\":\"fim_record_seconds\"") {
        Ok(())
    } else {
        Err(format!("no histogram: {json}"))
    }
}

/// Another port by a reload; one that somebody has is refused with all that comes with it; counts go on.
fn reload(setting: &Setting) -> Outcome {
    let fim = Fim::new(setting, &setting.works[0], "metrics-reload", Policy::Restore)?;
    let (first, second) = (free()?, free()?);
    let plain = configure(&fim, &port(first))?;
    let file = fim.watched.join("file");
    std::fs::write(&file, "approved").map_err(io)?;
    fim.init()?;
    let mut daemon = fim.start()?;
    std::fs::write(&file, "evil").map_err(io)?;
    let modified = [("kind", "modified"), ("verdict", "unauthorised")];
    let counted = |address: SocketAddr| {
        wait::until(setting.patience, || {
            let page = Page::parse(&get(address, setting.patience)?.1)?;
            page.expect("fim_events_total", &modified, 1.0)?;
            page.expect("fim_ready", &[], 1.0)
        })
    };
    counted(first)?;
    let taken = TcpListener::bind(second).map_err(io)?;
    fim.write_config(&format!("{}{plain}", port(second))).map_err(io)?;
    daemon.hang_up()?;
    wait::until(setting.patience, || refused(&fim, &second.to_string()))?;
    counted(first)?;
    drop(taken);
    hang_up(&mut daemon, setting)?;
    counted(second)?;
    wait::until(setting.patience, || closed(first))?;
    fim.write_config(&plain).map_err(io)?;
    hang_up(&mut daemon, setting)?;
    wait::until(setting.patience, || closed(second))?;
    daemon.stop(setting.patience)?;
    fim.remove();
    Ok(String::new())
}

fn hang_up(daemon: &mut Daemon, setting: &Setting) -> Result<(), String> {
    daemon.hang_up()?;
    daemon.wait_line("reloaded", setting.patience)
}

fn refused(fim: &Fim, words: &str) -> Result<(), String> {
    let records = fim.log_after(0)?;
    let trouble = records.iter().filter(|r| r.kind == "trouble").filter_map(|r| r.message.as_deref());
    match trouble.into_iter().any(|said| said.contains("not reloaded") && said.contains(words)) {
        true => Ok(()),
        false => Err(format!("no record tells of {words}")),
    }
}

fn closed(address: SocketAddr) -> Result<(), String> {
    match std::net::TcpStream::connect(address) {
        Ok(_) => Err(format!("{address} still answers")),
        Err(_) => Ok(()),
    }
}

/// Who belongs to the readers' group has the same page, and who does not has a sentence.
fn group(setting: &Setting) -> Outcome {
    const MEMBER: (u32, u32) = (4_211, 4_212);
    const STRANGER: (u32, u32) = (4_213, 4_214);
    let fim = Fim::new(setting, &setting.works[0], "metrics-group", Policy::Restore)?;
    let socket = fim.home.join("run/control");
    let dir = socket.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir(dir).map_err(io)?;
    configure(&fim, &format!("[control]\ngroup = \"{}\"\nsocket = {socket:?}\n", MEMBER.1))?;
    fim.init()?;
    let daemon = fim.start()?;
    let ask = |(uid, gid): (u32, u32)| {
        let output = fim.command(&["metrics"]).uid(uid).gid(gid).output().map_err(io)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok::<_, String>((output.status.code(), text(&output.stdout), text(&output.stderr)))
    };
    let (code, text, problem) = ask(MEMBER)?;
    if code != Some(0) {
        return Err(format!("a member: {code:?} {problem}"));
    }
    Page::parse(&text)?.expect("fim_ready", &[], 1.0)?;
    let (code, text, problem) = ask(STRANGER)?;
    if code != Some(2) || !text.is_empty() || !problem.contains("group") {
        return Err(format!("a stranger: {code:?} {text} {problem}"));
    }
    daemon.stop(setting.patience)?;
    fim.remove();
    Ok(String::new())
}
