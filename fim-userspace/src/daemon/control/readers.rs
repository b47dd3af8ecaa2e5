//! What members of a group may ask: commands that only read, carried out here, since the records are root's.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use anyhow::{Context, bail};
use rustix::fs::{FileType, Gid, Mode, OFlags};
use rustix::net::UCred;

use super::{Control, Desk, address, bind, session};
use crate::config::ControlConfig;
use crate::control::{Answer, Word};
use crate::core::path::display;
use crate::metrics::Metrics;
use crate::sys::peer;

/// Carries out a command, given its words, and prints to the writer. Its exit code, or one sentence. The descriptor is the reader's:
/// it tells when he has hung up.
pub type Reader =
    Arc<dyn Fn(Vec<OsString>, &mut dyn Write, BorrowedFd<'_>) -> Result<u8, String> + Send + Sync>;

/// Bytes and words of one request. Patterns are compared with each record: who may only read is not to keep the machine busy.
pub const REQUEST_LIMIT: usize = 16 * 1024;
const WORDS: usize = 32;

/// Bytes of one answer.
const PIECE: usize = 32 * 1024;

#[derive(Clone)]
pub(super) struct Readers {
    /// As configured.
    pub group: String,
    gid: Gid,
    reader: Reader,
    pub metrics: Arc<Metrics>,
}

impl Readers {
    /// Whether who connected belonged to the group then. The socket's own mode says the same; it may have been altered.
    pub fn admits(&self, stream: &UnixStream, peer: &UCred) -> bool {
        peer.gid == self.gid
            || peer::groups(stream.as_fd()).is_ok_and(|groups| groups.contains(&self.gid.as_raw()))
    }
}

/// Offers the socket that the configuration names to its group; `None` where it names none.
pub fn offer(
    config: &ControlConfig,
    reader: Reader,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Option<Control>> {
    let Some(group) = &config.group else { return Ok(None) };
    let gid = gid(group)?;
    let socket = &config.socket;
    let failed = || format!("the socket {} cannot be offered to the group {group}", display(socket));
    let parts = socket.parent().zip(socket.file_name());
    let (folder, name) = parts.with_context(|| format!("{} names no file", display(socket)))?;
    let mode = Mode::from_raw_mode(0o755);
    let made = match rustix::fs::mkdir(folder, mode) {
        Ok(()) => true,
        Err(rustix::io::Errno::EXIST) => false,
        Err(e) => return Err(e).with_context(failed),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::open(folder, flags, Mode::empty()).with_context(failed)?;
    if made {
        // Whatever the umask: others have to pass it.
        rustix::fs::fchmod(&dir, mode).with_context(failed)?;
    }
    let stat = rustix::fs::fstat(&dir)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o022 != 0 {
        bail!("{}: others than root can write to its folder; make it root's, mode 0755", failed());
    }
    if let Ok(stat) = rustix::fs::statat(&dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
            bail!(
                "{}: something else has that name; remove it, or choose another [control] socket",
                failed()
            );
        }
        if UnixStream::connect(address(&dir, name)).is_ok() {
            bail!("{}: another fim offers it already; choose another [control] socket", failed());
        }
    }
    let listener = bind(&dir, name, Some(gid)).with_context(failed)?;
    let readers = Readers { group: group.clone(), gid, reader, metrics };
    Ok(Some(Control::serve(dir, name.to_owned(), listener, Desk::Reading(readers)).with_context(failed)?))
}

fn gid(group: &str) -> anyhow::Result<Gid> {
    if let Ok(number) = group.parse() {
        return Ok(Gid::from_raw(number));
    }
    let found = nix::unistd::Group::from_name(group)
        .with_context(|| format!("the groups of this host cannot be read to find {group}"))?;
    let found = found.with_context(|| {
        format!("there is no group {group}, which [control] names; make it with `groupadd --system {group}`")
    })?;
    Ok(Gid::from_raw(found.gid.as_raw()))
}

pub(super) fn carry_out(stream: &UnixStream, readers: &Readers, words: Vec<Word>) -> io::Result<()> {
    if words.len() > WORDS {
        let sentence = format!("the command has more than {WORDS} words; ask for less, or use sudo");
        return session::answer(stream, &Answer::Failed { sentence });
    }
    // This thread serves nobody else.
    crate::sys::priority::idle();
    let words = words.into_iter().map(|word| OsString::from_vec(word.0)).collect();
    let mut out = Telling { stream, held: Vec::new() };
    let ended = (readers.reader)(words, &mut out, stream.as_fd());
    out.flush()?;
    let (code, problem) = match ended {
        Ok(code) => (code, None),
        Err(sentence) => (2, Some(sentence)),
    };
    session::answer(stream, &Answer::Ended { code, problem })
}

/// Sends what is written, in pieces of whole characters.
struct Telling<'s> {
    stream: &'s UnixStream,
    held: Vec<u8>,
}

impl Write for Telling<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let whole = match std::str::from_utf8(&self.held) {
            Err(e) if e.error_len().is_none() => e.valid_up_to(),
            _ => self.held.len(),
        };
        if whole == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&self.held[..whole]).into_owned();
        self.held.drain(..whole);
        session::answer(self.stream, &Answer::Text { text })
    }
}
