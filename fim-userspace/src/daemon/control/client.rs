//! The other end of the socket: a command.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;

use super::{address, open_dir};
use crate::control::{Answer, Envelope, PROTOCOL, REQUEST_LIMIT, Request, SOCKET};

/// How long the daemon may be busy with something else.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the running daemon cannot be reached ({0}); see with `fim status` whether it works")]
    Broken(#[from] io::Error),
    #[error(
        "the running daemon answers in a way this fim does not know; restart it, so that both are of one version"
    )]
    Strange,
    #[error("the request is too long; give a shorter --reason")]
    TooLong,
    #[error("who listens on the socket is not root, so it is not fim's daemon; look at [control] socket")]
    NotRoot,
}

/// A connection; good for one request.
pub struct Client(UnixStream);

impl Client {
    /// `None` where no daemon listens.
    pub fn connect(dir: &Path) -> Result<Option<Self>, ClientError> {
        let dir = match open_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        match UnixStream::connect(address(&dir, SOCKET.as_ref())) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Some(Self(stream)))
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// The socket that a daemon offers to a group; `None` where none listens.
    pub fn connect_at(socket: &Path) -> Result<Option<Self>, ClientError> {
        match UnixStream::connect(socket) {
            Ok(stream) => {
                if !socket_peercred(&stream).is_ok_and(|peer| peer.uid.is_root()) {
                    return Err(ClientError::NotRoot);
                }
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Some(Self(stream)))
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Waits for each answer as long as it takes: for what may have nothing to say for days.
    pub fn waiting(self) -> Result<Self, ClientError> {
        self.0.set_read_timeout(None)?;
        Ok(self)
    }

    /// Sends the request and gives each answer to `each`; the last one closes.
    pub fn ask(mut self, request: Request, each: &mut dyn FnMut(Answer)) -> Result<(), ClientError> {
        let mut line =
            serde_json::to_vec(&Envelope { protocol: PROTOCOL, request }).map_err(io::Error::other)?;
        line.push(b'\n');
        if line.len() > REQUEST_LIMIT {
            return Err(ClientError::TooLong);
        }
        // A daemon that turns somebody away does not read first; its answer says why.
        let written = self.0.write_all(&line);
        let mut answered = false;
        for line in BufReader::new(self.0).lines() {
            let line = match line {
                Ok(line) => line,
                Err(e) if answered => return Err(e.into()),
                Err(e) => return Err(written.err().unwrap_or(e).into()),
            };
            answered = true;
            let answer: Answer = serde_json::from_str(&line).map_err(|_| ClientError::Strange)?;
            let last = answer.is_last();
            each(answer);
            if last {
                return Ok(());
            }
        }
        written?;
        Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
    }
}
