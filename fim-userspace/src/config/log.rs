//! `[[log]]`: files and syslog servers that get every record.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::ConfigError;
use super::keys;
use super::read::{Put, Section, Source};
use super::secret::SecretSource;
use super::{AlertConfig, OWN_SINKS, SEVERITIES};
use crate::core::policy::Severity;

/// Smaller files would be rotated with nearly every line.
const LEAST_SIZE: u64 = 4_096;
/// As many digits as the exclusion of rotated names knows.
const MOST_KEPT: u32 = 999;

#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Unique; the sink's cursor is kept under it. `log:` and path or address where no name is given.
    pub name: String,
    /// Records below are passed over.
    pub min_severity: Severity,
    pub kind: LogKind,
}

#[derive(Clone, Debug)]
pub enum LogKind {
    File(FileLog),
    Syslog(SyslogConfig),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLog {
    /// Absolute.
    pub path: PathBuf,
    pub format: LogFormat,
    pub rotation: Rotation,
}

/// When fim itself begins a new file; with neither size nor age that is left to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes. A file is only larger if a single line is.
    pub max_size: Option<u64>,
    pub max_age: Option<Duration>,
    /// Older files that are kept beside the present one, at least one.
    pub keep: u32,
}

/// A record as one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// fim's own record, as `fim log --json` prints it.
    Json,
    /// Elastic Common Schema.
    Ecs,
    /// ArcSight Common Event Format.
    Cef,
}

impl LogFormat {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Ecs => "ecs",
            Self::Cef => "cef",
        }
    }
}

#[derive(Clone, Debug)]
pub struct SyslogConfig {
    pub address: SyslogAddress,
    pub header: SyslogHeader,
    pub body: LogFormat,
    pub facility: Facility,
    pub tls: TlsFiles,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogAddress {
    Network {
        transport: Transport,
        /// A name or an IP address, without brackets.
        host: String,
        port: u16,
    },
    /// A datagram socket on this machine.
    Unix(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyslogHeader {
    Rfc5424,
    /// The older form, which sockets such as /dev/log expect.
    Rfc3164,
}

/// The facility's number (RFC 5424, table 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(pub u8);

/// PEM files for `tls://`.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Authorities that the server's certificate is checked with; the system's where there is none.
    pub ca: Option<PathBuf>,
    /// Certificate chain and key that fim shows to the server.
    pub client: Option<(PathBuf, SecretSource)>,
}

impl LogConfig {
    /// The file's path, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match &self.kind {
            LogKind::File(file) => Some(&file.path),
            LogKind::Syslog(_) => None,
        }
    }
}

impl fmt::Display for SyslogAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", crate::core::path::display(path)),
            Self::Network { transport, host, port } => {
                let scheme = transport.as_str();
                match host.contains(':') {
                    true => write!(f, "{scheme}://[{host}]:{port}"),
                    false => write!(f, "{scheme}://{host}:{port}"),
                }
            }
        }
    }
}

