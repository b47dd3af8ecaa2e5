//! `[control]`: who besides root may ask the running daemon.

use std::path::PathBuf;

use super::error::ConfigError;
use super::read::Section;

pub const DEFAULT_SOCKET: &str = "/run/fim/control";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlConfig {
    /// Name or number of the group whose members may read; `None`: nobody but root is answered.
    pub group: Option<String>,
    /// The socket that is offered to them.
    pub socket: PathBuf,
}

pub(super) fn read(section: Option<Section<'_>>) -> Result<ControlConfig, ConfigError> {
    let mut config = ControlConfig { group: None, socket: DEFAULT_SOCKET.into() };
    let Some(mut section) = section else { return Ok(config) };
    section.refuse_unknown(&super::keys::CONTROL.names())?;
    if section.has("group") {
        config.group = Some(section.need_text("group", "\"fim\"")?.value);
    }
    if section.has("socket") {
        let found = section.need_text("socket", "\"/run/fim/control\"")?;
        config.socket = section.absolute("socket", &found)?;
    }
    Ok(config)
}
