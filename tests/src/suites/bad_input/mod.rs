//! What goes wrong around fim: each time one clear sentence, the right exit code, and nothing lost.

mod disk;
mod poor;
mod sentence;

use crate::fim::{Fim, Policy, Setting};
use crate::report::{Outcome, Report};
use sentence::refused;

/// A configuration that is not accepted: name, lines put in place of the watch's, words of the answer.
const CONFIGURATIONS: &[(&str, &str, &[&str])] = &[
    ("unknown-key", "on_modifed = \"restore\"\n", &["fim.toml:6:", "on_modifed", "on_modified"]),
    ("bad-value", "on_created = \"destroy\"\n", &["fim.toml:6:", "on_created", "destroy", "quarantine"]),
    ("bad-pattern", "exclude = [\"a{\"]\n", &["fim.toml:6:", "exclude", "a{"]),
    ("not-toml", "on_created = \n", &["fim.toml:6:"]),
    ("bad-table", "[[wach]]\n", &["fim.toml:6:", "wach", "watch"]),
];

pub fn run(setting: &Setting, report: &mut Report) {
    for (name, lines, words) in CONFIGURATIONS {
        report.case(&format!("bad-input/{name}"), || configuration(setting, name, lines, words));
    }
    report.case("bad-input/no-configuration", || no_configuration(setting));
    report.case("bad-input/missing-path", || missing_path(setting));
    report.case("bad-input/corrupt-database", || corrupt_database(setting));
    report.case("bad-input/unreadable-watch", || poor::unreadable_watch(setting));
    report.case("bad-input/bound-root", || poor::bound_root(setting));
    report.case("bad-input/no-privilege", || poor::no_privilege(setting));
    report.case("bad-input/no-btf", || poor::no_btf(setting));
    report.case("bad-input/full-disk-at-init", || disk::at_init(setting));
    report.case("bad-input/full-disk-running", || disk::running(setting));
}

fn new(setting: &Setting, name: &str) -> Result<Fim, String> {
    let work = setting.works.first().ok_or("no work directory")?;
    Fim::new(setting, work, name, Policy::Restore)
}

fn configuration(setting: &Setting, name: &str, lines: &str, words: &[&str]) -> Outcome {
    let fim = new(setting, name)?;
    let text = format!("[state]\ndir = {:?}\n\n[[watch]]\npath = {:?}\n{lines}", fim.state, fim.watched);
    fim.write_config(&text).map_err(|e| e.to_string())?;
    let mut said = String::new();
    for command in ["init", "run", "check"] {
        said = refused(fim.output(&[command])?, words)?;
    }
    fim.remove();
    Ok(said)
}

fn no_configuration(setting: &Setting) -> Outcome {
    let fim = new(setting, "no-configuration")?;
    std::fs::remove_file(&fim.config).map_err(|e| e.to_string())?;
    let said = refused(fim.output(&["run"])?, &["fim.toml"])?;
    fim.remove();
    Ok(said)
}

fn missing_path(setting: &Setting) -> Outcome {
    let fim = new(setting, "missing-path")?;
    std::fs::remove_dir(&fim.watched).map_err(|e| e.to_string())?;
    let watched = fim.watched.display().to_string();
    refused(fim.output(&["init"])?, &[&watched])?;
    let said = refused(fim.output(&["run"])?, &[&watched])?;
    fim.remove();
    Ok(said)
}

fn corrupt_database(setting: &Setting) -> Outcome {
    let fim = new(setting, "corrupt-database")?;
    std::fs::write(fim.watched.join("file"), "approved").map_err(|e| e.to_string())?;
    fim.init()?;
    let database = fim.state.join("fim.db");
    let garbage = b"this is no database, and was one before ".repeat(500);
    std::fs::write(&database, &garbage).map_err(|e| e.to_string())?;
    let mut said = String::new();
    for command in [&["run"][..], &["check"], &["log", "--json"]] {
        said = refused(fim.output(command)?, &[&database.display().to_string()])?;
    }
    // What is left of it may still be of use to somebody: it must not be replaced by an empty one.
    let now = std::fs::read(&database).map_err(|e| e.to_string())?;
    if now != garbage {
        return Err("the damaged database was overwritten".into());
    }
    fim.remove();
    Ok(said)
}
