//! `[metrics]`: a port from which a Prometheus on this machine reads.

use std::net::SocketAddr;

use super::error::ConfigError;
use super::read::Section;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsConfig {
    /// On loopback; `None`: there is no port, only `fim metrics`.
    pub listen: Option<SocketAddr>,
}

pub(super) fn read(section: Option<Section<'_>>) -> Result<MetricsConfig, ConfigError> {
    let Some(mut section) = section else { return Ok(MetricsConfig::default()) };
    section.refuse_unknown(&super::keys::METRICS.names())?;
    if !section.has("listen") {
        return Ok(MetricsConfig::default());
    }
    let found = section.need_text("listen", "\"127.0.0.1:9184\"")?;
    let sentence = match found.value.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => "needs a port; write for example \"127.0.0.1:9184\"",
        Ok(address) if address.ip().is_loopback() => return Ok(MetricsConfig { listen: Some(address) }),
        Ok(_) => {
            "is no address of loopback, and the metrics are told without a password; write \"127.0.0.1:9184\" and let a \
             reverse proxy offer them to others"
        }
        Err(_) => "is no address and port; write for example \"127.0.0.1:9184\" or \"[::1]:9184\"",
    };
    Err(section.bad(found.line, "listen", sentence))
}
