//! SIGHUP: another configuration, without a moment in which nobody watches.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fim::{Daemon, Fim, Policy, Setting};
use crate::record::Record;
use crate::report::Outcome;
use crate::wait;

fn io(error: std::io::Error) -> String {
    error.to_string()
}

/// The configuration with these watches, each with all its keys.
fn config(fim: &Fim, setting: &Setting, watches: &[(&Path, &str)]) -> String {
    let mut text = format!("[state]\ndir = {:?}\n[sensor]\ntier = \"{}\"\n", fim.state, setting.tier);
    for (path, keys) in watches {
        text.push_str(&format!("[[watch]]\npath = {path:?}\n{keys}"));
    }
    text
}

const RESTORE: &str = "on_created = \"quarantine\"\n";
const ALERT: &str =
    "on_modified = \"alert\"\non_deleted = \"alert\"\non_attributes = \"alert\"\non_created = \"alert\"\n";

fn reload(daemon: &mut Daemon, setting: &Setting) -> Result<(), String> {
    daemon.hang_up()?;
    daemon.wait_line("reloaded", setting.patience)
}

/// What the unit does before each start: a new watch is approved as it is, and nothing else is.
pub fn init_missing(setting: &Setting) -> Outcome {
    let fim = Fim::new(setting, &setting.works[0], "missing", Policy::Alert)?;
    let (old, new) = (fim.watched.join("file"), fim.outside.join("file"));
    std::fs::write(&old, "approved").map_err(io)?;
    std::fs::write(&new, "approved").map_err(io)?;
    let said = fim.ok(&["init", "--missing"])?;
    if said.contains("verification key") {
        return Err(format!("the key of the seals would stand in the journal: {said}"));
    }
    std::fs::write(&old, "altered").map_err(io)?;
    fim.write_config(&config(&fim, setting, &[(&fim.watched, ALERT), (&fim.outside, ALERT)])).map_err(io)?;
    fim.ok(&["init", "--missing"])?;
    let (code, told) = fim.check()?;
    let names = |path: &Path| told.contains(&path.display().to_string());
    if (code, names(&old), names(&new)) != (1, true, false) {
        return Err(format!("fim check ends with {code}: {told}"));
    }
    fim.start()?.stop(setting.patience)?;
    fim.remove();
    Ok(String::new())
}

/// One watch is new, one changes its policy, then one goes.
pub fn other_watches(setting: &Setting) -> Outcome {
    let fim = Fim::new(setting, &setting.works[0], "reload", Policy::Alert)?;
    let (old, new) = (fim.watched.join("file"), fim.outside.join("file"));
    std::fs::write(&old, "approved").map_err(io)?;
    std::fs::write(&new, "approved").map_err(io)?;
    fim.init()?;
    let mut daemon = fim.start()?;
    fim.write_config(&config(&fim, setting, &[(&fim.outside, RESTORE), (&fim.watched, RESTORE)]))
        .map_err(io)?;
    reload(&mut daemon, setting)?;
    for file in [&old, &new] {
        std::fs::write(file, "evil").map_err(io)?;
        restored(&fim, setting, file)?;
    }
    fim.write_config(&config(&fim, setting, &[(&fim.outside, RESTORE)])).map_err(io)?;
    reload(&mut daemon, setting)?;
    std::fs::write(&old, "nobody cares").map_err(io)?;
    std::fs::write(&new, "evil again").map_err(io)?;
    restored(&fim, setting, &new)?;
    let records = fim.log_after(0)?;
    let count = |kind: &str| records.iter().filter(|r| r.kind == kind).count();
    let of_old = records.iter().filter(|r| r.is_about(&old)).count();
    if (count("started"), count("stopped"), count("reloaded"), of_old) != (1, 0, 2, 1) {
        return Err(format!("records: {:?}", records.iter().map(Record::brief).collect::<Vec<_>>()));
    }
    if std::fs::read(&old).map_err(io)? != b"nobody cares" {
        return Err("what is no longer watched was put back".into());
    }
    daemon.stop(setting.patience)?;
    fim.remove();
    Ok(String::new())
}

/// A second file of a folder of which one is watched already is new: it is approved with a record, and not taken away as
/// something that was created.
pub fn single_file(setting: &Setting) -> Outcome {
    let fim = Fim::new(setting, &setting.works[0], "reload-file", Policy::Alert)?;
    let (first, second) = (fim.watched.join("first"), fim.watched.join("second"));
    std::fs::write(&first, "approved").map_err(io)?;
    std::fs::write(&second, "approved").map_err(io)?;
    fim.write_config(&config(&fim, setting, &[(&first, RESTORE)])).map_err(io)?;
    fim.init()?;
    let mut daemon = fim.start()?;
    fim.write_config(&config(&fim, setting, &[(&first, RESTORE), (&second, RESTORE)])).map_err(io)?;
    reload(&mut daemon, setting)?;
    wait::until(setting.patience, || fim.at_rest())?;
    for file in [&first, &second] {
        std::fs::write(file, "evil").map_err(io)?;
        restored(&fim, setting, file)?;
    }
    let records = fim.log_after(0)?;
    let kinds: Vec<&str> = records.iter().map(|r| r.kind.as_str()).collect();
    let (accepted, reloaded) = (of(&kinds, "accepted"), of(&kinds, "reloaded"));
    let created = records.iter().any(|r| r.kind == "created" || r.response == "quarantined");
    match (accepted, reloaded) {
        (Some(accepted), Some(reloaded)) if accepted < reloaded && !created => {}
        _ => return Err(format!("records: {:?}", records.iter().map(Record::brief).collect::<Vec<_>>())),
    }
    daemon.stop(setting.patience)?;
    fim.remove();
    Ok(String::new())
}

