//! Where a process stands: at a terminal, in a control group, behind a login from elsewhere.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::shapes::{again, copy_of_this_program};
use super::{FIRST, Truth, deed, tell};
use crate::sys::fork_and;

type Done = io::Result<()>;

/// 64 digits, as container runtimes have them.
const CONTAINER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
/// From the range for documentation (RFC 3849).
const CLIENT: &str = "2001:db8::50";
const GROUPS: &str = "/sys/fs/cgroup";

/// A session of its own with a terminal of its own.
pub fn terminal(file: &Path) -> Done {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let ours = openpt(flags).map_err(|_| io::ErrorKind::Unsupported)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    fork_and(|| {
        rustix::process::setsid()?;
        // The first terminal that a session's leader opens is its own.
        let _theirs = rustix::fs::open(&name, rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
        FIRST.put_on()?;
        let truth = Truth::here()?;
        if truth.tty.is_none() {
            return Err(io::Error::other("the process has no terminal"));
        }
        tell(&truth)?;
        deed(file)
    })?
    .wait()
}

pub fn service(file: &Path) -> Done {
    let unit = format!("fim-{}.service", std::process::id());
    within(&format!("{unit}/sub"), file, |truth| truth.unit = Some(unit.clone()))
}

pub fn container(file: &Path) -> Done {
    within(&format!("libpod-{CONTAINER}.scope"), file, |truth| {
        truth.unit = Some(format!("libpod-{CONTAINER}.scope"));
        truth.container = Some(CONTAINER[..12].to_owned());
        truth.runtime = Some("podman".into());
    })
}

/// In a control group that is made for this.
fn within(group: &str, file: &Path, say: impl Fn(&mut Truth)) -> Done {
    let own = Truth::here()?.cgroup.unwrap_or_default();
    let at = PathBuf::from(format!("{GROUPS}{own}/fim-who")).join(group);
    if !Path::new(GROUPS).join("cgroup.procs").exists() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    fs::create_dir_all(&at)?;
    let done = fork_and(|| {
        fs::write(at.join("cgroup.procs"), "0")?;
        FIRST.put_on()?;
        let mut truth = Truth::here()?;
        say(&mut truth);
        tell(&truth)?;
        deed(file)
    })?
    .wait();
    // The group stands until nobody listens any more: what is removed has no path.
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    let top = PathBuf::from(format!("{GROUPS}{own}"));
    for made in at.ancestors().take_while(|made| *made != top) {
        fs::remove_dir(made)?;
    }
    done
}

/// A program called as the server is stands between the first process and the login shell, which itself starts a program
/// that calls itself so too and tells another address.
pub fn over_ssh(file: &Path, place: &Path) -> Done {
    let server = copy_of_this_program(place, "sshd", 0o755)?;
    call(&server, "ssh-server", file, place)
}

pub fn ssh_server(file: &Path, place: &Path) -> Done {
    let shell = copy_of_this_program(place, "login-shell", 0o755)?;
    fork_and(|| {
        let value = format!("{CLIENT} 50022 2001:db8::1 22");
        finished(&mut again(&shell, "ssh-shell", file, place)?.env("SSH_CONNECTION", value).spawn()?)
    })?
    .wait()
}

pub fn ssh_shell(file: &Path, place: &Path) -> Done {
    FIRST.put_on()?;
    let pretender = copy_of_this_program(place, "sshd-pretended", 0o755)?;
    call(&pretender, "ssh-pretender", file, place)?;
    // A login shell outlives its commands: this one until nobody listens any more.
    io::copy(&mut io::stdin().lock(), &mut io::sink()).map(drop)
}

pub fn ssh_pretender(file: &Path, place: &Path) -> Done {
    let shell = copy_of_this_program(place, "shell", 0o755)?;
    let value = "192.0.2.99 50022 192.0.2.1 22";
    finished(&mut again(&shell, "ssh-client", file, place)?.env("SSH_CONNECTION", value).spawn()?)
}

pub fn ssh_client(file: &Path) -> Done {
    let mut truth = Truth::here()?;
    truth.from = Some(CLIENT.into());
    tell(&truth)?;
    deed(file)
}

fn call(program: &Path, shape: &str, file: &Path, place: &Path) -> Done {
    finished(&mut again(program, shape, file, place)?.spawn()?)
}

fn finished(child: &mut std::process::Child) -> Done {
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("it ended with {status}"))) }
}
