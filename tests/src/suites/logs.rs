//! The log file of a real daemon: below a watch, rotated by logrotate, across kills.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fim::{Fim, Policy, Setting};
use crate::record::parse_lines;
use crate::report::{Outcome, Report};
use crate::wait;

pub fn run(setting: &Setting, report: &mut Report) {
    report.case("logs/rotated-and-killed", || rotated_and_killed(setting));
    report.case("logs/hang-up-without-logs", || hang_up(setting));
}

const LOGROTATE: &str = "/usr/sbin/logrotate";

/// Whatever logrotate and kill -9 do, every record of the ledger is in one of the files, and none is about them.
fn rotated_and_killed(setting: &Setting) -> Outcome {
    if !Path::new(LOGROTATE).exists() {
        return Err(format!("there is no {LOGROTATE}; `cargo xtask setup` installs it"));
    }
    let fim = Fim::new(setting, &setting.works[0], "logs", Policy::Restore)?;
    let io = |e: std::io::Error| e.to_string();
    let (folder, file) = (fim.watched.join("log"), fim.watched.join("file"));
    std::fs::create_dir(&folder).map_err(io)?;
    std::fs::write(&file, "approved").map_err(io)?;
    let log = folder.join("fim.log");
    let config = std::fs::read_to_string(&fim.config).map_err(io)?;
    let more = format!("\n[[log]]\ntype = \"file\"\nformat = \"json\"\npath = {log:?}\n");
    fim.write_config(&(config + &more)).map_err(io)?;
    fim.init()?;
    let mut rotations = 0;
    for round in 0..4 {
        let daemon = fim.start()?;
        for n in 0..20 {
            let head = fim.log_head()?;
            std::fs::write(&file, format!("evil {round} {n}")).map_err(io)?;
            if n % 5 == 3 {
                rotate(&fim, &log, daemon.pid())?;
                rotations += 1;
            }
            wait::until(setting.patience, || match fim.log_head()? > head {
                true => Ok(()),
                false => Err("no record of the change".into()),
            })?;
        }
        match round % 2 {
            0 => daemon.kill()?,
            _ => daemon.stop(setting.patience)?,
        }
    }
    let daemon = fim.start()?;
    let records = fim.log_after(0)?;
    wait::until(setting.patience, || {
        let written = ids(&folder)?;
        let missing = records.iter().filter(|r| !written.contains(&r.id)).count();
        if missing == 0 {
            Ok(())
        } else {
            Err(format!("{missing} of {} records are in no log", records.len()))
        }
    })?;
    daemon.stop(setting.patience)?;
    let about_logs = |r: &&crate::record::Record| {
        r.path.as_deref().is_some_and(|path| Path::new(path).starts_with(&folder))
    };
    if let Some(record) = fim.log_after(0)?.iter().find(about_logs) {
        return Err(format!("the log's own lines are a change: {}", record.brief()));
    }
    let parts = files(&folder)?.len();
    if parts < rotations / 2 {
        return Err(format!("{rotations} rotations left {parts} files"));
    }
    fim.remove();
    Ok(format!("({} records in {parts} files)", records.len()))
}

fn rotate(fim: &Fim, log: &Path, pid: u32) -> Result<(), String> {
    let conf = fim.state.join("logrotate.conf");
    let text = format!("{log:?} {{\nrotate 999\nmissingok\npostrotate\nkill -HUP {pid}\nendscript\n}}\n");
    std::fs::write(&conf, text).map_err(|e| e.to_string())?;
    let out = Command::new(LOGROTATE)
        .args(["--force", "--state"])
        .arg(fim.state.join("logrotate.state"))
        .arg(&conf)
        .output()
        .map_err(|e| e.to_string())?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!("logrotate: {}", String::from_utf8_lossy(&out.stderr)))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| e.to_string())?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

/// The ids of all records in all files; every line is a whole one.
fn ids(folder: &Path) -> Result<HashSet<String>, String> {
    let mut ids = HashSet::new();
    for file in files(folder)? {
        let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        ids.extend(parse_lines(whole)?.into_iter().map(|record| record.id));
    }
    Ok(ids)
}

/// SIGHUP ends no daemon, whatever it logs.
fn hang_up(setting: &Setting) -> Outcome {
    let fim = Fim::new(setting, &setting.works[0], "hup", Policy::Restore)?;
    let file = fim.watched.join("file");
    std::fs::write(&file, "approved").map_err(|e| e.to_string())?;
    fim.init()?;
    let mut daemon = fim.start()?;
    daemon.hang_up()?;
    std::fs::write(&file, "evil").map_err(|e| e.to_string())?;
    wait::until(setting.patience, || match std::fs::read(&file) {
        Ok(content) if content == b"approved" => Ok(()),
        _ => Err("the change was not undone after SIGHUP".into()),
    })?;
    if !daemon.is_running() {
        return Err("SIGHUP ended the daemon".into());
    }
    daemon.stop(setting.patience)?;
    fim.remove();
    Ok(String::new())
}