fn of(kinds: &[&str], kind: &str) -> Option<usize> {
    kinds.iter().position(|k| *k == kind)
}

fn restored(fim: &Fim, setting: &Setting, file: &Path) -> Result<(), String> {
    wait::until(setting.patience, || {
        let content = std::fs::read_to_string(file).map_err(io)?;
        let told = fim.log_after(0)?.iter().any(|r| r.is_about(file) && r.response == "restored");
        match (content.as_str(), told) {
            ("approved", true) => Ok(()),
            _ => Err(format!("{} holds {content:?}, told: {told}", file.display())),
        }
    })
}

/// Somebody makes and alters files without a pause while one configuration follows the other: each of these changes has its
/// record, and none has two.
pub fn under_load(setting: &Setting) -> Outcome {
    const RELOADS: usize = 5;
    let fim = Fim::new(setting, &setting.works[0], "reload-load", Policy::Alert)?;
    let kept = fim.watched.join("kept");
    std::fs::create_dir(&kept).map_err(io)?;
    fim.init()?;
    let mut daemon = fim.start()?;
    let stop = AtomicBool::new(false);
    let (made, switched) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut made = 0u32;
            while !stop.load(Ordering::Relaxed) {
                std::fs::write(kept.join(made.to_string()), "new").map_err(io)?;
                made += 1;
                // So many that the switch meets some, and few enough for the ledger to follow.
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Ok::<_, String>(made)
        });
        let switched = (0..RELOADS).try_for_each(|number| {
            let keys = format!("{ALERT}repeat_limit = {}\n", number + 20);
            fim.write_config(&config(&fim, setting, &[(&fim.watched, &keys)])).map_err(io)?;
            reload(&mut daemon, setting)
        });
        stop.store(true, Ordering::Relaxed);
        (writer.join(), switched)
    });
    switched?;
    let made = made.map_err(|_| "the writer failed")??;
    wait::until(setting.patience, || fim.at_rest())?;
    daemon.stop(setting.patience)?;
    let mut told: HashMap<String, Vec<String>> = HashMap::new();
    for record in fim.log_after(0)?.iter().filter(|r| r.is_change()) {
        told.entry(record.path.clone().unwrap_or_default()).or_default().push(record.brief());
    }
    for number in 0..made {
        let path = kept.join(number.to_string()).display().to_string();
        match told.get(&path).map(Vec::as_slice) {
            None => return Err(format!("{path}, one of {made}, has no record")),
            // Made and then filled: two changes, if they are looked at one by one.
            Some([_]) | Some([_, _]) => {}
            Some(records) => return Err(format!("told more than once: {records:?}")),
        }
    }
    fim.remove();
    Ok(format!("({made} files, {RELOADS} reloads)"))
}

/// What is wrong with the new configuration is said, and the old one goes on.
pub fn refused(setting: &Setting) -> Outcome {
    let fim = Fim::new(setting, &setting.works[0], "reload-bad", Policy::Restore)?;
    let file = fim.watched.join("file");
    std::fs::write(&file, "approved").map_err(io)?;
    fim.init()?;
    let mut daemon = fim.start()?;
    let good = std::fs::read_to_string(&fim.config).map_err(io)?;
    let missing = fim.home.join("missing");
    let elsewhere = good.replace("/state", "/state2");
    let bad = [
        ("watchh = 1\n".to_owned(), "watchh"),
        (format!("{good}[[watch]]\npath = {missing:?}\n"), "cannot be opened"),
        (elsewhere, "[state] dir"),
        (
            format!(
                "{good}[[alert]]\ntype = \"webhook\"\nurl = \"https://localhost/\"\nsecret_file = {:?}\n",
                fim.home.join("no-such-secret")
            ),
            // A word that none of the refusals before had.
            "no-such-secret",
        ),
    ];
    for (text, word) in bad {
        let head = fim.log_head()?;
        fim.write_config(&text).map_err(io)?;
        daemon.hang_up()?;
        // Commands read the configuration as well.
        let refused = wait::until(setting.patience, || {
            let said = daemon.last_words();
            if said.contains("not reloaded") && said.contains(word) { Ok(()) } else { Err(said) }
        });
        fim.write_config(&good).map_err(io)?;
        refused?;
        wait::until(setting.patience, || {
            let records = fim.log_after(head)?;
            let told = records.iter().any(|r| {
                r.kind == "trouble" && r.message.as_deref().is_some_and(|m| m.contains("stays in force"))
            });
            if told { Ok(()) } else { Err(format!("no record of a refusal because of {word}")) }
        })?;
    }
    std::fs::write(&file, "evil").map_err(io)?;
    restored(&fim, setting, &file)?;
    // The one that was always in force needs no switch, a different one is taken.
    fim.write_config(&format!("{good}severity = \"low\"\n")).map_err(io)?;
    reload(&mut daemon, setting)?;
    daemon.stop(setting.patience)?;
    fim.remove();
    Ok(String::new())
}
