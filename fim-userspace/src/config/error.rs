//! What is wrong with the configuration, as one sentence that says where and what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::core::path::display;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "there is no configuration file {}; write one (docs/example.toml is a start) or name another with --config",
        display(.0)
    )]
    Missing(PathBuf),
    #[error("cannot read the configuration file {}: {source}; run fim as root or correct the file's permissions", display(.file))]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("{}: not UTF-8 text near line {line}; save the configuration as UTF-8", display(.file))]
    NotText { file: PathBuf, line: usize },
    #[error("{}: {sentence}", display(.file))]
    Whole { file: PathBuf, sentence: String },
    #[error("{}:{line}: {sentence}", display(.file))]
    At { file: PathBuf, line: usize, sentence: String },
}

/// A secret that cannot be had. Never holds the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read the secret file {}: {source}; create it, owned by root with mode 0600", display(.path))]
    File { path: PathBuf, source: io::Error },
    #[error("{} holds a secret but is no regular file; put the secret into a file with mode 0600", display(.0))]
    NotAFile(PathBuf),
    #[error(
        "{} holds a secret but its mode {mode:04o} lets others than its owner in; run: chmod 600 {}",
        display(.path), display(.path)
    )]
    Open { path: PathBuf, mode: u32 },
    #[error(
        "{} holds a secret but belongs to uid {uid}, who could change it; run: chown root {}",
        display(.path), display(.path)
    )]
    Owner { path: PathBuf, uid: u32 },
    #[error("the secret in {0} is empty; put the secret there")]
    Empty(String),
    #[error("the secret in {0} is longer than 64 KiB; is it the right file?")]
    Long(String),
    #[error("the secret in {0} is not UTF-8 text; is it the right file?")]
    NotText(String),
    #[error(
        "the credential {0:?} cannot be had: fim was not started by systemd with LoadCredential=; add it to the unit or use a secret file"
    )]
    NoCredentials(String),
    #[error("the environment variable {0} is not set; set it for the daemon or use a secret file")]
    NoVariable(String),
}

pub(super) fn at(file: &Path, line: usize, sentence: String) -> ConfigError {
    ConfigError::At { file: file.into(), line, sentence }
}
