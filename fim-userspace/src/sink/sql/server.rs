//! The server as it is configured, and what is said when something is wrong with it.

use std::time::Duration;

use super::tls::Tls;
use crate::config::{CentralConfig, Dialect, Place, Secret, SecretError};

pub struct Server {
    pub dialect: Dialect,
    pub place: Place,
    pub user: String,
    pub database: String,
    pub password: Option<Secret>,
    /// `None` where nothing leaves this machine.
    pub tls: Option<Tls>,
    /// How long it may take over one transaction.
    pub patience: Duration,
}

/// Why the server cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("the central database cannot be used: {0}")]
    Secret(#[from] SecretError),
    #[error("the central database cannot be used: {0}")]
    Tls(String),
}

impl Server {
    pub fn new(config: &CentralConfig, patience: Duration) -> Result<Self, ServerError> {
        let password = config.password.as_ref().map(|source| source.read()).transpose()?;
        let encrypted = !config.place.is_local()
            || (config.tls_ca_file.is_some() && matches!(config.place, Place::Tcp { .. }));
        let tls = match encrypted {
            true => Some(Tls::new(config.tls_ca_file.as_deref()).map_err(ServerError::Tls)?),
            false => None,
        };
        Ok(Self {
            dialect: config.dialect,
            place: config.place.clone(),
            user: config.user.clone(),
            database: config.database.clone(),
            password,
            tls,
            patience,
        })
    }

    fn name(&self) -> String {
        format!("{} at {}", self.dialect.as_str(), self.place)
    }

    pub fn lost(&self, cause: &str) -> String {
        format!(
            "cannot reach {}: {cause}; records wait in the ledger; check that the server runs, its address, and its \
             certificate",
            self.name()
        )
    }

    pub fn silent(&self) -> String {
        format!(
            "{} gave no answer within {} s; records wait in the ledger; check the server",
            self.name(),
            self.patience.as_secs_f32()
        )
    }

    pub fn login(&self, cause: &str) -> String {
        format!(
            "{} does not let the user {:?} into the database {:?}: {cause}; check user, password and grants",
            self.name(),
            self.user,
            self.database
        )
    }

    pub fn grants(&self, cause: &str) -> String {
        format!(
            "{} lacks a grant for the user {:?}: {cause}; docs/central.md has the list",
            self.name(),
            self.user
        )
    }

    pub fn refused(&self, cause: &str) -> String {
        format!("{} refused a statement: {cause}", self.name())
    }
}
