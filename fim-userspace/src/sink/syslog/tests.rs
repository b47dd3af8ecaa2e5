pub(in crate::sink) mod certificates;
mod receiver;
mod rsyslog;

use std::path::{Path, PathBuf};

use super::*;
use crate::config::{Facility, TlsFiles};
use crate::sink::tests::{events, ids, run, sink_state, state, until};
use crate::store::Store;

fn network(transport: Transport, port: u16) -> SyslogAddress {
    SyslogAddress::Network { transport, host: "127.0.0.1".into(), port }
}

fn config(address: SyslogAddress) -> SyslogConfig {
    let header = match address {
        SyslogAddress::Unix(_) => SyslogHeader::Rfc3164,
        SyslogAddress::Network { .. } => SyslogHeader::Rfc5424,
    };
    SyslogConfig { address, header, body: LogFormat::Text, facility: Facility(10), tls: TlsFiles::default() }
}

fn sink(config: SyslogConfig) -> Syslog {
    Syslog::new("log:test", Severity::Low, config).expect("a sink")
}
