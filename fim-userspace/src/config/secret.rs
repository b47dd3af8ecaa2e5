//! Secrets by type: where they are read from, and never shown.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::error::SecretError;
use super::{AlertConfig, AlertKind, CentralConfig, LogConfig, LogKind};

const LONGEST: u64 = 64 * 1024;

/// Text that `Debug` does not show, that cannot be serialised, and that is wiped from memory at its end.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret is kept. It is read when it is needed, so that `fim log` and `fim status` can do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// Owned by root or the daemon's user, with no access for anybody else.
    File(PathBuf),
    /// A name below `$CREDENTIALS_DIRECTORY` (systemd.exec(5), LoadCredential=).
    Credential(String),
    /// An environment variable.
    Env(String),
}

impl SecretSource {
    /// Reads the secret; a line break at its end is dropped.
    pub fn read(&self) -> Result<Secret, SecretError> {
        match self {
            Self::File(path) => read_file(path, true),
            Self::Credential(name) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
                // systemd keeps this folder to the service by means that its file modes do not show.
                Some(dir) => read_file(&Path::new(&dir).join(name), false),
                None => Err(SecretError::NoCredentials(name.clone())),
            },
            Self::Env(name) => {
                let value = std::env::var_os(name).ok_or_else(|| SecretError::NoVariable(name.clone()))?;
                let place = format!("the environment variable {name}");
                let text = value.into_string().map_err(|_| SecretError::NotText(place.clone()))?;
                finish(&Zeroizing::new(text), place)
            }
        }
    }
}

/// The files that hold fim's own secrets. The configuration is one where the address of a webhook stands in it.
pub(super) fn files(
    config: &Path,
    alerts: &[AlertConfig],
    central: Option<&CentralConfig>,
    logs: &[LogConfig],
) -> Vec<PathBuf> {
    let source = |alert: &AlertConfig| match &alert.kind {
        AlertKind::Twilio(twilio) => Some(twilio.secret.clone()),
        AlertKind::Email(email) => email.password.clone(),
        AlertKind::Webhook(hook) => hook.secret.clone(),
    };
    let sources = alerts.iter().filter_map(source);
    let sources = sources.chain(central.and_then(|central| central.password.clone()));
    let keys = logs.iter().filter_map(|log| match &log.kind {
        LogKind::Syslog(syslog) => syslog.tls.client.as_ref().map(|(_, key)| key.clone()),
        LogKind::File(_) => None,
    });
    let mut files: Vec<PathBuf> = sources
        .chain(keys)
        .filter_map(|source| match source {
            SecretSource::File(path) => Some(path),
            SecretSource::Credential(_) | SecretSource::Env(_) => None,
        })
        .collect();
    if alerts.iter().any(|alert| matches!(alert.kind, AlertKind::Webhook(_))) {
        files.extend(std::path::absolute(config));
    }
    files
}

fn read_file(path: &Path, check_access: bool) -> Result<Secret, SecretError> {
    let failed = |source| SecretError::File { path: path.into(), source };
    // Without O_NONBLOCK a FIFO would hang the start.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(SecretError::NotAFile(path.into()));
    }
    if check_access {
        if meta.mode() & 0o077 != 0 {
            return Err(SecretError::Open { path: path.into(), mode: meta.mode() & 0o7777 });
        }
        if meta.uid() != 0 && meta.uid() != nix::unistd::geteuid().as_raw() {
            return Err(SecretError::Owner { path: path.into(), uid: meta.uid() });
        }
    }
    let place = crate::core::path::display(path);
    // Room for all of it at once: what grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LONGEST {
        return Err(SecretError::Long(place));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| SecretError::NotText(place.clone()))?;
    finish(text, place)
}

fn finish(text: &str, place: String) -> Result<Secret, SecretError> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(SecretError::Empty(place));
    }
    Ok(Secret(text.to_owned()))
}
