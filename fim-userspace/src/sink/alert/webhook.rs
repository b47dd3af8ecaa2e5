//! One POST per message, signed where there is a key.

use hmac::Mac;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};

use super::hidden::Hidden;
use super::http::{self, Answer};
use super::message::Message;
use super::{Fault, Transport, forms};
use crate::config::{Secret, WebhookFormat};
use crate::sink::keyed::keyed;

pub struct Webhook {
    client: Client,
    url: Url,
    key: Option<Secret>,
    format: WebhookFormat,
    hidden: Hidden,
}

impl Webhook {
    /// Fails with a reason when the TLS library cannot be set up.
    pub fn new(url: Url, key: Option<Secret>, format: WebhookFormat) -> Result<Self, String> {
        let mut hidden = Hidden::default();
        hidden.address(&url);
        key.iter().for_each(|key| hidden.add(None, key));
        Ok(Self { client: http::client()?, url, key, format, hidden })
    }
}

impl Transport for Webhook {
    async fn send(&mut self, message: &Message) -> Result<String, Fault> {
        let body = serde_json::to_vec(&forms::body(self.format, message, self.key.as_ref()))
            .map_err(|e| Fault::Final { reason: e.to_string() })?;
        let mut request = self
            .client
            .post(self.url.clone())
            .timeout(http::PATIENCE)
            .header(CONTENT_TYPE, "application/json")
            .header("X-Fim-Event-Id", &message.id);
        // PagerDuty's key stands in the body.
        if let Some(key) = self.key.as_ref().filter(|_| self.format != WebhookFormat::Pagerduty) {
            request = request.header("X-Fim-Signature", signature(key, &body));
        }
        let response = request.body(body).send().await.map_err(|e| http::unanswered(&e))?;
        let answer = Answer::read(response).await;
        match answer.status.is_success() {
            true => Ok(format!("{}{}", answer.status, answer.said(&self.hidden))),
            false => Err(answer.fault(&answer.said(&self.hidden))),
        }
    }
}

/// `sha256=` and the HMAC-SHA256 of the body in hexadecimal.
pub(super) fn signature(key: &Secret, body: &[u8]) -> String {
    let bytes = keyed(key.expose().as_bytes()).chain_update(body).finalize().into_bytes();
    bytes.iter().fold("sha256=".to_owned(), |text, b| format!("{text}{b:02x}"))
}
