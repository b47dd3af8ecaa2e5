//! What is in quarantine: looked at, put back, copied, removed.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::world::{ODD, World, has, shown};
use crate::fim::{Policy, Setting};
use crate::report::Outcome;
use crate::wait;

fn io(e: std::io::Error) -> String {
    e.to_string()
}

fn gone(world: &World<'_>, path: &Path) -> Result<(), String> {
    wait::until(world.setting.patience, || match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(_) => Err(format!("{} is still there", path.display())),
    })
}

/// How many objects the vault has.
fn objects(world: &World<'_>) -> Result<usize, String> {
    let mut count = 0;
    for shelf in fs::read_dir(world.fim.state.join("vault/objects")).map_err(io)? {
        count += fs::read_dir(shelf.map_err(io)?.path()).map_err(io)?.count();
    }
    Ok(count)
}

/// A file, a symlink and a fifo with odd names: listed, shown, released, purged.
pub fn each_type(setting: &Setting, daemon: bool) -> Outcome {
    let name = format!("hands-quarantine-{daemon}");
    let mut world =
        World::new(setting, &name, Policy::Restore, |dir| fs::write(dir.join("approved"), "same\n"))?;
    let (file, link, fifo, twin) =
        (world.path(ODD), world.path("link"), world.path("fifo"), world.path("twin"));
    let before = objects(&world)?;
    let outside = world.fim.outside.join("made");
    fs::write(&outside, "found\x1b[2J\n").map_err(io)?;
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o6755)).map_err(io)?;
    chown(&outside, Some(1234), Some(2345)).map_err(io)?;
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o6755)).map_err(io)?;
    fs::rename(&outside, &file).map_err(io)?;
    gone(&world, &file)?;
    symlink("to\nnowhere", &link).map_err(io)?;
    gone(&world, &link)?;
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from(0o640), 0).map_err(|e| e.to_string())?;
    gone(&world, &fifo)?;
    fs::write(world.fim.outside.join("twin"), "same\n").map_err(io)?;
    fs::rename(world.fim.outside.join("twin"), &twin).map_err(io)?;
    gone(&world, &twin)?;
    for path in [&file, &link, &fifo, &twin] {
        world.recorded(path, "created", "quarantined")?;
    }
    world.only_if(daemon)?;
    has(
        &world.words(&["quarantine", "list"])?.expect(0)?,
        &[&shown(&file), "link (symlink)", "fifo (fifo)", "removed"],
    )?;
    let numbers = [&file, &link, &fifo].map(|path| world.number(path));
    let [id, link_id, fifo_id] = numbers;
    let (id, link_id, fifo_id) = (id?, link_id?, fifo_id?);
    let said = world.words(&["quarantine", "show", &id, "--content"])?.expect(0)?;
    has(&said, &["mode 6755", "owner 1234", "group 2345", "created", "| found\\x1b[2J"])?;
    if world.words(&["quarantine", "show", &id])?.expect(0)?.contains("found") {
        return Err("the content is shown without being asked for".into());
    }
    has(&world.words(&["quarantine", "show", &link_id])?.expect(0)?, &["symlink to to\\x0anowhere"])?;
    fs::write(&link, "in the way")
        .map_err(io)
        .and_then(|()| if daemon { gone(&world, &link) } else { Ok(()) })?;
    if !daemon {
        world.words(&["quarantine", "release", &link_id])?.refused(&["in its place"])?;
        fs::remove_file(&link).map_err(io)?;
    }
    for id in [&id, &link_id, &fifo_id] {
        world.words(&["quarantine", "release", id, "--reason", "ours"])?.expect(0)?;
    }
    let meta = fs::metadata(&file).map_err(io)?;
    if (meta.mode() & 0o7777, meta.uid(), meta.gid()) != (0o6755, 1234, 2345) {
        return Err(format!("released with mode {:o} of {}:{}", meta.mode(), meta.uid(), meta.gid()));
    }
    let target = fs::read_link(&link).map_err(io)?;
    let is_fifo = fs::symlink_metadata(&fifo).map_err(io)?.file_type().is_fifo();
    if target != Path::new("to\nnowhere") || !is_fifo {
        return Err("the link or the fifo is not what it was".into());
    }
    world.recorded(&file, "released", "restored")?;
    has(&world.words(&["log", "--json"])?.expect(0)?, &["fim quarantine release: ours"])?;
    purged(&world, &twin, before)?;
    world.settled()?;
    Ok(String::new())
}

