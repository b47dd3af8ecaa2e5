//! The shapes themselves.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::MemfdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use rustix::process::{Signal, getppid, kill_process};

use super::truth::sha256;
use super::{CONTENT, FIRST, LOGIN, OWNER, SECOND, Truth, deed, places, tell, uring};
use crate::sys::{Mapped, fork_and};

type Done = io::Result<()>;

/// Takes the shape and overwrites `file`; `place` is a folder that is not watched.
///
/// # Errors
/// `Unsupported` where this machine cannot have such a process.
pub fn act(shape: &str, file: &Path, place: &Path) -> Done {
    // Once it has logged in it stays so; a kernel without audit has no logins.
    let _ = fs::write("/proc/self/loginuid", LOGIN.to_string());
    match shape {
        // What others become.
        "as-it-is" => as_it_is(file),
        "ghost" => ghost(file),
        "plain" => FIRST.put_on().and_then(|()| as_it_is(file)),
        "thread" => thread(file),
        "brief" => brief(file),
        "double-fork" => double_fork(file),
        "vfork" => become_first(|| again(&own()?, "as-it-is", file, place)?.status().map(drop)),
        "script" => script(file, place),
        "renamed" => become_first(|| {
            rustix::thread::set_name(c"innocent")?;
            as_it_is(file)
        }),
        "deleted" => {
            let copy = copy_of_this_program(place, "ghost", 0o755)?;
            become_first(|| Err(again(&copy, "ghost", file, place)?.exec()))
        }
        "memfd" => memfd(file, place),
        "setuid" => {
            let copy = copy_of_this_program(place, "setuid", 0o755)?;
            chown(&copy, Some(OWNER), None)?;
            // Changing the owner takes the bit away.
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755))?;
            become_first(|| Err(again(&copy, "as-it-is", file, place)?.exec()))
        }
        "su" => changed_by("su", &["-s", "/bin/sh", "nobody", "-c"], file, place),
        "sudo" => changed_by("sudo", &["-n", "-u", "nobody", "/bin/sh", "-c"], file, place),
        "namespaces" => namespaces(file),
        "chroot" => chroot(file, place),
        "uring" => with_ring(file, false),
        "uring-thread" => with_ring(file, true),
        "passed" => passed(file),
        "mapped" => become_first(|| {
            let mut mapped = Mapped::open(file)?;
            tell(&Truth::here()?)?;
            mapped.store(CONTENT)
        }),
        "two" => two(file),
        "terminal" => places::terminal(file),
        "service" => places::service(file),
        "container" => places::container(file),
        "over-ssh" => places::over_ssh(file, place),
        "ssh-server" => places::ssh_server(file, place),
        "ssh-shell" => places::ssh_shell(file, place),
        "ssh-pretender" => places::ssh_pretender(file, place),
        "ssh-client" => places::ssh_client(file),
        other => Err(io::Error::other(format!("there is no shape {other}"))),
    }
}

fn become_first(then: impl FnOnce() -> Done) -> Done {
    FIRST.put_on()?;
    then()
}

fn as_it_is(file: &Path) -> Done {
    tell(&Truth::here()?)?;
    deed(file)
}

fn own() -> io::Result<PathBuf> {
    fs::read_link("/proc/self/exe")
}

pub(super) fn again(program: &Path, shape: &str, file: &Path, place: &Path) -> io::Result<Command> {
    let mut command = Command::new(program);
    command.args([OsStr::new("who"), OsStr::new(shape), file.as_os_str(), place.as_os_str()]);
    Ok(command)
}

pub(super) fn copy_of_this_program(place: &Path, name: &str, mode: u32) -> io::Result<PathBuf> {
    let to = place.join(format!("{name}-{}", std::process::id()));
    fs::copy("/proc/self/exe", &to)?;
    fs::set_permissions(&to, fs::Permissions::from_mode(mode))?;
    Ok(to)
}

fn thread(file: &Path) -> Done {
    FIRST.put_on()?;
    let file = file.to_owned();
    std::thread::spawn(move || as_it_is(&file)).join().map_err(|_| io::Error::other("the thread failed"))?
}

/// Nothing is closed, nothing freed.
fn brief(file: &Path) -> Done {
    FIRST.put_on()?;
    tell(&Truth::here()?)?;
    let mut open = OpenOptions::new().write(true).open(file)?;
    open.write_all(CONTENT)?;
    kill_process(rustix::process::getpid(), Signal::KILL)?;
    Ok(())
}

/// The grandchild acts when its parent is gone.
fn double_fork(file: &Path) -> Done {
    FIRST.put_on()?;
    fork_and(|| {
        rustix::process::setsid()?;
        let middle = rustix::process::getpid();
        let before = Truth::here()?;
        // Not waited for.
        fork_and(|| {
            while getppid() == Some(middle) {
                std::thread::yield_now();
            }
            // Whose child it was says more than who took it in.
            let parent = before.as_forebear();
            let ancestors = std::iter::once(parent).chain(before.ancestors).take(16).collect();
            tell(&Truth { ancestors, ..Truth::here()? })?;
            deed(file)
        })
        .map(drop)
    })?
    .wait()
}

