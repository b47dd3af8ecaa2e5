//! What a webhook's receiver expects in the body.

mod discord;
mod json;
mod pagerduty;
mod slack;
mod teams;

use serde_json::Value;

use super::message::Message;
use super::message::card::Card;
use crate::config::{Secret, WebhookFormat};

/// The body. `key` is PagerDuty's integration key, which stands in it; nobody else gets it.
pub fn body(format: WebhookFormat, message: &Message, key: Option<&Secret>) -> Value {
    let card = || Card::of(message);
    match format {
        WebhookFormat::Json => json::body(message),
        WebhookFormat::Slack => slack::body(&card()),
        WebhookFormat::Teams => teams::body(&card()),
        WebhookFormat::Discord => discord::body(&card()),
        WebhookFormat::Pagerduty => pagerduty::body(&card(), key.map_or("", Secret::expose)),
    }
}