/// Content that something approved needs as well stays; content that nothing needs goes.
fn purged(world: &World<'_>, twin: &Path, before: usize) -> Result<(), String> {
    let id = world.number(twin)?;
    world.words(&["quarantine", "purge", &id])?.refused(&["--yes"])?;
    world.words(&["quarantine", "purge", "--yes", &id])?.expect(0)?;
    world.words(&["quarantine", "purge", "--yes", &id])?.refused(&["purged already"])?;
    world.words(&["quarantine", "release", &id])?.refused(&["purged already"])?;
    world.recorded(twin, "purged", "none")?;
    if world.number(twin).is_ok() {
        return Err("what was purged is still listed".into());
    }
    let all = world.list(&["--all"])?;
    if !all.iter().any(|row| row["fate"] == "purged") {
        return Err("what was purged is forgotten altogether".into());
    }
    // The approved file has the same content.
    fs::write(world.path("approved"), "altered\n").map_err(io)?;
    world.about(&["restore"], &world.path("approved"))?.expect(0)?;
    wait::until(world.setting.patience, || match fs::read(world.path("approved")) {
        Ok(content) if content == b"same\n" => Ok(()),
        other => Err(format!("the approved file reads {other:?}")),
    })?;
    if world.daemon.is_some() {
        world.recorded(&world.path("approved"), "modified", "restored")?;
    }
    world.words(&["quarantine", "purge", "--yes", "--older-than", "1h"])?.expect(0)?;
    let kept = objects(world)?;
    world.words(&["quarantine", "purge", "--yes", "--older-than", "0s"])?.expect(0)?;
    let next = wait::until(world.setting.patience, || {
        // Within the second in which it was put away it is not older than that.
        world.words(&["quarantine", "purge", "--yes", "--older-than", "0s"])?.expect(0)?;
        let left = world.list(&[])?;
        if left.is_empty() { objects(world) } else { Err(format!("still there: {left:?}")) }
    })?;
    // What was released is approved now; what replaced the approved file has gone.
    match next {
        n if n >= kept || n != before + 1 => Err(format!("{before} objects at first, {kept}, then {n}")),
        _ => Ok(()),
    }
}

fn make_tree(top: &Path) -> std::io::Result<()> {
    fs::create_dir_all(top.join("sub/deep"))?;
    fs::write(top.join("sub/deep/file"), "deep\n")?;
    fs::write(top.join("a"), "a\n")?;
    symlink("a", top.join("sub/link"))?;
    fs::set_permissions(top.join("sub"), fs::Permissions::from_mode(0o2750))?;
    chown(top.join("sub/deep"), Some(1234), Some(2345))?;
    Ok(())
}

