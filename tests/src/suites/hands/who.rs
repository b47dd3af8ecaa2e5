//! Who may give orders, and what cannot be done.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::Uid;

use super::world::{World, has};
use crate::fim::{Policy, Setting};
use crate::report::Outcome;
use crate::wait;

fn io(e: std::io::Error) -> String {
    e.to_string()
}

fn request(protocol: u32, path: &Path) -> String {
    format!(
        "{{\"protocol\":{protocol},\"request\":{{\"act\":{{\"restore\":{{\"paths\":[{path:?}],\"reason\":null}}}}}}}}\n"
    )
}

fn talk(socket: &Path, text: &str) -> Result<String, String> {
    let mut stream = UnixStream::connect(socket).map_err(io)?;
    stream.write_all(text.as_bytes()).map_err(io)?;
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        // Who is turned away unheard finds the answer before the reset.
        Err(e) if said.is_empty() => Err(io(e)),
        _ => Ok(String::from_utf8_lossy(&said).into_owned()),
    }
}

/// Even with the modes of the folder and the socket opened for all, only root is served.
pub fn not_root(setting: &Setting) -> Outcome {
    let world =
        World::new(setting, "hands-not-root", Policy::Alert, |dir| fs::write(dir.join("file"), "one\n"))?;
    let (socket, file) = (world.fim.state.join("control"), world.path("file"));
    let mode = fs::metadata(&socket).map_err(io)?.permissions().mode() & 0o7777;
    if mode != 0o600 {
        return Err(format!("the socket has the mode {mode:o}"));
    }
    fs::write(&file, "two\n").map_err(io)?;
    world.recorded(&file, "modified", "none")?;
    for path in [&world.fim.home, &world.fim.state, &socket] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).map_err(io)?;
    }
    let text = request(1, &file);
    let said = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let uid = Uid::from_raw(4321);
            // This thread only; it ends here.
            rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(|e| e.to_string())?;
            talk(&socket, &text)
        });
        other.join().map_err(|_| "the other user's thread failed".to_owned())?
    })?;
    has(&said, &["only root"])?;
    if fs::read(&file).map_err(io)? != b"two\n" {
        return Err("another user had a file restored".into());
    }
    let mut command = world.fim.command(&["accept", "--yes"]);
    let copy = world.fim.outside.join("fim");
    fs::copy(&setting.fim, &copy).map_err(io)?;
    command = {
        let mut other = std::process::Command::new(&copy);
        other.args(command.get_args()).arg(&file).uid(4321).gid(4322).stdin(std::process::Stdio::null());
        other
    };
    let output = command.output().map_err(io)?;
    has(&String::from_utf8_lossy(&output.stderr), &["root"])?;
    if output.status.code() != Some(2) || world.fim.log_after(0)?.iter().any(|r| r.kind == "accepted") {
        return Err("another user could accept".into());
    }
    // The same request from root is carried out.
    has(&talk(&socket, &text)?, &["restored"])?;
    wait::until(setting.patience, || match fs::read(&file) {
        Ok(now) if now == b"one\n" => Ok(()),
        other => Err(format!("the file reads {other:?}")),
    })?;
    world.fim.remove();
    Ok(String::new())
}

/// A daemon of another version says so, and so does the command that meets one.
pub fn other_version(setting: &Setting) -> Outcome {
    let mut world =
        World::new(setting, "hands-version", Policy::Alert, |dir| fs::write(dir.join("file"), "one\n"))?;
    let (socket, file) = (world.fim.state.join("control"), world.path("file"));
    has(&talk(&socket, &request(2, &file))?, &["failed", "restart the daemon"])?;
    world.only_if(false)?;
    if socket.exists() {
        return Err("the socket is left behind".into());
    }
    fs::write(&file, "two\n").map_err(io)?;
    // Of the whole process: other tests' actors inherit it.
    let usual = rustix::process::umask(Mode::from(0o077));
    let listener = UnixListener::bind(&socket);
    rustix::process::umask(usual);
    let listener = listener.map_err(io)?;
    let stranger = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut first = [0; 16];
        stream.read_exact(&mut first)?;
        stream.write_all(b"{\"answer\":\"sung\"}\n")
    });
    world.about(&["restore"], &file)?.refused(&["of one version"])?;
    stranger.join().map_err(|_| "the stranger failed")?.map_err(io)?;
    // A dead daemon's socket is in nobody's way: neither the command's nor the next daemon's.
    world.about(&["restore"], &file)?.expect(0)?;
    let daemon = world.fim.start()?;
    world.about(&["restore"], &file)?.expect(0)?;
    daemon.stop(setting.patience)?;
    world.fim.remove();
    Ok(String::new())
}

pub fn errors(setting: &Setting) -> Outcome {
    let world =
        World::new(setting, "hands-errors", Policy::Alert, |dir| fs::write(dir.join("file"), "one\n"))?;
    let (file, outside) = (world.path("file"), world.fim.outside.join("file"));
    let watched = world.fim.watched.display().to_string();
    for command in ["diff", "accept", "restore"] {
        world.about(&[command], &outside)?.refused(&["lies in no watch", &watched])?;
        world.about(&[command], &world.path("nothing"))?.refused(&["not there"])?;
    }
    has(&world.about(&["accept", "--yes"], &file)?.expect(0)?, &["nothing differs"])?;
    has(&world.about(&["restore"], &file)?.expect(0)?, &["nothing differs"])?;
    for command in [&["show"][..], &["release"], &["purge", "--yes"]] {
        world.words(&[&["quarantine"][..], command, &["4711"]].concat())?.refused(&["no", "4711"])?;
    }
    has(&world.words(&["quarantine", "list"])?.expect(0)?, &["nothing is in quarantine"])?;
    // A link outside of the watch that leads into it names the same file.
    let link = world.fim.outside.join("link");
    std::os::unix::fs::symlink(&world.fim.watched, &link).map_err(io)?;
    fs::write(&file, "two\n").map_err(io)?;
    has(&world.about(&["diff"], &link.join("file"))?.expect(1)?, &["+two"])?;
    world.fim.remove();
    Ok(String::new())
}
