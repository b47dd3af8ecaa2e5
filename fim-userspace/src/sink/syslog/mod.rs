//! Records as syslog messages, to a server or to a socket of this machine.
//!
//! Syslog has no acknowledgements. A datagram that nobody received is only noticed where a refusal comes back. On a
//! connection a batch counts as delivered when the other side's kernel has acknowledged its last byte and the
//! connection still stands. What that kernel had and the server's program never read shows only at the end: a socket
//! with unread bytes ends with a reset (RFC 1122, 4.2.2.13; RFC 2525, 2.17). Then all that is kept is sent once more;
//! after an orderly end what was sent in the seconds before, since a program can die with what it has read.

mod datagram;
mod stream;
#[cfg(test)]
pub(super) mod tests;
mod tls;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;

use super::format::{self, Origin};
use super::{Delivered, Sink, SinkError};
use crate::config::{LogFormat, SyslogAddress, SyslogConfig, SyslogHeader, Transport};
use crate::core::event::Record;
use crate::core::policy::Severity;

use datagram::Datagram;
use stream::Stream;

/// What every receiver of UDP should take (RFC 5424, 6.1).
const UDP_LIMIT: usize = 2_048;
/// rsyslog's and journald's usual limit for a message.
const UNIX_LIMIT: usize = 8_192;
/// Until a server has answered.
const CONNECT: Duration = Duration::from_secs(10);
/// A server that closes so soon after a batch may not have dealt with it; one that closes later was merely tired of
/// waiting.
const DOUBT: Duration = Duration::from_secs(5);
/// A reset so long after a batch is a firewall's that forgot an idle connection.
const UNREAD: Duration = Duration::from_secs(600);
/// So much is kept for repeating: about what a server's kernel holds for a program that does not read.
const DOUBTFUL_BYTES: usize = 4 << 20;

pub struct Syslog {
    name: String,
    min_severity: Severity,
    config: SyslogConfig,
    origin: Origin,
    zone: TimeZone,
    tls: Option<tls::Client>,
    link: Option<Link>,
    /// What was delivered of late, for the case that its link ends.
    recent: VecDeque<Sent>,
    /// What was delivered and may not have arrived: it goes first.
    repeat: Vec<Vec<u8>>,
    /// How far back an orderly end puts deliveries in doubt.
    doubt: Duration,
}

/// How a link ended.
#[derive(Clone, Copy)]
struct Loss {
    at: Instant,
    /// The other side had bytes that its program never read.
    unread: bool,
}

enum Link {
    Datagram(Datagram),
    Stream(Stream),
}

struct Sent {
    messages: Vec<Vec<u8>>,
    at: Instant,
}

impl Sent {
    fn bytes(&self) -> usize {
        self.messages.iter().map(Vec::len).sum()
    }
}

impl Syslog {
    /// Reads certificates and keys; fails with a reason that says which cannot be used.
    pub fn new(name: &str, min_severity: Severity, config: SyslogConfig) -> Result<Self, String> {
        let encrypted = matches!(config.address, SyslogAddress::Network { transport: Transport::Tls, .. });
        let tls = if encrypted { Some(tls::Client::new(&config.tls)?) } else { None };
        let origin = Origin { facility: config.facility, pid: std::process::id() };
        let zone = TimeZone::system();
        Ok(Self {
            name: name.into(),
            min_severity,
            config,
            origin,
            zone,
            tls,
            link: None,
            recent: VecDeque::new(),
            repeat: Vec::new(),
            doubt: DOUBT,
        })
    }

    fn message(&self, record: &Record) -> Vec<u8> {
        let body = format::body(self.config.body, record);
        let limit = match &self.config.address {
            SyslogAddress::Network { transport: Transport::Udp, .. } => Some(UDP_LIMIT),
            SyslogAddress::Network { .. } => None,
            SyslogAddress::Unix(_) => Some(UNIX_LIMIT),
        };
        match self.config.header {
            SyslogHeader::Rfc5424 => {
                let mark = self.config.body == LogFormat::Text;
                format::rfc5424::message(&self.origin, record, &body, mark, limit)
            }
            SyslogHeader::Rfc3164 => {
                let with_host = !matches!(self.config.address, SyslogAddress::Unix(_));
                format::rfc3164::message(&self.origin, record, &body, &self.zone, with_host, limit)
            }
        }
    }

