//! The vault is removed, or what it holds is damaged, while the daemon runs.

use std::fs;

use super::{NAME, Scene, text};
use crate::actor::spawn;
use crate::fim::Setting;
use crate::report::Outcome;
use crate::state;
use crate::suites::table::place::{approved, approved_file};
use crate::tree::{as_approved, sha256};
use crate::wait;

/// Gone with all it held: nothing can be restored and no evidence be kept, so everything stays where it is.
pub fn removed(setting: &Setting) -> Outcome {
    let mut scene = Scene::begin(Scene::fim(setting, "gone")?)?;
    remove(setting, &scene)?;
    Scene::write(setting, &scene.file)?;
    let stray = scene.fim.watched.join("stray");
    spawn::start(&setting.actor, &["create".into(), stray.display().to_string()], false)?.finish()?;
    let said = scene.told(setting, &["the vault"])?;
    wait::until(setting.patience, || {
        let records = scene.fim.log_after(0)?;
        let told = |path| records.iter().any(|r| r.is_about(path));
        if told(&scene.file) && told(&stray) { Ok(()) } else { Err("not both changes are recorded".into()) }
    })?;
    scene.nothing_lost()?;
    // Whoever made it: it lies in the tree, or in a vault that the daemon has made anew.
    let created = crate::actor::CONTENT.to_vec();
    let kept =
        fs::read(&stray).is_ok_and(|content| content == created) || state::holds(&scene.fim.state, &created);
    if !kept {
        return Err("a created file was removed and is not in the vault".into());
    }
    scene.alive()?;
    let Scene { fim, daemon, file, approved: wanted } = scene;
    daemon.stop(setting.patience)?;
    // With a new vault, what should not be there can go, and what is put back by hand is right.
    let daemon = fim.start()?;
    let by_hand = fim.home.join("by-hand");
    approved_file(&by_hand, &approved(NAME)).and_then(|()| fs::rename(&by_hand, &file)).map_err(text)?;
    let scene = Scene { fim, daemon, file, approved: wanted };
    wait::until(setting.patience, || {
        as_approved(&scene.fim.watched, &scene.approved)?;
        scene.fim.at_rest()
    })?;
    if !state::holds(&scene.fim.state, &created) {
        return Err("the created file is gone and is not in the vault".into());
    }
    scene.end(setting)?;
    Ok(format!("\"{said}\""))
}

/// The approved version is damaged: the altered one stays, and the daemon says which object it is.
pub fn corrupted(setting: &Setting) -> Outcome {
    let mut scene = Scene::begin(Scene::fim(setting, "flipped")?)?;
    let digest = sha256(&approved(NAME));
    let objects = state::objects_of(&scene.fim.state)?;
    let object = objects.iter().find(|path| {
        let fan = path.parent().and_then(|p| p.file_name()).unwrap_or_default().to_string_lossy();
        let rest = path.file_name().unwrap_or_default().to_string_lossy();
        format!("{fan}{rest}").starts_with(&digest)
    });
    let object = object.ok_or("the approved content is not in the vault")?;
    let whole = fs::read(object).map_err(text)?;
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle..].iter_mut().for_each(|byte| *byte ^= 0x55);
    fs::write(object, &flipped).map_err(text)?;
    Scene::write(setting, &scene.file)?;
    let said = scene.told(setting, &[digest.as_str()])?;
    scene.nothing_lost()?;
    if fs::read(&scene.file).map_err(text)? != Scene::altered() {
        return Err("the altered file was replaced by something damaged".into());
    }
    scene.alive()?;
    fs::write(object, &whole).map_err(text)?;
    scene.recovers(setting)?;
    scene.end(setting)?;
    Ok(format!("\"{said}\""))
}

/// Its place is free at once; the daemon may still write into what it holds open.
fn remove(setting: &Setting, scene: &Scene) -> Result<(), String> {
    let gone = scene.fim.home.join("vault-gone");
    fs::rename(scene.fim.state.join("vault"), &gone).map_err(text)?;
    wait::until(setting.patience, || fs::remove_dir_all(&gone).map_err(text))
}
