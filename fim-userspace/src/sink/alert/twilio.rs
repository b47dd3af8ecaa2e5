//! Short messages through Twilio: <https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource>.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};
use serde::Deserialize;

use super::hidden::Hidden;
use super::http::{self, Answer, shown};
use super::message::{Message, sms};
use super::{Fault, Transport};
use crate::config::{Secret, TwilioConfig, TwilioSender};

/// Refusals that pass: too many requests, and queues of a sender that are full.
const PASSING: [u64; 4] = [14_107, 20_429, 21_611, 63_018];

pub struct Twilio {
    client: Client,
    url: Url,
    user: String,
    secret: Secret,
    sender: TwilioSender,
    to: String,
    patience: Duration,
    hidden: Hidden,
}

/// Of an error: <https://www.twilio.com/docs/usage/twilios-response#response-formats-exceptions>.
#[derive(Default, Deserialize)]
struct Complaint {
    code: Option<u64>,
    message: Option<String>,
}

/// Of a message that was taken.
#[derive(Default, Deserialize)]
struct Receipt {
    sid: Option<String>,
    status: Option<String>,
}

impl Twilio {
    /// Sends to one number. Fails with a reason when the TLS library cannot be set up.
    pub fn new(config: &TwilioConfig, secret: Secret, to: &str) -> Result<Self, String> {
        let mut url = config.api_base.get().clone();
        url.path_segments_mut()
            .map_err(|()| "api_base is no address that paths can follow".to_owned())?
            .pop_if_empty()
            .extend(["2010-04-01", "Accounts", &config.account_sid, "Messages.json"]);
        let mut hidden = Hidden::default();
        hidden.add(Some(&config.user), &secret);
        Ok(Self {
            hidden,
            client: http::client()?,
            url,
            user: config.user.clone(),
            secret,
            sender: config.sender.clone(),
            to: to.into(),
            patience: http::PATIENCE,
        })
    }
}

impl Twilio {
    #[cfg(test)]
    pub(super) fn impatient(&mut self, patience: Duration) {
        self.patience = patience;
    }

    fn form(&self, message: &Message) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("To", &self.to);
        match &self.sender {
            TwilioSender::From(from) => form.append_pair("From", from),
            TwilioSender::MessagingService(sid) => form.append_pair("MessagingServiceSid", sid),
        };
        form.append_pair("Body", &sms::text(message)).finish()
    }
}

impl Transport for Twilio {
    async fn send(&mut self, message: &Message) -> Result<String, Fault> {
        let response = self
            .client
            .post(self.url.clone())
            .timeout(self.patience)
            .basic_auth(&self.user, Some(self.secret.expose()))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(self.form(message))
            .send()
            .await
            .map_err(|e| http::unanswered(&e))?;
        let answer = Answer::read(response).await;
        if answer.status.is_success() {
            let receipt: Receipt = serde_json::from_slice(&answer.body).unwrap_or_default();
            let (sid, status) = (receipt.sid.unwrap_or_default(), receipt.status.unwrap_or_default());
            let [sid, status] = [sid, status].map(|text| shown(&text, &self.hidden));
            return Ok(format!("{}, {sid} {status}", answer.status));
        }
        Err(refusal(&answer, &self.hidden))
    }
}

fn refusal(answer: &Answer, hidden: &Hidden) -> Fault {
    let complaint: Complaint = serde_json::from_slice(&answer.body).unwrap_or_default();
    let said = match (&complaint.code, &complaint.message) {
        (Some(code), Some(message)) => {
            format!(": {} (Twilio's error {code})", shown(message, hidden))
        }
        _ => answer.said(hidden),
    };
    match (answer.fault(&said), complaint.code) {
        (Fault::Final { reason }, Some(code)) if PASSING.contains(&code) => {
            Fault::Passing { reason, retry_after: answer.retry_after }
        }
        (fault, _) => fault,
    }
}
