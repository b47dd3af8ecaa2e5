//! Mail over SMTP, encrypted: STARTTLS or TLS from the first byte. Unencrypted on loopback only, as configured.

use std::path::Path;
use std::time::Duration;

use lettre::message::header::{ContentTransferEncoding, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::hidden::Hidden;
use super::message::Message;
use super::message::card::Card;
use super::message::escape::Plain;
use super::message::mail::mail;
use super::{Fault, Transport};
use crate::config::{EmailConfig, Secret, Url};
use crate::core::path::display;
use crate::sink::line::printable;

/// For each step of the conversation.
const STEP: Duration = Duration::from_secs(30);
/// For all of it: a server may stretch many steps.
const WHOLE: Duration = Duration::from_secs(120);

/// Characters of the server's answer that are kept.
const ANSWER: usize = 400;

pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Mailbox,
    whole: Duration,
    hidden: Hidden,
}

impl Smtp {
    /// Sends to one address. Fails with a sentence.
    pub fn new(config: &EmailConfig, password: Option<&Secret>, to: &str) -> Result<Self, String> {
        let url = config.smtp.get();
        let host = url.host_str().unwrap_or("").trim_matches(['[', ']']).to_owned();
        let (tls, port) = match url.scheme() {
            "smtps" => (Tls::Wrapper(parameters(&host, config.ca_file.as_deref())?), 465),
            "smtp+starttls" => (Tls::Required(parameters(&host, config.ca_file.as_deref())?), 587),
            _ => (Tls::None, 25),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(url.port().unwrap_or(port))
            .tls(tls)
            .timeout(Some(STEP));
        let mut hidden = Hidden::default();
        if let (false, Some(password)) = (url.username().is_empty(), password) {
            let user = user(&config.smtp)?;
            hidden.add(Some(&user), password);
            builder = builder.credentials(Credentials::new(user, password.expose().to_owned()));
        }
        let address =
            |text: &str| text.parse().map_err(|e| format!("{:?} is no e-mail address: {e}", printable(text)));
        let (transport, from, to) = (builder.build(), address(&config.from)?, address(to)?);
        Ok(Self { transport, from, to, whole: WHOLE, hidden })
    }

    #[cfg(test)]
    pub(super) fn impatient(&mut self, whole: Duration) {
        self.whole = whole;
    }

    /// What the server said, of any length: without secrets, and no more of it than a person reads.
    fn shown(&self, said: &str) -> String {
        Plain::new(&self.hidden.cover(said)).clip(ANSWER).to_string()
    }

    /// The whole 5xx family is final (RFC 5321, 4.2.1); all else, a server that vanishes or shows a bad certificate
    /// included, may be better next time.
    fn fault(&self, error: &lettre::transport::smtp::Error) -> Fault {
        let mut reason = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(e) = cause {
            let said = e.to_string();
            if !reason.contains(&said) {
                reason = format!("{reason}: {said}");
            }
            cause = e.source();
        }
        let reason = self.shown(&reason);
        match error.is_permanent() {
            true => Fault::Final { reason },
            false => Fault::Passing { reason, retry_after: None },
        }
    }

    pub(super) fn compose(&self, message: &Message) -> Result<lettre::Message, lettre::error::Error> {
        let mail = mail(&Card::of(message));
        let text = SinglePart::builder()
            .header(lettre::message::header::ContentType::TEXT_PLAIN)
            .header(ContentTransferEncoding::QuotedPrintable)
            .body(mail.text);
        let html = SinglePart::builder()
            .header(lettre::message::header::ContentType::TEXT_HTML)
            .header(ContentTransferEncoding::QuotedPrintable)
            .body(mail.html);
        lettre::Message::builder()
            .from(self.from.clone())
            .to(self.to.clone())
            .subject(mail.subject)
            // A repeated mail can be told by it.
            .message_id(Some(format!("<{}@fim.invalid>", token(&message.id))))
            .header(Automatic)
            .header(EventId(token(&message.id)))
            .multipart(MultiPart::alternative().singlepart(text).singlepart(html))
    }
}

impl Transport for Smtp {
    fn shows_lines(&self) -> bool {
        true
    }

    async fn send(&mut self, message: &Message) -> Result<String, Fault> {
        let mail = self.compose(message).map_err(|e| Fault::Final { reason: e.to_string() })?;
        match tokio::time::timeout(self.whole, self.transport.send(mail)).await {
            Ok(Ok(response)) => {
                let said: Vec<&str> = response.message().collect();
                Ok(self.shown(&format!("{} {}", response.code(), said.join(" "))))
            }
            Ok(Err(error)) => Err(self.fault(&error)),
            Err(_) => Err(Fault::Passing {
                reason: format!("the mail server did not finish within {} s", self.whole.as_secs_f32()),
                retry_after: None,
            }),
        }
    }
}

/// The user's name, its percent signs undone.
fn user(url: &Url) -> Result<String, String> {
    let name = percent_encoding::percent_decode_str(url.get().username()).decode_utf8();
    name.map(Into::into).map_err(|_| "the user in smtp is not UTF-8 text".into())
}

/// With a file only the authorities in it are believed.
fn parameters(host: &str, ca_file: Option<&Path>) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(file) = ca_file {
        let pem = std::fs::read(file).map_err(|e| {
            format!("cannot read ca_file {}: {e}; put the authority's certificate there", display(file))
        })?;
        let unreadable = || format!("ca_file {} holds no certificate in PEM", display(file));
        builder = builder
            .certificate_store(CertificateStore::None)
            .add_root_certificate(Certificate::from_pem(&pem).map_err(|_| unreadable())?);
    }
    builder.build_rustls().map_err(|e| e.to_string())
}

/// Letters, digits and hyphens of an id.
fn token(id: &str) -> String {
    id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}

/// `Auto-Submitted: auto-generated` (RFC 3834): no holiday notice comes back.
#[derive(Clone)]
struct Automatic;

impl Header for Automatic {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".into())
    }
}

#[derive(Clone)]
struct EventId(String);

impl Header for EventId {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("X-Fim-Event-Id")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(text.into()))
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), self.0.clone())
    }
}
