//! Accepting, restoring, comparing.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Stdio;

use super::world::{ODD, World, has};
use crate::fim::{Policy, Setting};
use crate::report::Outcome;
use crate::wait;

fn name(what: &str, daemon: bool) -> String {
    format!("hands-{what}-{daemon}")
}

fn io(e: std::io::Error) -> String {
    e.to_string()
}

/// A modified, a new, a deleted and an odd file, each accepted as it is.
pub fn present(setting: &Setting, daemon: bool) -> Outcome {
    let mut world = World::new(setting, &name("accept", daemon), Policy::Alert, |dir| {
        fs::write(dir.join("modified"), "one\ntwo\n")?;
        fs::write(dir.join("deleted"), "gone soon\n")
    })?;
    let (modified, new, deleted, odd) =
        (world.path("modified"), world.path("new"), world.path("deleted"), world.path(ODD));
    world.only_if(daemon)?;
    fs::write(&modified, "one\n2\n").map_err(io)?;
    fs::set_permissions(&modified, fs::Permissions::from_mode(0o4751)).map_err(io)?;
    fs::write(&new, "new\n").map_err(io)?;
    chown(&new, Some(1234), Some(2345)).map_err(io)?;
    fs::remove_file(&deleted).map_err(io)?;
    fs::write(&odd, "odd\x1b]0;x\x07\n").map_err(io)?;
    if daemon {
        for (path, kind) in
            [(&modified, "modified"), (&new, "created"), (&deleted, "deleted"), (&odd, "created")]
        {
            world.recorded(path, kind, "none")?;
        }
    }
    world.about(&["accept"], &modified)?.refused(&["--yes"])?;
    let said = world.about(&["accept", "--yes", "--reason", "new host key"], &modified)?.expect(0)?;
    has(&said, &["-two", "+2", "mode 0644 -> 4751", "accepted"])?;
    for path in [&new, &deleted, &odd] {
        world.about(&["accept", "--yes"], path)?.expect(0)?;
        let said = world.about(&["accept", "--yes"], path);
        if path != &deleted {
            has(&said?.expect(0)?, &["nothing differs"])?;
        }
    }
    let record = world.recorded(&modified, "accepted", "none")?;
    let log = world.words(&["log", "--json"])?.expect(0)?;
    has(&log, &["person: ", " from fim accept: new host key"])?;
    let (before, after) = (record.before.ok_or("no state before")?, record.after.ok_or("no state after")?);
    if (before.mode.as_str(), after.mode.as_str(), record.verdict.as_deref())
        != ("0644", "4751", Some("authorised"))
    {
        return Err(format!("the record tells {before:?}, {after:?}, {:?}", record.verdict));
    }
    let gone = world.recorded(&deleted, "accepted", "none")?;
    if gone.before.is_none() || gone.after.is_some() {
        return Err(format!("the deletion is told as {}", gone.brief()));
    }
    world.recorded(&odd, "accepted", "none")?;
    // What was approved before can be had back.
    world.about(&["restore", "--version", &record.seq.to_string()], &modified)?.expect(0)?;
    if fs::read(&modified).map_err(io)? != b"one\ntwo\n" {
        return Err("the former version did not come back".into());
    }
    world.settled()?;
    Ok(String::new())
}

/// A folder that came, one that went, and what is in them.
pub fn folder(setting: &Setting, daemon: bool) -> Outcome {
    let mut world = World::new(setting, &name("folder", daemon), Policy::Alert, |dir| {
        fs::create_dir_all(dir.join("old/deep"))?;
        fs::write(dir.join("old/deep/file"), "x")?;
        fs::write(dir.join("old-not"), "y")
    })?;
    world.only_if(daemon)?;
    fs::remove_dir_all(world.path("old")).map_err(io)?;
    fs::create_dir_all(world.path("new/deep")).map_err(io)?;
    for n in 0..200 {
        fs::write(world.path(format!("new/deep/{n}")), format!("{n}\n")).map_err(io)?;
    }
    symlink("deep/7", world.path("new/link")).map_err(io)?;
    if daemon {
        world.recorded(&world.path("new/deep/199"), "created", "none")?;
        world.recorded(&world.path("old/deep/file"), "deleted", "none")?;
    }
    world.about(&["accept", "--yes"], &world.path("new/deep/7"))?.refused(&["folder"])?;
    world.about(&["accept", "--yes"], &world.path("old"))?.refused(&["--recursive"])?;
    world.about(&["accept", "--yes", "--recursive", "--json"], &world.path("new"))?.expect(0)?;
    world.about(&["accept", "--yes", "--recursive"], &world.path("old"))?.expect(0)?;
    let accepted = world.fim.log_after(0)?.iter().filter(|r| r.kind == "accepted").count();
    if accepted != 203 + 3 {
        return Err(format!("{accepted} records of approval, not one for each path"));
    }
    world.settled()?;
    Ok(String::new())
}