/// A whole tree is one line, and comes back whole.
pub fn tree(setting: &Setting, daemon: bool) -> Outcome {
    let mut world = World::new(setting, &format!("hands-tree-{daemon}"), Policy::Restore, |_| Ok(()))?;
    let (outside, top) = (world.fim.outside.join("tree"), world.path("tree"));
    make_tree(&outside).map_err(io)?;
    fs::rename(&outside, &top).map_err(io)?;
    world.recorded(&top.join("sub/deep/file"), "created", "quarantined")?;
    world.recorded(&top, "created", "quarantined")?;
    gone(&world, &top)?;
    world.only_if(daemon)?;
    let list = world.list(&[])?;
    if list.len() != 1 || list[0]["files"] != 6 || list[0]["type"] != "directory" {
        return Err(format!("the tree is listed as {list:?}"));
    }
    let id = world.number(&top)?;
    let shown = world.words(&["quarantine", "show", &id])?.expect(0)?;
    has(&shown, &["tree/sub/deep/file", "tree/sub/link", "owner 1234"])?;
    world.words(&["quarantine", "release", &id])?.expect(0)?;
    let deep = fs::metadata(top.join("sub/deep")).map_err(io)?;
    let mode = fs::metadata(top.join("sub")).map_err(io)?.mode() & 0o7777;
    if (fs::read(top.join("sub/link")).is_ok(), deep.uid(), deep.gid(), mode) != (false, 1234, 2345, 0o2750) {
        return Err(format!("it came back with mode {mode:o} and owner {}:{}", deep.uid(), deep.gid()));
    }
    if fs::read(top.join("sub/deep/file")).map_err(io)? != b"deep\n" {
        return Err("a file of the tree did not come back".into());
    }
    if daemon {
        // The folders are watched again: what comes into them is seen.
        let late = top.join("sub/deep/late");
        fs::write(&late, "late").map_err(io)?;
        world.recorded(&late, "created", "quarantined")?;
        gone(&world, &late)?;
    }
    world.settled()?;
    Ok(String::new())
}

/// A copy elsewhere is harmless, goes through no link, and changes nothing.
pub fn copy(setting: &Setting, daemon: bool) -> Outcome {
    let mut world = World::new(setting, &format!("hands-copy-{daemon}"), Policy::Restore, |_| Ok(()))?;
    let (outside, top) = (world.fim.outside.join("tree"), world.path("tree"));
    make_tree(&outside).map_err(io)?;
    fs::set_permissions(outside.join("a"), fs::Permissions::from_mode(0o6777)).map_err(io)?;
    fs::rename(&outside, &top).map_err(io)?;
    world.recorded(&top, "created", "quarantined")?;
    gone(&world, &top)?;
    world.only_if(daemon)?;
    let (id, list) = (world.number(&top)?, world.list(&[])?);
    let to = world.fim.outside.join("copies");
    let secret = world.fim.outside.join("secret");
    fs::create_dir(&to).and_then(|()| fs::create_dir(&secret)).map_err(io)?;
    let release = |dir: &Path| {
        let dir = dir.display().to_string();
        world.words(&["quarantine", "release", &id, "--to", &dir])
    };
    release(&world.fim.watched)?.refused(&["guards"])?;
    release(&world.fim.state)?.refused(&["guards"])?;
    release(&world.fim.outside.join("nothing"))?.refused(&["name a folder"])?;
    let turned = world.fim.outside.join("turned");
    symlink(&to, &turned).and_then(|()| fs::create_dir(to.join("in"))).map_err(io)?;
    for through in [turned.clone(), turned.join("in")] {
        release(&through)?.refused(&["symbolic link", &to.display().to_string()])?;
    }
    fs::remove_dir(to.join("in")).map_err(io)?;
    symlink(&secret, to.join("tree")).map_err(io)?;
    release(&to)?.refused(&["already"])?;
    if fs::read_dir(&secret).map_err(io)?.count() > 0 {
        return Err("the copy went through a link".into());
    }
    fs::remove_file(to.join("tree")).map_err(io)?;
    release(&to)?.expect(0)?;
    for (name, mode) in
        [("tree/a", 0o600), ("tree/sub", 0o700), ("tree/sub/deep/file", 0o600), ("tree/sub/link", 0o600)]
    {
        let meta = fs::symlink_metadata(to.join(name)).map_err(io)?;
        if (meta.mode() & 0o7777, meta.uid(), meta.gid()) != (mode, 0, 0) || meta.file_type().is_symlink() {
            return Err(format!(
                "{name} is a copy with mode {:o} of {}:{}",
                meta.mode(),
                meta.uid(),
                meta.gid()
            ));
        }
    }
    if fs::read(to.join("tree/sub/deep/file")).map_err(io)? != b"deep\n" {
        return Err("the copy has other content".into());
    }
    release(&to)?.refused(&["already"])?;
    if world.list(&[])? != list {
        return Err("a copy changed what is in quarantine".into());
    }
    world.settled()?;
    Ok(String::new())
}