    async fn connect(&self) -> Result<Link, String> {
        match &self.config.address {
            SyslogAddress::Unix(path) => Datagram::unix(path).map(Link::Datagram),
            SyslogAddress::Network { transport: Transport::Udp, host, port } => {
                Datagram::udp(host, *port).await.map(Link::Datagram)
            }
            SyslogAddress::Network { host, port, .. } => {
                Stream::connect(host, *port, self.tls.as_ref()).await.map(Link::Stream)
            }
        }
    }

    /// A link that stands. When the one before has ended, what it may not have carried over is to be sent again.
    async fn standing(&mut self) -> Result<Link, String> {
        if let Some(mut link) = self.link.take() {
            match link.lost() {
                None if !link.is_old() => return Ok(link),
                None => self.recent.clear(),
                Some(loss) => self.put_in_doubt(loss),
            }
        }
        self.connect().await
    }

    async fn send(&mut self, messages: Vec<Vec<u8>>) -> Result<(), String> {
        let mut link = self.standing().await?;
        let all: Vec<&[u8]> = self.repeat.iter().chain(&messages).map(Vec::as_slice).collect();
        match link.send(&all).await {
            Ok(()) => {
                let mut sent = std::mem::take(&mut self.repeat);
                sent.extend(messages);
                self.remember(sent);
                self.link = Some(link);
                Ok(())
            }
            Err(e) => {
                let loss = link.lost().unwrap_or(Loss { at: Instant::now(), unread: false });
                self.put_in_doubt(loss);
                Err(e)
            }
        }
    }

    fn remember(&mut self, messages: Vec<Vec<u8>>) {
        let now = Instant::now();
        self.recent.push_back(Sent { messages, at: now });
        let mut bytes: usize = self.recent.iter().map(Sent::bytes).sum();
        while let Some(oldest) = self.recent.front() {
            if bytes <= DOUBTFUL_BYTES && now.saturating_duration_since(oldest.at) < UNREAD {
                break;
            }
            bytes -= oldest.bytes();
            self.recent.pop_front();
        }
    }

    fn put_in_doubt(&mut self, loss: Loss) {
        let reach = if loss.unread { UNREAD } else { self.doubt };
        for sent in self.recent.drain(..) {
            if loss.at.saturating_duration_since(sent.at) < reach {
                self.repeat.extend(sent.messages);
            }
        }
    }
}

impl Link {
    fn lost(&mut self) -> Option<Loss> {
        match self {
            Self::Datagram(socket) => socket.lost(),
            Self::Stream(stream) => stream.lost(),
        }
    }

    async fn send(&mut self, messages: &[&[u8]]) -> Result<(), String> {
        match self {
            Self::Datagram(socket) => socket.send(messages).await,
            Self::Stream(stream) => stream.send(messages).await,
        }
    }

    /// Names may have come to mean another address.
    fn is_old(&self) -> bool {
        match self {
            Self::Datagram(socket) => socket.is_old(),
            Self::Stream(_) => false,
        }
    }
}

impl Sink for Syslog {
    fn name(&self) -> &str {
        &self.name
    }

    fn keeps_records(&self) -> bool {
        true
    }

    async fn deliver(&mut self, records: &[Record]) -> Result<Delivered, SinkError> {
        // Few datagrams at once: a receiver's buffer is small, and what does not fit is lost.
        let most = match &self.config.address {
            SyslogAddress::Network { transport: Transport::Udp, .. } | SyslogAddress::Unix(_) => 32,
            SyslogAddress::Network { .. } => records.len(),
        };
        let records = &records[..most.min(records.len())];
        let chosen = records.iter().filter(|r| r.event.severity >= self.min_severity);
        let messages: Vec<Vec<u8>> = chosen.map(|r| self.message(r)).collect();
        if !messages.is_empty() {
            self.send(messages).await.map_err(|reason| SinkError::Failed {
                reason: format!("{}: {reason}", self.config.address),
                retry_after: None,
            })?;
        }
        Ok(Delivered::all(records))
    }
}
