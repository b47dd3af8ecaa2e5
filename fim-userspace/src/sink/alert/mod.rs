//! Alerts: who is told, of what, and when. Short messages, mail, webhooks.

mod forms;
mod hidden;
mod http;
mod lane;
mod lines;
pub mod message;
pub mod plan;
pub mod queue;
mod smtp;
#[cfg(test)]
mod tests;
mod twilio;
mod webhook;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use lane::Lane;
pub use smtp::Smtp;
pub use twilio::Twilio;
pub use webhook::Webhook;

use super::{StartError, open};
use crate::config::{AlertConfig, AlertKind, Secret, SecretSource};
use crate::core::policy::Secrets;
use message::Message;
use plan::{LanePlan, lanes};

/// One way to a receiver.
pub trait Transport: Send + 'static {
    /// Sends; returns what the receiver answered, harmless for a terminal.
    fn send(&mut self, message: &Message) -> impl Future<Output = Result<String, Fault>> + Send;

    /// Whether there is room for the lines that a change removed and added.
    fn shows_lines(&self) -> bool {
        false
    }
}

/// Why a message did not arrive, as far as is known. Reasons hold no secret and are harmless for a terminal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Another attempt may go better.
    #[error("{reason}")]
    Passing {
        reason: String,
        /// How long the receiver asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// The receiver will never take it.
    #[error("{reason}")]
    Final { reason: String },
}

/// Told, in a sentence, of a receiver that refuses for good; false when that could not be noted now.
pub type Report = Arc<dyn Fn(String) -> bool + Send + Sync>;

/// Any of the transports.
pub enum Channel {
    Webhook(Webhook),
    Twilio(Twilio),
    Smtp(Smtp),
}

impl Transport for Channel {
    async fn send(&mut self, message: &Message) -> Result<String, Fault> {
        match self {
            Self::Webhook(webhook) => webhook.send(message).await,
            Self::Twilio(twilio) => twilio.send(message).await,
            Self::Smtp(smtp) => smtp.send(message).await,
        }
    }

    fn shows_lines(&self) -> bool {
        match self {
            Self::Webhook(webhook) => webhook.shows_lines(),
            Self::Twilio(twilio) => twilio.shows_lines(),
            Self::Smtp(smtp) => smtp.shows_lines(),
        }
    }
}

impl Channel {
    /// Reads the secret and makes the client; `to` is the receiver of mail and short messages.
    pub fn open(alert: &AlertConfig, to: Option<&str>) -> Result<Self, StartError> {
        let failed = |reason| StartError::Client { name: alert.name.clone(), reason };
        let to = to.unwrap_or_default();
        match &alert.kind {
            AlertKind::Webhook(hook) => {
                let key = secret(alert, hook.secret.as_ref())?;
                Webhook::new(hook.url.get().clone(), key, hook.format).map(Self::Webhook).map_err(failed)
            }
            AlertKind::Twilio(config) => {
                let source = |source| StartError::Secret { name: alert.name.clone(), source };
                let secret = config.secret.read().map_err(source)?;
                Twilio::new(config, secret, to).map(Self::Twilio).map_err(failed)
            }
            AlertKind::Email(config) => {
                let password = secret(alert, config.password.as_ref())?;
                Smtp::new(config, password.as_ref(), to).map(Self::Smtp).map_err(failed)
            }
        }
    }
}

fn secret(alert: &AlertConfig, source: Option<&SecretSource>) -> Result<Option<Secret>, StartError> {
    let failed = |source| StartError::Secret { name: alert.name.clone(), source };
    source.map(SecretSource::read).transpose().map_err(failed)
}

/// Every lane of an alert, its cursor in place.
pub fn open_lanes(
    alert: &AlertConfig,
    secrets: &Secrets,
    dir: &Path,
    report: &Report,
) -> Result<Vec<Lane<Channel>>, StartError> {
    let states = open(dir)?.sink_states()?;
    let known = |name: &str| states.iter().any(|state| state.name == name);
    let open = |plan: LanePlan| {
        let channel = Channel::open(alert, plan.to.as_deref())?;
        Ok(Lane::new(plan, channel, secrets.clone(), dir, report.clone())?)
    };
    lanes(alert, &known).into_iter().map(open).collect()
}

/// Reads every secret and makes every client.
pub fn check(alert: &AlertConfig) -> Result<(), StartError> {
    lanes(alert, &|_| false).iter().try_for_each(|plan| Channel::open(alert, plan.to.as_deref()).map(drop))
}
