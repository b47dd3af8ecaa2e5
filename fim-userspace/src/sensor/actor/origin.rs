//! Where a login came from: which human, from where.

use std::fs;

use crate::core::actor::Actor;
use crate::core::path::escape;

use super::proc::is_still;

/// The client's address or name. What root's programs wrote down comes first: logind's note of the session, then utmp.
/// Last comes what sshd put into its children's environment, which their user may have altered since.
pub fn of(actor: &Actor) -> Option<String> {
    by_session(actor).or_else(|| by_terminal(actor.tty.as_deref()?)).or_else(|| by_environment(actor))
}

/// systemd-logind's note: /run/systemd/sessions/NUMBER.
fn by_session(actor: &Actor) -> Option<String> {
    let scope = actor.cgroup.as_deref()?.rsplit('/').find_map(|group| group.strip_prefix("session-"))?;
    let session = scope.strip_suffix(".scope")?;
    let plain = session.bytes().all(|b| b.is_ascii_alphanumeric());
    let note = plain.then(|| fs::read(format!("/run/systemd/sessions/{session}")).ok())??;
    note.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"REMOTE_HOST=")).and_then(text)
}

/// utmp(5): the live session on this terminal.
fn by_terminal(tty: &str) -> Option<String> {
    host_of(&fs::read("/run/utmp").ok()?, tty.as_bytes())
}

/// Layout of glibc's `struct utmp`, the same on every 64-bit architecture: type, pid, line, id, user, host.
fn host_of(utmp: &[u8], tty: &[u8]) -> Option<String> {
    const SIZE: usize = 384;
    const USER_PROCESS: i16 = 7;
    let (kind, line, host) = (0..2, 8..40, 76..332);
    utmp.chunks_exact(SIZE).find_map(|entry| {
        let kind = i16::from_ne_bytes(entry.get(kind.clone())?.try_into().ok()?);
        let name = entry.get(line.clone())?.split(|b| *b == 0).next()?;
        let user = kind == USER_PROCESS && name == tty;
        user.then(|| entry.get(host.clone())?.split(|b| *b == 0).next().and_then(text))?
    })
}

/// `SSH_CONNECTION` of the process that sshd started: root's sshd, and the outermost, since anybody can call a program so.
fn by_environment(actor: &Actor) -> Option<String> {
    let is_sshd = |exe: &Option<String>| {
        exe.as_deref().and_then(|exe| exe.rsplit('/').next()).is_some_and(|name| name.starts_with("sshd"))
    };
    let chain: Vec<_> = std::iter::once((actor.pid, actor.start_ns, &actor.exe, actor.uid))
        .chain(actor.ancestors.iter().map(|a| (Some(a.pid), a.start_ns, &a.exe, a.uid)))
        .collect();
    let outermost = (1..chain.len()).rfind(|at| {
        // The server's part for one user runs as that user, below the one that stays root.
        let mut servers = chain[*at..].iter().take_while(|(.., exe, _)| is_sshd(exe));
        !is_sshd(chain[at - 1].2) && servers.any(|(.., uid)| *uid == Some(0))
    })?;
    let (pid, start_ns, ..) = chain[outermost - 1];
    let (pid, start_ns) = (pid?, start_ns?);
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    is_still(pid, start_ns).then(|| connection(&environment))?
}

/// The first of `CLIENT PORT SERVER PORT`, as ssh(1) tells.
fn connection(environment: &[u8]) -> Option<String> {
    let value = environment.split(|b| *b == 0).find_map(|entry| entry.strip_prefix(b"SSH_CONNECTION="))?;
    text(value.split(|b| *b == b' ').next()?)
}

fn text(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| escape(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utmp_names_the_host_of_a_terminal_in_use() {
        let entry = |kind: i16, line: &str, host: &str| {
            let mut entry = vec![0; 384];
            entry[..2].copy_from_slice(&kind.to_ne_bytes());
            entry[8..8 + line.len()].copy_from_slice(line.as_bytes());
            entry[76..76 + host.len()].copy_from_slice(host.as_bytes());
            entry
        };
        let utmp =
            [entry(8, "pts/3", "192.0.2.1"), entry(7, "pts/30", "192.0.2.2"), entry(7, "pts/3", "192.0.2.3")];
        assert_eq!(host_of(&utmp.concat(), b"pts/3").as_deref(), Some("192.0.2.3"));
        assert_eq!(host_of(&utmp.concat(), b"pts/4"), None);
        assert_eq!(host_of(&entry(7, "tty1", ""), b"tty1"), None);
        assert_eq!(host_of(b"cut", b"tty1"), None);
    }

    #[test]
    fn the_client_comes_first_in_a_connection() {
        let environment = b"HOME=/root\0SSH_CONNECTION=2001:db8::7 4711 192.0.2.1 22\0X=1\0";
        assert_eq!(connection(environment).as_deref(), Some("2001:db8::7"));
        assert_eq!(connection(b"SSH_CONNECTION_X=1\0"), None);
    }
}