/// The daemon that runs prunes when it is asked to, and says what that freed.
pub fn prune(setting: &Setting, daemon: bool) -> Outcome {
    let name = format!("hands-prune-{daemon}");
    let mut world =
        World::new(setting, &name, Policy::Restore, |dir| fs::write(dir.join("approved"), "same\n"))?;
    let path = world.path("planted");
    fs::write(world.fim.outside.join("planted"), vec![7; 9000]).map_err(io)?;
    fs::rename(world.fim.outside.join("planted"), &path).map_err(io)?;
    gone(&world, &path)?;
    world.recorded(&path, "created", "quarantined")?;
    world.only_if(daemon)?;
    let before = objects(&world)?;
    world.words(&["vault", "prune"])?.refused(&["--older-than"])?;
    let text = world.words(&["vault", "prune", "--max-size", "4KiB", "--json"])?.expect(0)?;
    let told: serde_json::Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
    if told["removed"] != 1 || told["freed"].as_u64() < Some(4096) || told["over"] != 0 {
        return Err(format!("it says {told}"));
    }
    if objects(&world)? + 1 != before {
        return Err("not one object less is there".into());
    }
    has(&world.words(&["log", "--json"])?.expect(0)?, &["for the size of all", "fim vault prune"])?;
    has(&world.words(&["quarantine", "list", "--all"])?.expect(0)?, &["evicted"])?;
    let said = world.words(&["vault", "prune", "--older-than", "1d"])?.expect(0)?;
    has(&said, &["nothing had to go"])?;
    if let Some(daemon) = &mut world.daemon
        && !daemon.is_running()
    {
        return Err(format!("the daemon is gone; {}", daemon.last_words()));
    }
    world.settled()?;
    Ok(String::new())
}

/// While nothing can be recorded, nothing that stood in a place is lost: it is told of as soon as something can.
pub fn unrecorded(setting: &Setting, daemon: bool) -> Outcome {
    let name = format!("hands-unrecorded-{daemon}");
    let mut world =
        World::new(setting, &name, Policy::Alert, |dir| fs::write(dir.join("file"), "what is approved"))?;
    let file = world.path("file");
    fs::write(&file, "evidence").map_err(io)?;
    world.recorded(&file, "modified", "none")?;
    world.only_if(daemon)?;
    let database = rusqlite::Connection::open(world.fim.state.join("fim.db")).map_err(|e| e.to_string())?;
    let alter = |sql: &str| database.execute_batch(sql).map_err(|e| e.to_string());
    alter("CREATE TRIGGER broken BEFORE INSERT ON ledger BEGIN SELECT RAISE(ABORT, 'broken'); END")?;
    world.about(&["restore"], &file)?.refused(&["broken"])?;
    alter("DROP TRIGGER broken")?;
    if !daemon {
        world.daemon = Some(world.fim.start()?);
    }
    wait::until(world.setting.patience, || {
        let held = world.list(&[])?;
        let row = held.iter().find(|row| row["bytes"] == 8).ok_or(format!("it is not kept: {held:?}"))?;
        let said = world.words(&["quarantine", "show", &row["id"].to_string(), "--content"])?.expect(0)?;
        has(&said, &["| evidence"])
    })?;
    let left: Vec<_> = fs::read_dir(&world.fim.watched)
        .map_err(io)?
        .filter_map(|entry| entry.ok().map(|entry| entry.file_name()))
        .filter(|name| name.to_string_lossy().starts_with(".fim-"))
        .collect();
    if !left.is_empty() {
        return Err(format!("left behind: {left:?}"));
    }
    world.settled()?;
    Ok(String::new())
}