/// Names and states that are long once they are written as text do not make a request too long.
pub fn long_names(setting: &Setting, daemon: bool) -> Outcome {
    let mut world = World::new(setting, &name("long", daemon), Policy::Alert, |_| Ok(()))?;
    world.only_if(daemon)?;
    let folder = world.path("new");
    fs::create_dir(&folder).map_err(io)?;
    let target = OsStr::from_bytes(&[0xff; 4_000]);
    for n in 0..100 {
        let name = [format!("{n}").into_bytes(), vec![0xff; 240]].concat();
        symlink(target, folder.join(OsStr::from_bytes(&name))).map_err(io)?;
    }
    world
        .about(&["accept", "--yes", "--recursive", "--reason", &"why".repeat(10_000)], &folder)?
        .expect(0)?;
    world.settled()?;
    Ok(String::new())
}

/// The version that an event saw, although it was put away since.
pub fn event(setting: &Setting, daemon: bool) -> Outcome {
    let mut world = World::new(setting, &name("event", daemon), Policy::Restore, |dir| {
        fs::write(dir.join("file"), "approved\n")?;
        fs::write(dir.join("unloved"), "approved\n")
    })?;
    let (file, new, unloved) = (world.path("file"), world.path(ODD), world.path("unloved"));
    fs::write(&file, "better\n").map_err(io)?;
    let modified = world.recorded(&file, "modified", "restored")?;
    fs::write(&new, "added\n").map_err(io)?;
    let created = world.recorded(&new, "created", "quarantined")?;
    fs::remove_file(&unloved).map_err(io)?;
    let deleted = world.recorded(&unloved, "deleted", "restored")?;
    world.only_if(daemon)?;
    let said = world.words(&["accept", "--yes", &modified.seq.to_string()])?.expect(0)?;
    has(&said, &["-approved", "+better"])?;
    let rest = ["accept", "--yes", &created.id[..10], &deleted.seq.to_string()];
    world.words(&rest)?.expect(0)?;
    let now = (fs::read(&file).map_err(io)?, fs::read(&new).map_err(io)?, unloved.exists());
    if now != (b"better\n".to_vec(), b"added\n".to_vec(), false) {
        return Err(format!("the files are {now:?}"));
    }
    world.recorded(&file, "accepted", "restored")?;
    world.recorded(&unloved, "accepted", "quarantined")?;
    let head = world.fim.log_head()?;
    world.words(&["accept", "--yes", "999999"])?.refused(&["no event 999999"])?;
    world.words(&["accept", "--yes", &head.to_string()])?.refused(&["nothing to approve"])?;
    world.settled()?;
    Ok(String::new())
}

/// Between being shown and being approved, the file became something else.
pub fn changed_meanwhile(setting: &Setting, daemon: bool) -> Outcome {
    let mut world = World::new(setting, &name("changed", daemon), Policy::Alert, |dir| {
        fs::write(dir.join("file"), "approved\n")
    })?;
    let file = world.path("file");
    world.only_if(daemon)?;
    for (answer, alter) in [("y\n", true), ("n\n", false), ("y\n", false)] {
        fs::write(&file, "harmless\n").map_err(io)?;
        let (code, out, err) = on_terminal(&world, &file, answer, || {
            if alter { fs::write(&file, "evil\n").map_err(io) } else { Ok(()) }
        })?;
        has(&out, &["+harmless"])?;
        let expected = match (answer, alter) {
            (_, true) => 2,
            ("n\n", _) => 1,
            _ => 0,
        };
        if code != expected {
            return Err(format!("ended with {code}, not {expected}: {out}{err}"));
        }
        if alter {
            has(&err, &["changed since you were shown it"])?;
        }
        let accepted = world.fim.log_after(0)?.iter().filter(|r| r.kind == "accepted").count();
        if accepted != usize::from(expected == 0) {
            return Err(format!("{accepted} approvals after the answer {answer:?}"));
        }
    }
    world.settled()?;
    Ok(String::new())
}

