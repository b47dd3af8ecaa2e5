//! One POST per record, with the record as JSON body, signed.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use sha2::Sha256;

use super::{Delivered, Sink, SinkError, line};
use crate::config::Secret;
use crate::core::event::Record;
use crate::core::policy::Severity;

/// Characters of the receiver's answer that are kept as the reason of a refusal.
const ANSWER: usize = 200;

pub struct Webhook {
    name: String,
    client: Client,
    url: Url,
    key: Option<Secret>,
    min_severity: Severity,
}

impl Webhook {
    /// Fails with a reason when the TLS library cannot be set up.
    pub fn new(name: &str, url: Url, key: Option<Secret>, min_severity: Severity) -> Result<Self, String> {
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_secs(30))
            // A redirect would take the record to a place nobody configured.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("fim/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| reason_of(&e))?;
        Ok(Self { name: name.into(), client, url, key, min_severity })
    }

    async fn post(&self, record: &Record) -> Result<Option<String>, SinkError> {
        let failed = |reason, retry_after| SinkError::Failed { reason, retry_after };
        let body = serde_json::to_vec(record).map_err(|e| failed(e.to_string(), None))?;
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("X-Fim-Event-Id", &record.id);
        if let Some(key) = &self.key {
            request = request.header("X-Fim-Signature", signature(key, &body));
        }
        let answer = request.body(body).send().await.map_err(|e| failed(reason_of(&e), None))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(None);
        }
        let retry_after = retry_after(answer.headers());
        let text = answer.text().await.unwrap_or_default();
        let text = line::printable(&text.chars().take(ANSWER).collect::<String>());
        let said = if text.is_empty() { String::new() } else { format!(": {text}") };
        let passing = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        match status.is_server_error() || passing {
            true => Err(failed(format!("the receiver answered {status}{said}"), retry_after)),
            false => Ok(Some(format!("record {} was refused with {status}{said}", record.seq))),
        }
    }
}

impl Sink for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    /// Sends the first record that is severe enough: the cursor follows each request, so that a crash repeats one at most.
    async fn deliver(&mut self, records: &[Record]) -> Result<Delivered, SinkError> {
        let Some(index) = records.iter().position(|r| r.event.severity >= self.min_severity) else {
            return Ok(Delivered::all(records));
        };
        let parked = self.post(&records[index]).await?.into_iter().collect();
        Ok(Delivered { count: index + 1, parked })
    }
}

/// `sha256=` and the HMAC-SHA256 of the body in hexadecimal.
pub(super) fn signature(key: &Secret, body: &[u8]) -> String {
    // HMAC takes keys of every length.
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()).unwrap_or_else(|_| unreachable!());
    mac.update(body);
    let bytes = mac.finalize().into_bytes();
    bytes.iter().fold("sha256=".to_owned(), |text, b| format!("{text}{b:02x}"))
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Duration::try_from(date.duration_since(jiff::Timestamp::now())).ok()
}

/// What went wrong, without the address: its path may be secret.
fn reason_of(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "no answer within the time limit"
    } else if error.is_connect() {
        "cannot connect"
    } else {
        "the request failed"
    };
    // The first error names the address; its causes do not.
    let mut cause = std::error::Error::source(error);
    let mut last = None;
    while let Some(e) = cause {
        last = Some(e.to_string());
        cause = e.source();
    }
    last.map_or(what.to_owned(), |last| format!("{what}: {}", line::printable(&last)))
}
