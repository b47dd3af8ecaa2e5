//! Datagrams: UDP (RFC 5426), and sockets of this machine such as /dev/log.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::{UdpSocket, UnixDatagram, lookup_host};
use tokio::time::timeout;

use super::{CONNECT, Loss};
use crate::core::path::display;

/// How long a refusal may take to come back.
const REFUSAL: Duration = Duration::from_millis(250);
/// A UDP socket is made anew after this, since its server's name may have moved.
const OLD: Duration = Duration::from_secs(600);
/// Until a local receiver has room again.
const ROOM: Duration = Duration::from_secs(30);

pub(super) struct Datagram {
    socket: Socket,
    made: Instant,
}

enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Datagram {
    pub async fn udp(host: &str, port: u16) -> Result<Self, String> {
        let found = timeout(CONNECT, lookup_host((host, port))).await;
        let mut addresses = found
            .map_err(|_| "its name is not resolved in time".to_owned())?
            .map_err(|e| format!("its name is not known: {e}"))?;
        let address = addresses.next().ok_or("its name has no address")?;
        let own = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(own).await.map_err(|e| format!("no socket: {e}"))?;
        socket.connect(address).await.map_err(|e| format!("no way there: {e}"))?;
        Ok(Self { socket: Socket::Udp(socket), made: Instant::now() })
    }

    pub fn unix(path: &Path) -> Result<Self, String> {
        let failed = |e: io::Error| {
            format!("nobody receives at {}: {e}; is the syslog daemon running?", display(path))
        };
        let socket = UnixDatagram::unbound().map_err(|e| format!("no socket: {e}"))?;
        socket.connect(path).map_err(failed)?;
        Ok(Self { socket: Socket::Unix(socket), made: Instant::now() })
    }

    pub fn is_old(&self) -> bool {
        matches!(self.socket, Socket::Udp(_)) && self.made.elapsed() > OLD
    }

    /// Whether a refusal of what was sent earlier has come back.
    pub fn lost(&mut self) -> Option<Loss> {
        let error = match &self.socket {
            Socket::Udp(socket) => socket.take_error(),
            Socket::Unix(socket) => socket.take_error(),
        };
        (!matches!(error, Ok(None))).then(|| Loss { at: Instant::now(), unread: false })
    }

    /// Each message is a datagram. A refusal that comes back within moments is an error.
    pub async fn send(&mut self, messages: &[&[u8]]) -> Result<(), String> {
        let failed = |e: io::Error| match e.kind() {
            io::ErrorKind::ConnectionRefused => "nobody receives there".to_owned(),
            _ => e.to_string(),
        };
        for message in messages {
            match &self.socket {
                Socket::Udp(socket) => socket.send(message).await.map_err(failed)?,
                Socket::Unix(socket) => match timeout(ROOM, socket.send(message)).await {
                    Ok(sent) => sent.map_err(failed)?,
                    Err(_) => return Err(format!("the receiver reads nothing for {} s", ROOM.as_secs())),
                },
            };
        }
        let Socket::Udp(socket) = &self.socket else { return Ok(()) };
        // Nothing comes back for what has arrived, so this mostly waits in vain.
        let _ = timeout(REFUSAL, socket.ready(Interest::ERROR)).await;
        match socket.take_error() {
            Ok(None) => Ok(()),
            Ok(Some(e)) | Err(e) => Err(failed(e)),
        }
    }
}
