//! Connections: TCP with octet counting (RFC 6587, 3.4.1), and the same in TLS (RFC 5425).

use std::io;
use std::net::TcpStream as StdTcp;
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{CONNECT, Loss, tls};
use crate::sink::line::printable;
use crate::sys::outq::unacknowledged;

/// How long a server may take for a batch.
const BATCH: Duration = Duration::from_secs(30);
/// Between looks whether the last byte was acknowledged; doubled from the first to the second.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(32));

trait Bytes: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Bytes for T {}

pub(super) struct Stream {
    write: WriteHalf<Box<dyn Bytes>>,
    /// The same socket, for questions to the kernel.
    socket: StdTcp,
    end: Arc<End>,
    reader: JoinHandle<()>,
}

/// How the connection ended. The kernel tells a reset once, to whoever asks first, so the first answer stays.
#[derive(Default)]
struct End {
    found: OnceLock<(String, Loss)>,
    told: Notify,
}

impl End {
    fn orderly(&self) -> &(String, Loss) {
        self.found.get_or_init(|| (CLOSED.to_owned(), Loss { at: Instant::now(), unread: false }))
    }

    fn broken(&self, error: &io::Error) -> &(String, Loss) {
        // A broken pipe is a reset that came after an orderly end.
        let unread = matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
        self.found.get_or_init(|| (printable(&error.to_string()), Loss { at: Instant::now(), unread }))
    }
}

impl Stream {
    pub async fn connect(host: &str, port: u16, tls: Option<&tls::Client>) -> Result<Self, String> {
        let late = |_| format!("no answer within {} s", CONNECT.as_secs());
        let tcp = timeout(CONNECT, TcpStream::connect((host, port))).await.map_err(late)?;
        let tcp = tcp.map_err(|e| format!("cannot connect: {e}"))?;
        let failed = |e: io::Error| format!("the connection cannot be used: {e}");
        let _ = tcp.set_nodelay(true);
        let socket = StdTcp::from(tcp.as_fd().try_clone_to_owned().map_err(failed)?);
        let bytes: Box<dyn Bytes> = match tls {
            None => Box::new(tcp),
            Some(tls) => Box::new(timeout(CONNECT, tls.connect(host, tcp)).await.map_err(late)??),
        };
        let (read, write) = tokio::io::split(bytes);
        let end = Arc::new(End::default());
        let reader = tokio::spawn(watch(read, end.clone()));
        Ok(Self { write, socket, end, reader })
    }

    /// That the other side closed the connection, or it broke.
    pub fn lost(&mut self) -> Option<Loss> {
        self.ended().map(|(_, loss)| *loss)
    }

    fn ended(&self) -> Option<&(String, Loss)> {
        // The reader may not have run yet.
        match self.socket.peek(&mut [0]) {
            Ok(0) => Some(self.end.orderly()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock || e.kind() == io::ErrorKind::Interrupted => {
                self.end.found.get()
            }
            Err(e) => Some(self.end.broken(&e)),
            Ok(_) => self.end.found.get(),
        }
    }

    /// Returns once the other side's kernel has acknowledged everything and the connection still stands.
    pub async fn send(&mut self, messages: &[&[u8]]) -> Result<(), String> {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.extend_from_slice(format!("{} ", message.len()).as_bytes());
            bytes.extend_from_slice(message);
        }
        let end = self.end.clone();
        let work = async {
            tokio::select! {
                written = write_all(&mut self.write, &bytes) => {
                    written.map_err(|e| self.end.broken(&e).0.clone())?;
                }
                () = end.told.notified() => {}
            }
            self.acknowledged().await
        };
        match timeout(BATCH, work).await {
            // The reader may know better why: a refused certificate, for example.
            Ok(Err(e)) => Err(self.ended().map_or(e, |(reason, _)| reason.clone())),
            Ok(Ok(())) => Ok(()),
            Err(_) => Err(format!("what was sent is not acknowledged within {} s", BATCH.as_secs())),
        }
    }

    async fn acknowledged(&self) -> Result<(), String> {
        let mut pause = LOOK.0;
        loop {
            // Before the question whether it stands: an end that came with the last acknowledgement is then seen.
            let left = unacknowledged(self.socket.as_fd()).map_err(|e| e.to_string())?;
            if let Some((reason, _)) = self.ended() {
                return Err(reason.clone());
            }
            if left == 0 {
                return Ok(());
            }
            // The kernel tells nobody when this number falls.
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(LOOK.1),
                () = self.end.told.notified() => {}
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

const CLOSED: &str = "the server closed the connection";

async fn write_all(write: &mut WriteHalf<Box<dyn Bytes>>, bytes: &[u8]) -> io::Result<()> {
    write.write_all(bytes).await?;
    write.flush().await
}

/// Reads what a syslog server sends, which is nothing that matters, until it ends. TLS needs it for its own messages.
async fn watch(mut read: ReadHalf<Box<dyn Bytes>>, end: Arc<End>) {
    let mut ignored = [0; 1024];
    loop {
        match read.read(&mut ignored).await {
            Ok(0) => end.orderly(),
            Ok(_) => continue,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => end.orderly(),
            Err(e) => end.broken(&e),
        };
        break end.told.notify_one();
    }
}
