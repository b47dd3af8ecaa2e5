//! The vault has no room for a while, or loses what it held.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::time::Duration;

use nix::mount::{MsFlags, mount};

use super::mounts::{Mounted, fill};
use super::{NAME, Scene, text};
use crate::actor::spawn;
use crate::fim::{Fim, Setting};
use crate::report::Outcome;
use crate::state;
use crate::suites::table::place::approved;
use crate::tree::sha256;
use crate::wait;

/// A file that every record goes to, as to any sink.
const ALERTS: &str = "alerts";

fn with_alerts(fim: Fim) -> Result<Fim, String> {
    let config = fs::read_to_string(&fim.config).map_err(text)?;
    let path = fim.state.join(ALERTS);
    let log = format!("{config}\n[[log]]\ntype = \"file\"\npath = {path:?}\nformat = \"json\"\n");
    fim.write_config(&log).map_err(text)?;
    Ok(fim)
}

/// Waits until ledger, status and sink say these words.
fn told_everywhere(scene: &mut Scene, setting: &Setting, words: &str) -> Result<String, String> {
    let said = scene.told(setting, &[words])?;
    wait::until(setting.patience, || {
        let status = scene.fim.status()?.to_string();
        let alerts = fs::read_to_string(scene.fim.state.join(ALERTS)).map_err(text)?;
        match (status.contains(words), alerts.contains(words)) {
            (true, true) => Ok(()),
            _ => Err(format!("`{words}` is missing in the status or among the alerts: {status} {alerts}")),
        }
    })?;
    Ok(said)
}

/// No room for evidence: the change is told, nothing is taken away. With room again it is undone.
pub fn full(setting: &Setting) -> Outcome {
    let fim = with_alerts(Scene::fim(setting, "no-room")?)?;
    let vault = fim.state.join("vault");
    fs::DirBuilder::new().mode(0o700).create(&vault).map_err(text)?;
    mount(Some("none"), &vault, Some("tmpfs"), MsFlags::empty(), Some("size=1m,mode=0700")).map_err(text)?;
    let mounted = Mounted(&vault);
    let mut scene = Scene::begin(fim)?;
    let ballast = vault.join("ballast");
    fill(&ballast).map_err(text)?;
    Scene::write(setting, &scene.file)?;
    let said = told_everywhere(&mut scene, setting, "there is room, ")?;
    let records = scene.fim.log_after(0)?;
    let undone = records.iter().any(|r| r.is_about(&scene.file) && r.response == "restored");
    if undone || fs::read(&scene.file).map_err(text)? != Scene::altered() {
        return Err("what could not be kept was taken away".into());
    }
    let critical = records.iter().any(|r| r.kind == "trouble" && r.severity.as_deref() == Some("critical"));
    if !critical {
        return Err("no critical record tells of it".into());
    }
    scene.alive()?;
    fs::remove_file(&ballast).map_err(text)?;
    scene.recovers(setting)?;
    scene.told(setting, &["the vault has room again"])?;
    wait::until(setting.patience, || match scene.fim.status()?.to_string() {
        status if status.contains("until there is room") => {
            Err(format!("the status is out of date: {status}"))
        }
        _ => Ok(()),
    })?;
    scene.end(setting)?;
    drop(mounted);
    Ok(format!("\"{said}\""))
}

/// The vault is gone: what is still as approved is taken again, what is not is named, until the folder is back.
pub fn refilled(setting: &Setting) -> Outcome {
    let mut scene = Scene::begin(with_alerts(Scene::fim(setting, "refilled")?)?)?;
    let (vault, away) = (scene.fim.state.join("vault"), scene.fim.home.join("away"));
    fs::rename(&vault, &away).map_err(text)?;
    Scene::write(setting, &scene.file)?;
    let said = told_everywhere(&mut scene, setting, "is not in the vault (the first: ")?;
    scene.told(setting, &["was taken into the vault again"])?;
    let holds = |name: &str| -> Result<bool, String> {
        let digest = sha256(&approved(name));
        let held = |path: &std::path::PathBuf| path.display().to_string().replace('/', "").contains(&digest);
        Ok(state::objects_of(&scene.fim.state)?.iter().any(held))
    };
    if !holds("beside")? || holds(NAME)? {
        return Err("not what is still as approved, and that alone, is in the new vault".into());
    }
    scene.nothing_lost()?;
    fs::rename(&vault, scene.fim.home.join("new")).and_then(|()| fs::rename(&away, &vault)).map_err(text)?;
    // Something has to happen before it is noticed.
    let again = scene.fim.watched.join("beside");
    spawn::start(&setting.actor, &["write".into(), again.display().to_string()], false)?.finish()?;
    Scene::write(setting, &scene.file)?;
    wait::until(setting.patience.max(Duration::from_secs(90)), || {
        let right = fs::read(&scene.file).is_ok_and(|content| content == approved(NAME));
        if right { Ok(()) } else { Err("the folder is back, and the file is not put right".into()) }
    })?;
    scene.recovers(setting)?;
    scene.end(setting)?;
    Ok(format!("\"{said}\""))
}