/// `fim accept` with a terminal; `meanwhile` happens once it has asked.
fn on_terminal(
    world: &World<'_>,
    path: &Path,
    answer: &str,
    meanwhile: impl FnOnce() -> Result<(), String>,
) -> Result<(i32, String, String), String> {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let open = || -> rustix::io::Result<_> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        Ok((ours, rustix::fs::open(&*name, flags, rustix::fs::Mode::empty())?))
    };
    let (ours, theirs) = open().map_err(|e| format!("no terminal: {e}"))?;
    let mut command = world.fim.command(&["accept"]);
    let mut child = command
        .arg(path)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io)?;
    let mut err = child.stderr.take().ok_or("no stderr")?;
    let mut asked = Vec::new();
    while !asked.ends_with(b"[y/N] ") {
        let mut byte = [0];
        if err.read(&mut byte).map_err(io)? == 0 {
            return Err(format!("it did not ask: {}", String::from_utf8_lossy(&asked)));
        }
        asked.push(byte[0]);
    }
    meanwhile()?;
    fs::File::from(ours.try_clone().map_err(io)?).write_all(answer.as_bytes()).map_err(io)?;
    let mut rest = String::new();
    err.read_to_string(&mut rest).map_err(io)?;
    let output = child.wait_with_output().map_err(io)?;
    drop(ours);
    let code = output.status.code().ok_or("it was killed")?;
    Ok((code, String::from_utf8_lossy(&output.stdout).into_owned(), rest))
}

/// Put back by hand where the policy only tells.
pub fn restore(setting: &Setting, daemon: bool) -> Outcome {
    let mut world = World::new(setting, &name("restore", daemon), Policy::Alert, |dir| {
        fs::create_dir_all(dir.join("d/e"))?;
        fs::write(dir.join("d/e/file"), "approved\n")?;
        symlink("e/file", dir.join("d/link"))?;
        fs::write(dir.join("single"), "approved\n")
    })?;
    world.only_if(daemon)?;
    let (single, extra) = (world.path("single"), world.path("d/extra"));
    fs::write(&single, "altered\n").map_err(io)?;
    fs::set_permissions(&single, fs::Permissions::from_mode(0o666)).map_err(io)?;
    fs::remove_dir_all(world.path("d")).map_err(io)?;
    fs::create_dir(world.path("d")).map_err(io)?;
    fs::write(&extra, "new\n").map_err(io)?;
    if daemon {
        world.recorded(&single, "modified", "none")?;
        world.recorded(&extra, "created", "none")?;
    }
    world.about(&["restore", "--reason", "tidy"], &single)?.expect(0)?;
    let now = fs::metadata(&single).map_err(io)?.mode() & 0o7777;
    if (fs::read(&single).map_err(io)?, now) != (b"approved\n".to_vec(), 0o644) {
        return Err("the file did not come back whole".into());
    }
    world.recorded(&single, "modified", "restored")?;
    has(&world.words(&["log", "--json"])?.expect(0)?, &[" from fim restore: tidy"])?;
    has(&world.about(&["restore"], &single)?.expect(0)?, &["nothing differs"])?;
    world.about(&["restore", "--recursive"], &world.path("d"))?.expect(0)?;
    if fs::read(world.path("d/link")).map_err(io)? != b"approved\n" || !extra.exists() {
        return Err("the folder did not come back, or lost what is not approved".into());
    }
    world.about(&["restore"], &extra)?.refused(&["no version of it is approved"])?;
    fs::remove_file(&extra).map_err(io)?;
    // In a watch without versions there is nothing to put back.
    world.settled()?;
    Ok(String::new())
}