/// The process says who it will be, since a shell cannot.
fn script(file: &Path, place: &Path) -> Done {
    let shell = fs::canonicalize("/bin/sh").map_err(|_| io::ErrorKind::Unsupported)?;
    let script = place.join("a script");
    let text = String::from_utf8_lossy(CONTENT).trim_end().to_owned();
    fs::write(&script, format!("#!/bin/sh\nprintf '%s\\n' '{text}' 1<>\"$1\"\n"))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    FIRST.put_on()?;
    let mut truth = Truth::here()?;
    let about = fs::metadata(&shell)?;
    truth.exe = shell.display().to_string();
    (truth.exe_dev, truth.exe_ino) = (about.dev(), about.ino());
    truth.sha256 = sha256(&shell)?;
    truth.comm = "a script".into();
    truth.cmdline = vec!["/bin/sh".into(), script.display().to_string(), file.display().to_string()];
    truth.script = Some(script.display().to_string());
    tell(&truth)?;
    Err(Command::new(&script).arg(file).exec())
}

fn ghost(file: &Path) -> Done {
    fs::remove_file(own()?)?;
    as_it_is(file)
}

fn memfd(file: &Path, place: &Path) -> Done {
    let mut memory = File::from(rustix::fs::memfd_create("ghost", MemfdFlags::empty())?);
    io::copy(&mut File::open("/proc/self/exe")?, &mut memory)?;
    fs::set_permissions(format!("/proc/self/fd/{}", memory.as_raw_fd()), fs::Permissions::from_mode(0o755))?;
    // What is open for writing cannot be run.
    let readable = File::open(format!("/proc/self/fd/{}", memory.as_raw_fd()))?;
    drop(memory);
    FIRST.put_on()?;
    Err(again(Path::new(&format!("/proc/self/fd/{}", readable.as_raw_fd())), "as-it-is", file, place)?.exec())
}

/// By a program that makes somebody else of its caller, and leaves the login as it was.
fn changed_by(program: &str, args: &[&str], file: &Path, place: &Path) -> Done {
    let quoted = |path: &Path| format!("'{}'", path.display());
    let command = format!("exec {} who as-it-is {} {}", quoted(&own()?), quoted(file), quoted(place));
    let status = match Command::new(program).args(args).arg(&command).stderr(Stdio::null()).status() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(io::ErrorKind::Unsupported.into()),
        other => other?,
    };
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{program} ended with {status}"))) }
}

fn namespaces(file: &Path) -> Done {
    FIRST.put_on()?;
    let before = Truth::here()?;
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)
        .map_err(|_| io::ErrorKind::Unsupported)?;
    fork_and(|| {
        tell(&Truth::here()?.with_ids_of(&before))?;
        deed(file)
    })?
    .wait()
}

/// Into the folder above the watched one.
fn chroot(file: &Path, place: &Path) -> Done {
    let cage = place.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let inside = Path::new("/").join(file.strip_prefix(cage).map_err(io::Error::other)?);
    std::env::set_current_dir(cage)?;
    // Afterwards there is no /proc to look into.
    let mut truth = Truth::here()?;
    (truth.uid, truth.euid, truth.fsuid, truth.gid) = (FIRST.uid, FIRST.uid, FIRST.uid, FIRST.gid);
    truth.name();
    std::os::unix::fs::chroot(cage)?;
    FIRST.put_on()?;
    tell(&truth)?;
    deed(&inside)
}

fn with_ring(file: &Path, submission_thread: bool) -> Done {
    FIRST.put_on()?;
    let mut ring = uring::ring(submission_thread).map_err(|_| io::ErrorKind::Unsupported)?;
    let truth = Truth::here()?;
    tell(&Truth { tid: None, ..truth })?;
    uring::write(&mut ring, file)
}

/// One opens, another writes.
fn passed(file: &Path) -> Done {
    let (ours, theirs) = UnixStream::pair()?;
    // A parent is recorded as it was when it last forked.
    let parent = Truth::here()?.as_forebear();
    let writer = fork_and(|| {
        FIRST.put_on()?;
        let mut open = File::from(receive(&theirs)?);
        let mut truth = Truth::here()?;
        truth.ancestors[0] = parent;
        tell(&truth)?;
        open.write_all(CONTENT)
    })?;
    SECOND.put_on()?;
    send(&ours, OpenOptions::new().write(true).open(file)?.as_fd())?;
    writer.wait()
}

fn send(socket: &UnixStream, fd: std::os::fd::BorrowedFd<'_>) -> Done {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    if !message.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(b"x")], &mut message, SendFlags::empty())?;
    Ok(())
}

fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut message, RecvFlags::empty())?;
    let mut fds = message.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    fds.next().and_then(|mut fds| fds.next()).ok_or_else(|| io::Error::other("no descriptor came"))
}

/// Both have it open before either writes, and neither closes it before both have written. Each writes a part of its own:
/// what the second did shows even where the first was looked at before.
fn two(file: &Path) -> Done {
    let (mut first_ear, first_mouth) = UnixStream::pair()?;
    let (mut second_ear, second_mouth) = UnixStream::pair()?;
    let writer = |user: super::User, at: u64, mut mouth: UnixStream| {
        fork_and(move || {
            user.put_on()?;
            let open = OpenOptions::new().write(true).open(file)?;
            tell(&Truth::here()?)?;
            let step = |mouth: &mut UnixStream| -> Done {
                mouth.write_all(b".")?;
                mouth.read_exact(&mut [0])
            };
            step(&mut mouth)?;
            open.write_all_at(CONTENT, at)?;
            step(&mut mouth)
        })
    };
    let (first, second) = (writer(FIRST, 0, first_mouth)?, writer(SECOND, 100, second_mouth)?);
    for _ in 0..2 {
        first_ear.read_exact(&mut [0])?;
        second_ear.read_exact(&mut [0])?;
        first_ear.write_all(b".")?;
        second_ear.write_all(b".")?;
    }
    first.wait()?;
    second.wait()
}