impl Transport {
    fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

const FORMATS: [(&str, LogFormat); 4] =
    [("text", LogFormat::Text), ("json", LogFormat::Json), ("ecs", LogFormat::Ecs), ("cef", LogFormat::Cef)];

const FACILITIES: [(&str, Facility); 20] = [
    ("kern", Facility(0)),
    ("user", Facility(1)),
    ("mail", Facility(2)),
    ("daemon", Facility(3)),
    ("auth", Facility(4)),
    ("syslog", Facility(5)),
    ("lpr", Facility(6)),
    ("news", Facility(7)),
    ("uucp", Facility(8)),
    ("cron", Facility(9)),
    ("authpriv", Facility(10)),
    ("ftp", Facility(11)),
    ("local0", Facility(16)),
    ("local1", Facility(17)),
    ("local2", Facility(18)),
    ("local3", Facility(19)),
    ("local4", Facility(20)),
    ("local5", Facility(21)),
    ("local6", Facility(22)),
    ("local7", Facility(23)),
];

pub(super) fn read_all(
    source: Source<'_>,
    sections: Vec<Section<'_>>,
    alerts: &[AlertConfig],
) -> Result<Vec<LogConfig>, ConfigError> {
    let mut logs: Vec<LogConfig> = Vec::with_capacity(sections.len());
    for section in sections {
        let line = section.line;
        let log = read(section)?;
        let shown = log.name.escape_debug();
        let others = alerts.iter().map(|a| &a.name).chain(logs.iter().map(|l| &l.name));
        if OWN_SINKS.contains(&log.name.as_str()) || others.into_iter().any(|name| *name == log.name) {
            let sentence =
                format!("the name \"{shown}\" is taken; give this [[log]] its own with name = \"…\"");
            return Err(source.at(line, sentence));
        }
        if log.file().is_some() && logs.iter().any(|l| l.file() == log.file()) {
            let sentence = "two [[log]] write to the same file; give each its own path".to_owned();
            return Err(source.at(line, sentence));
        }
        logs.push(log);
    }
    Ok(logs)
}

#[derive(Clone, Copy)]
enum Type {
    File,
    Syslog,
}

fn read(mut section: Section<'_>) -> Result<LogConfig, ConfigError> {
    let types = [("file", Type::File), ("syslog", Type::Syslog)];
    let Some(kind) = section.choice("type", &types)? else {
        section.refuse_unknown(&keys::names(&[&keys::LOG, &keys::LOG_FILE, &keys::LOG_SYSLOG]))?;
        return Err(section.missing("type", "\"file\" (or \"syslog\")"));
    };
    let own = match kind {
        Type::File => &keys::LOG_FILE,
        Type::Syslog => &keys::LOG_SYSLOG,
    };
    section.rename(format!("[[log]] of type {}", types[kind as usize].0));
    section.refuse_unknown(&keys::names(&[&keys::LOG, own]))?;
    let named = match section.has("name") {
        true => Some(section.need_text("name", "\"archive\"")?.value),
        false => None,
    };
    let min_severity = section.choice("min_severity", &SEVERITIES)?.unwrap_or(Severity::Low);
    let (kind, default_name) = match kind {
        Type::File => {
            let log = file(&mut section)?;
            let name = format!("log:{}", crate::core::path::display(&log.path));
            (LogKind::File(log), name)
        }
        Type::Syslog => {
            let log = syslog(&mut section)?;
            let name = format!("log:{}", log.address);
            (LogKind::Syslog(log), name)
        }
    };
    Ok(LogConfig { name: named.unwrap_or(default_name), min_severity, kind })
}

fn file(section: &mut Section<'_>) -> Result<FileLog, ConfigError> {
    let line = section.line;
    let found = section.need_text("path", "\"/var/log/fim/fim.log\"")?;
    let path = section.absolute("path", &found)?;
    if path.file_name().is_none() || found.value.ends_with('/') {
        return Err(section.bad(found.line, "path", "is a folder; write the path of a file in it"));
    }
    let format = section.choice("format", &FORMATS)?.unwrap_or(LogFormat::Text);
    let max_size = section.size("max_size", 0)?;
    if max_size.is_some_and(|size| size < LEAST_SIZE) {
        return Err(section.bad(line, "max_size", "is too small; the smallest is \"4KiB\""));
    }
    let max_age = section.duration("max_age", Duration::from_secs(1))?;
    let keep = section.take::<u32>("keep", "a number of files, without quotes")?;
    if let Some(keep) = &keep {
        if !(1..=MOST_KEPT).contains(&keep.value) {
            return Err(section.bad(keep.line, "keep", &format!("must be between 1 and {MOST_KEPT}")));
        }
        if max_size.is_none() && max_age.is_none() {
            let sentence =
                "says how many rotated files to keep, but nothing rotates; add max_size or max_age";
            return Err(section.bad(keep.line, "keep", sentence));
        }
    }
    let keep = keep.map_or(7, |keep| keep.value);
    Ok(FileLog { path, format, rotation: Rotation { max_size, max_age, keep } })
}

fn syslog(section: &mut Section<'_>) -> Result<SyslogConfig, ConfigError> {
    const EXAMPLE: &str = "\"tls://logs.example.org:6514\"";
    let found = section.need_text("address", EXAMPLE)?;
    let address = address(section, &found)?;
    let headers = [("rfc5424", SyslogHeader::Rfc5424), ("rfc3164", SyslogHeader::Rfc3164)];
    let usual = match address {
        SyslogAddress::Network { .. } => SyslogHeader::Rfc5424,
        SyslogAddress::Unix(_) => SyslogHeader::Rfc3164,
    };
    let header = section.choice("format", &headers)?.unwrap_or(usual);
    let body = section.choice("body", &FORMATS)?.unwrap_or(LogFormat::Text);
    let facility = section.choice("facility", &FACILITIES)?.unwrap_or(Facility(10));
    let tls = tls(section)?;
    let encrypted = matches!(address, SyslogAddress::Network { transport: Transport::Tls, .. });
    if !encrypted && (tls.ca.is_some() || tls.client.is_some()) {
        let sentence = "has no use for ca_file and client_cert; write tls:// or remove them";
        return Err(section.bad(found.line, "address", sentence));
    }
    Ok(SyslogConfig { address, header, body, facility, tls })
}

fn tls(section: &mut Section<'_>) -> Result<TlsFiles, ConfigError> {
    let line = section.line;
    let mut path = |key: &str| -> Result<Option<PathBuf>, ConfigError> {
        let Some(found) = section.text(key)? else { return Ok(None) };
        section.absolute(key, &found).map(Some)
    };
    let ca = path("ca_file")?;
    let client = match (path("client_cert")?, path("client_key")?) {
        (Some(cert), Some(key)) => Some((cert, SecretSource::File(key))),
        (None, None) => None,
        (Some(_), None) => return Err(section.bad(line, "client_cert", "needs its client_key; add it")),
        (None, Some(_)) => return Err(section.bad(line, "client_key", "needs its client_cert; add it")),
    };
    Ok(TlsFiles { ca, client })
}

fn address(section: &Section<'_>, found: &Put<String>) -> Result<SyslogAddress, ConfigError> {
    let bad = |sentence: &str| {
        let sentence =
            format!("{sentence}; write for example \"tls://logs.example.org:6514\" or \"unix:///dev/log\"");
        section.bad(found.line, "address", &sentence)
    };
    if let Some(path) = found.value.strip_prefix("unix://") {
        let path = Put { value: path.to_owned(), line: found.line };
        return section.absolute("address", &path).map(SyslogAddress::Unix);
    }
    let url = reqwest::Url::parse(&found.value).map_err(|_| bad("is no address"))?;
    let (transport, usual) = match url.scheme() {
        "udp" => (Transport::Udp, 514),
        "tcp" => (Transport::Tcp, 514),
        "tls" => (Transport::Tls, 6514),
        _ => return Err(bad("must begin with udp://, tcp://, tls:// or unix://")),
    };
    let host = url.host_str().unwrap_or("").trim_matches(['[', ']']).to_owned();
    let more = !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some();
    if host.is_empty() || more || !url.username().is_empty() || url.password().is_some() {
        return Err(bad("must be a host and a port, nothing else"));
    }
    Ok(SyslogAddress::Network { transport, host, port: url.port().unwrap_or(usual) })
}
