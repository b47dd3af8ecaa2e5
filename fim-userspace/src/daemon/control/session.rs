//! One client: its request, and the answers.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crossbeam_channel::{SendTimeoutError, Sender, unbounded};
use rustix::net::UCred;
use rustix::net::sockopt::socket_peercred;

use super::{Desk, Job, Person, readers};
use crate::control::{Act, Answer, Envelope, PROTOCOL, REQUEST_LIMIT, Read, Request};

/// How long a client may take to say what it wants, and to take an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a request may wait for room before the reconciler.
const ROOM: Duration = Duration::from_secs(60);

/// Serves one client to its end.
pub fn serve(stream: UnixStream, desk: &Desk) {
    if let Err(error) = talk(&stream, desk) {
        tracing::debug!("a command went away: {error}");
    }
}

/// Says why and hangs up.
pub fn turn_away(stream: UnixStream, sentence: &str) {
    let short = Duration::from_secs(1);
    let said = stream.set_write_timeout(Some(short));
    let _ = said.and_then(|()| answer(&stream, &Answer::Failed { sentence: sentence.into() }));
}

fn talk(stream: &UnixStream, desk: &Desk) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let peer = socket_peercred(stream)?;
    if !peer.uid.is_root() {
        match desk {
            Desk::Acting(..) => return fail(stream, "only root may talk to the daemon; use sudo"),
            Desk::Reading(readers) if !readers.admits(stream, &peer) => {
                let sentence = format!(
                    "only root and members of the group {} may ask the daemon; use sudo, or have yourself added to it",
                    readers.group
                );
                return fail(stream, &sentence);
            }
            Desk::Reading(_) => {}
        }
    }
    let limit = match desk {
        Desk::Acting(..) => REQUEST_LIMIT,
        Desk::Reading(_) => readers::REQUEST_LIMIT,
    };
    let line = match request(stream, limit)? {
        Ok(line) => line,
        Err(sentence) => return fail(stream, &sentence),
    };
    let request = match understand(&line) {
        Ok(request) => request,
        Err(sentence) => return fail(stream, &sentence),
    };
    match request {
        Request::Read(Read::Hello) => answer(
            stream,
            &Answer::Hello {
                protocol: PROTOCOL,
                version: env!("CARGO_PKG_VERSION").into(),
                pid: std::process::id(),
            },
        ),
        Request::Read(Read::Command { words }) => match desk {
            Desk::Acting(..) => fail(stream, "root reads the records itself"),
            Desk::Reading(readers) => readers::carry_out(stream, readers, words),
        },
        Request::Read(Read::Metrics { json }) => tell_metrics(stream, desk, json),
        Request::Act(act) => match desk {
            Desk::Acting(jobs, _) => pass_on(stream, &peer, jobs, act),
            Desk::Reading(_) => fail(stream, "this socket is for reading; what acts needs root: use sudo"),
        },
    }
}

fn tell_metrics(stream: &UnixStream, desk: &Desk, json: bool) -> io::Result<()> {
    let page = desk.metrics().page();
    match page.and_then(|page| if json { Ok(page.json()) } else { page.text() }) {
        Ok(text) => {
            answer(stream, &Answer::Text { text })?;
            answer(stream, &Answer::Ended { code: 0, problem: None })
        }
        Err(sentence) => fail(stream, &sentence),
    }
}

fn pass_on(stream: &UnixStream, peer: &UCred, jobs: &Sender<Job>, act: Act) -> io::Result<()> {
    let person = Person::behind(peer.pid.as_raw_nonzero().get().cast_unsigned(), peer.uid.as_raw());
    let (reply, answers) = unbounded();
    match jobs.send_timeout(Job { act, person, reply }, ROOM) {
        Ok(()) => {}
        Err(SendTimeoutError::Timeout(_)) => {
            return fail(stream, "the daemon is busy; nothing was done, try again");
        }
        Err(SendTimeoutError::Disconnected(_)) => return fail(stream, ENDING),
    }
    let mut closed = false;
    for said in answers {
        closed = said.is_last();
        answer(stream, &said)?;
    }
    if closed { Ok(()) } else { fail(stream, ENDING) }
}

const ENDING: &str = "the daemon is ending; look with `fim log` what was done, and try again";

/// The request's line, read within [`PATIENCE`] as a whole; or what is wrong with it.
fn request(mut stream: &UnixStream, limit: usize) -> io::Result<Result<Vec<u8>, String>> {
    let end = Instant::now() + PATIENCE;
    let mut line = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Err("no whole request came in time".into()));
        }
        stream.set_read_timeout(Some(left))?;
        let n = match stream.read(&mut piece) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => 0,
            Err(e) => return Err(e),
        };
        line.extend_from_slice(&piece[..n]);
        if line.len() > limit {
            return Ok(Err(format!("the request is longer than {}", crate::core::size::show(limit as u64))));
        }
        if line.last() == Some(&b'\n') {
            return Ok(Ok(line));
        }
        if n == 0 {
            return Ok(Err("no whole request came in time".into()));
        }
    }
}

/// The version is looked at first: the rest may be of a form that this one does not know.
fn understand(line: &[u8]) -> Result<Request, String> {
    let unknown = || {
        format!(
            "the running daemon (fim {}, protocol {PROTOCOL}) does not understand this command; restart the daemon, so that \
             both are of one version",
            env!("CARGO_PKG_VERSION")
        )
    };
    let value: serde_json::Value =
        serde_json::from_slice(line).map_err(|_| "the request is no JSON".to_owned())?;
    if value.get("protocol").and_then(serde_json::Value::as_u64) != Some(u64::from(PROTOCOL)) {
        return Err(unknown());
    }
    serde_json::from_value::<Envelope>(value).map(|envelope| envelope.request).map_err(|_| unknown())
}

fn fail(stream: &UnixStream, sentence: &str) -> io::Result<()> {
    answer(stream, &Answer::Failed { sentence: sentence.into() })
}

pub fn answer(mut stream: &UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line)
}