/// An older version and one that was put away become the approved one.
pub fn restore_version(setting: &Setting, daemon: bool) -> Outcome {
    let mut world = World::new(setting, &name("version", daemon), Policy::Restore, |dir| {
        fs::write(dir.join("file"), "first\n")
    })?;
    let file = world.path("file");
    fs::write(&file, "second\n").map_err(io)?;
    let seen = world.recorded(&file, "modified", "restored")?;
    world.only_if(daemon)?;
    let second = seen.after.as_ref().and_then(|s| s.sha256.clone()).ok_or("no digest")?;
    let first = seen.before.as_ref().and_then(|s| s.sha256.clone()).ok_or("no digest")?;
    has(&world.about(&["diff", "--version", &second[..12]], &file)?.expect(1)?, &["-second", "+first"])?;
    world.about(&["restore", "--version", &seen.seq.to_string()], &file)?.expect(0)?;
    if fs::read(&file).map_err(io)? != b"second\n" {
        return Err("the version of the event is not there".into());
    }
    world.about(&["diff"], &file)?.expect(0)?;
    world.about(&["restore", "--version", &first[..16]], &file)?.expect(0)?;
    if fs::read(&file).map_err(io)? != b"first\n" {
        return Err("the former version is not there".into());
    }
    world.about(&["restore", "--version", "0000000000000000"], &file)?.refused(&["no version"])?;
    world.about(&["restore", "--version", "newest"], &file)?.refused(&["names no version"])?;
    world.settled()?;
    Ok(String::new())
}

pub fn diff(setting: &Setting) -> Outcome {
    let world = World::new(setting, "hands-diff", Policy::Alert, |dir| {
        fs::create_dir(dir.join("d"))?;
        fs::write(dir.join("d/text"), (1..40).map(|n| format!("line {n}\n")).collect::<String>())?;
        fs::write(dir.join("d/binary"), b"a\0b")?;
        fs::write(dir.join("d/large"), "x".repeat(5 << 20))?;
        symlink("here", dir.join("link"))
    })?;
    let (text, dir) = (world.path("d/text"), world.path("d"));
    if !world.about(&["diff"], &world.fim.watched)?.expect(0)?.is_empty() {
        return Err("equal things are told of".into());
    }
    let content =
        fs::read_to_string(&text).map_err(io)?.replace("line 20\n", "line \x1b[2J\u{202e}zwanzig\n");
    fs::write(&text, content).map_err(io)?;
    fs::set_permissions(&text, fs::Permissions::from_mode(0o666)).map_err(io)?;
    chown(&text, Some(1234), Some(2345)).map_err(io)?;
    let said = world.about(&["diff"], &text)?.expect(1)?;
    let expected = [
        "@@ -17,7 +17,7 @@",
        "-line 20",
        "+line \\x1b[2J\\u{202e}zwanzig",
        "mode 0644 -> 0666",
        "owner 0 -> 1234",
        "group 0 -> 2345",
    ];
    has(&said, &expected)?;
    fs::write(world.path("d/binary"), b"a\0c").map_err(io)?;
    fs::write(world.path("d/large"), "y".repeat(5 << 20)).map_err(io)?;
    fs::remove_file(world.path("link")).map_err(io)?;
    symlink("there", world.path("link")).map_err(io)?;
    fs::write(world.path(ODD), "odd\n").map_err(io)?;
    has(
        &world.about(&["diff"], &dir)?.expect(1)?,
        &[
            "d/text",
            "d/binary",
            "d/large",
            "binary files differ",
            "5242880 bytes",
            "too large to compare by line",
        ],
    )?;
    has(&world.about(&["diff"], &world.path("link"))?.expect(1)?, &["target here -> there"])?;
    has(&world.about(&["diff"], &world.path(ODD))?.expect(1)?, &["created", "\\x0a\\x1b", "+odd"])?;
    let json = world.about(&["diff", "--json"], &text)?.expect(1)?;
    let value: serde_json::Value = serde_json::from_str(json.trim()).map_err(|e| format!("{e}: {json}"))?;
    if value["kind"] != "modified" || !value["lines"].to_string().contains("-line 20") {
        return Err(format!("as JSON it is {json}"));
    }
    world.about(&["diff"], &world.path("nothing"))?.refused(&["not there"])?;
    wait::until(setting.patience, || fs::remove_file(&text).map_err(io))?;
    has(&world.about(&["diff"], &text)?.expect(1)?, &["deleted", "@@ -1,39 +0,0 @@", "-line 39"])?;
    world.fim.remove();
    Ok(String::new())
}
