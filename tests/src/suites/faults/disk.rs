//! A disk that gives up, below the state directory and below the watch: a file system of its own that is told to stop.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use super::{Scene, text};
use crate::disk::{Disk, tool};
use crate::fim::Setting;
use crate::record::Record;
use crate::report::Outcome;
use crate::tree::as_approved;
use crate::wait;

/// Bytes.
const SIZE: u64 = 256 << 20;

/// The disk gives up with I/O errors.
pub fn state_fails(setting: &Setting) -> Outcome {
    without_state(setting, "state-fails", Disk::stop)
}

/// ext4 goes read-only by itself when it has met an error (`errors=remount-ro`), whoever has files open for writing.
pub fn state_read_only(setting: &Setting) -> Outcome {
    without_state(setting, "state-read-only", |disk| {
        tool(Command::new("mount").args(["-o", "remount,abort"]).arg(&disk.at))?;
        match File::create(disk.at.join("probe")) {
            Err(e) if e.raw_os_error() == Some(libc::EROFS) => Ok(()),
            other => Err(format!("the file system is not read-only, so this shows nothing: {other:?}")),
        }
    })
}

/// No record can be written and no evidence kept: nothing is touched until the next start on a sound disk.
fn without_state(setting: &Setting, name: &str, end: fn(&Disk) -> Result<(), String>) -> Outcome {
    let fim = Scene::fim(setting, name)?;
    let disk = Disk::new("ext4", SIZE, fim.home.join("image"), &fim.state)?;
    fs::set_permissions(&fim.state, std::os::unix::fs::PermissionsExt::from_mode(0o700)).map_err(text)?;
    let mut scene = Scene::begin(fim)?;
    end(&disk)?;
    Scene::write(setting, &scene.file)?;
    let said = wait::until(setting.patience, || {
        let words = scene.daemon.last_words();
        let told = words.contains("responses wait");
        if told || !scene.daemon.is_running() { Ok(words) } else { Err(format!("nobody is told: {words}")) }
    })?;
    if said.contains("is damaged") {
        return Err(format!("the database is whole, it is its disk that fails: {said}"));
    }
    scene.alive()?;
    if fs::read(&scene.file).map_err(text)? != Scene::altered() {
        return Err("the file was replaced although nothing of it could be kept".into());
    }
    let Scene { fim, daemon, file, approved } = scene;
    daemon.kill()?;
    disk.unmount()?;
    disk.mount()?;
    let daemon = fim.start()?;
    let mut scene = Scene { fim, daemon, file, approved };
    scene.recovers(setting)?;
    let Scene { fim, daemon, .. } = scene;
    daemon.stop(setting.patience)?;
    disk.unmount()?;
    fim.remove();
    Ok(said)
}

/// What cannot be read is not taken for deleted.
pub fn watch_fails(setting: &Setting) -> Outcome {
    let fim = Scene::fim(setting, "watch-fails")?;
    let disk = Disk::new("ext4", SIZE, fim.home.join("image"), &fim.watched)?;
    fs::remove_dir(fim.watched.join("lost+found")).map_err(text)?;
    scan_each_second(&fim)?;
    let mut scene = Scene::begin(fim)?;
    // What is not on the disk by now is lost with it.
    rustix::fs::sync();
    disk.stop()?;
    let said = scene.told(setting, &["nput/output error", "os error 5"])?;
    scene.alive()?;
    no_false_deletion(&scene)?;
    let Scene { fim, daemon, file, approved } = scene;
    daemon.stop(setting.patience)?;
    disk.unmount()?;
    disk.mount()?;
    let daemon = fim.start()?;
    let scene = Scene { fim, daemon, file, approved };
    as_approved(&scene.fim.watched, &scene.approved)?;
    no_false_deletion(&scene)?;
    let Scene { fim, daemon, .. } = scene;
    daemon.stop(setting.patience)?;
    disk.unmount()?;
    fim.remove();
    Ok(format!("\"{said}\""))
}

fn scan_each_second(fim: &crate::fim::Fim) -> Result<(), String> {
    let config = fs::read_to_string(&fim.config).map_err(text)?;
    fim.write_config(&format!("{config}interval = \"1s\"\n")).map_err(text)
}

fn no_false_deletion(scene: &Scene) -> Result<(), String> {
    match scene.fim.log_after(0)?.iter().find(|r| r.is_change()) {
        Some(record) => Err(format!("a disk that fails was taken for a change: {}", record.brief())),
        None => Ok(()),
    }
}

/// The blocks of one file are damaged below the file system, which notices by its checksums: that is no change, the other
/// files are guarded all the same, and the file is compared again once it can be read.
pub fn one_file_unreadable(setting: &Setting) -> Outcome {
    let fim = Scene::fim(setting, "unreadable")?;
    let disk = Disk::new("btrfs", SIZE, fim.home.join("image"), &fim.watched)?;
    let lost = fim.watched.join("lost");
    let content = b"content whose blocks will be damaged\n".repeat(400);
    fs::write(&lost, &content).map_err(text)?;
    let config = fs::read_to_string(&fim.config).map_err(text)?;
    fim.write_config(&config.replacen("[sensor]\n", "[sensor]\nscan_period = \"1s\"\n", 1)).map_err(text)?;
    let mut scene = Scene::begin(fim)?;
    rustix::fs::sync();
    let image = File::options().read(true).write(true).open(&disk.image).map_err(text)?;
    let start = position(&image, &content)?;
    image.write_all_at(b"damaged", start).map_err(text)?;
    forget(&lost)?;
    if fs::read(&lost).is_ok() {
        return Err("the damaged file can be read, so this shows nothing".into());
    }
    let said = scene.told(setting, &["nput/output error", "os error 5"])?;
    Scene::write(setting, &scene.file)?;
    let about = |scene: &Scene| -> Result<Vec<String>, String> {
        let records = scene.fim.log_after(0)?;
        Ok(records.iter().filter(|r| r.is_about(&lost) && r.is_change()).map(Record::brief).collect())
    };
    wait::until(setting.patience, || {
        let records = scene.fim.log_after(0)?;
        let restored = |r: &Record| r.is_about(&scene.file) && r.response == "restored";
        if records.iter().any(restored) { Ok(()) } else { Err("the other file is not put right".into()) }
    })?;
    image.write_all_at(&content[..7], start).map_err(text)?;
    forget(&lost)?;
    scene.recovers(setting)?;
    match about(&scene)?.as_slice() {
        [] => {}
        wrong => return Err(format!("what could not be read was taken for a change: {wrong:?}")),
    }
    let Scene { fim, daemon, .. } = scene;
    daemon.stop(setting.patience)?;
    disk.unmount()?;
    fim.remove();
    Ok(format!("\"{said}\""))
}

fn position(image: &File, content: &[u8]) -> Result<u64, String> {
    let length = image.metadata().map_err(text)?.len();
    let mut chunk = vec![0; 1 << 20];
    for at in (0..length).step_by(chunk.len()) {
        let read = image.read_at(&mut chunk, at).map_err(text)?;
        // Data starts at a block's start.
        let found =
            chunk[..read].chunks(4096).position(|block| content.starts_with(block) && block.len() == 4096);
        if let Some(block) = found {
            return Ok(at + 4096 * block as u64);
        }
    }
    Err("the file is not in the image".into())
}

/// The kernel reads it from the disk again.
fn forget(path: &Path) -> Result<(), String> {
    let file = File::open(path).map_err(text)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).map_err(text)
}
