//! What all receivers over HTTP have in common: the client, and what an answer means.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};

use super::Fault;
use super::hidden::Hidden;
use crate::sink::line::printable;

/// Characters of the receiver's answer that are kept.
const ANSWER: usize = 200;
/// Bytes of it that are read.
const LONGEST: usize = 64 * 1024;

/// For a whole exchange.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Fails with a reason when the TLS library cannot be set up.
pub fn client() -> Result<Client, String> {
    Client::builder()
        .connect_timeout(Duration::from_secs(10))
        // A redirect would take the message to a place nobody configured.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("fim/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| reason_of(&e))
}

pub struct Answer {
    pub status: StatusCode,
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads as much as anybody needs, whatever the other side sends.
    pub async fn read(mut response: Response) -> Self {
        let (status, retry_after) = (response.status(), retry_after(response.headers()));
        let mut body = Vec::new();
        while body.len() < LONGEST
            && let Ok(Some(part)) = response.chunk().await
        {
            body.extend_from_slice(&part[..part.len().min(LONGEST - body.len())]);
        }
        Self { status, retry_after, body }
    }

    /// `: ` and the beginning of the body, or nothing.
    pub fn said(&self, hidden: &Hidden) -> String {
        let text = shown(&String::from_utf8_lossy(&self.body), hidden);
        if text.is_empty() { text } else { format!(": {text}") }
    }

    /// Whether another attempt may go better.
    pub fn is_passing(&self) -> bool {
        self.status.is_server_error()
            || matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
    }

    /// The failure that the answer is, explained by `said`.
    pub fn fault(&self, said: &str) -> Fault {
        let status = self.status;
        match self.is_passing() {
            true => Fault::Passing {
                reason: format!("the receiver answered {status}{said}"),
                retry_after: self.retry_after,
            },
            false => Fault::Final { reason: format!("the receiver refused with {status}{said}") },
        }
    }
}

/// The beginning of what a receiver says, without secrets and harmless for a terminal.
pub fn shown(text: &str, hidden: &Hidden) -> String {
    printable(&hidden.cover(text).trim().chars().take(ANSWER).collect::<String>())
}

/// Nobody answered.
pub fn unanswered(error: &reqwest::Error) -> Fault {
    Fault::Passing { reason: reason_of(error), retry_after: None }
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
    last.map_or(what.to_owned(), |last| format!("{what}: {}", printable(&last)))
}
