//! `[[alert]]`: who is told, and how.

use std::fmt;

use super::error::ConfigError;
use super::read::Section;
use super::secret::SecretSource;
use super::{SEVERITIES, WebhookFormat};
use crate::core::policy::Severity;

const COMMON: [&str; 3] = ["name", "type", "min_severity"];
const TWILIO: [&str; 7] =
    ["account_sid", "auth_token_file", "auth_token_credential", "auth_token_env", "from", "to", "api_base"];
const EMAIL: [&str; 6] = ["smtp", "password_file", "password_credential", "password_env", "from", "to"];
const WEBHOOK: [&str; 5] = ["url", "secret_file", "secret_credential", "secret_env", "format"];

/// The name of the sink that is always there; no alert can have it.
pub const JOURNALD: &str = "journald";

#[derive(Clone, Debug)]
pub struct AlertConfig {
    /// Unique; the sink's cursor is kept under it. The type where no name is given.
    pub name: String,
    /// Records below are passed over.
    pub min_severity: Severity,
    pub kind: AlertKind,
}

#[derive(Clone, Debug)]
pub enum AlertKind {
    Twilio(TwilioConfig),
    Email(EmailConfig),
    Webhook(WebhookConfig),
}

impl AlertKind {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Twilio(_) => "twilio",
            Self::Email(_) => "email",
            Self::Webhook(_) => "webhook",
        }
    }
}

#[derive(Clone, Debug)]
pub struct TwilioConfig {
    pub account_sid: String,
    pub auth_token: SecretSource,
    pub from: String,
    pub to: Vec<String>,
    pub api_base: Url,
}

#[derive(Clone, Debug)]
pub struct EmailConfig {
    pub smtp: Url,
    pub password: Option<SecretSource>,
    pub from: String,
    pub to: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct WebhookConfig {
    pub url: Url,
    /// Key of the signature; without one the requests are not signed.
    pub secret: Option<SecretSource>,
    pub format: WebhookFormat,
}

/// An address whose path and user may be secret (chat services put their token there): only scheme and host are shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(reqwest::Url);

impl Url {
    pub fn get(&self) -> &reqwest::Url {
        &self.0
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or("?"))?;
        self.0.port().map_or(Ok(()), |p| write!(f, ":{p}"))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self}/…)")
    }
}

#[derive(Clone, Copy)]
enum Type {
    Twilio,
    Email,
    Webhook,
}

pub(super) fn read(mut section: Section<'_>) -> Result<(AlertConfig, usize), ConfigError> {
    let every: Vec<&str> = [&COMMON[..], &TWILIO, &EMAIL, &WEBHOOK].concat();
    let types = [("twilio", Type::Twilio), ("email", Type::Email), ("webhook", Type::Webhook)];
    let Some(kind) = section.choice("type", &types)? else {
        section.refuse_unknown(&every)?;
        return Err(section.missing("type", "\"webhook\" (or \"email\" or \"twilio\")"));
    };
    let own: &[&str] = match kind {
        Type::Twilio => &TWILIO,
        Type::Email => &EMAIL,
        Type::Webhook => &WEBHOOK,
    };
    section.rename(format!("[[alert]] of type {}", types[kind as usize].0));
    section.refuse_unknown(&[&COMMON[..], own].concat())?;
    let line = section.line;
    let name = match section.has("name") {
        true => section.need_text("name", "\"ops\"")?.value,
        false => types[kind as usize].0.to_owned(),
    };
    let min_severity = section.choice("min_severity", &SEVERITIES)?.unwrap_or(Severity::Low);
    let kind = match kind {
        Type::Twilio => AlertKind::Twilio(twilio(&mut section)?),
        Type::Email => AlertKind::Email(email(&mut section)?),
        Type::Webhook => AlertKind::Webhook(webhook(&mut section)?),
    };
    Ok((AlertConfig { name, min_severity, kind }, line))
}

fn twilio(section: &mut Section<'_>) -> Result<TwilioConfig, ConfigError> {
    let to = section.need_list("to", "[\"+15005550009\"]")?;
    for number in &to.value {
        let digits = number.strip_prefix('+').unwrap_or("");
        if !(7..=15).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            let sentence = format!(
                "holds \"{}\", which is no international number; write it as \"+15005550009\"",
                number.escape_debug()
            );
            return Err(section.bad(to.line, "to", &sentence));
        }
    }
    Ok(TwilioConfig {
        account_sid: section.need_text("account_sid", "\"AC…\"")?.value,
        auth_token: section.need_secret("auth_token")?,
        from: section.need_text("from", "\"+15005550006\"")?.value,
        to: to.value,
        api_base: match section.has("api_base") {
            true => url(section, "api_base", "\"https://api.twilio.com\"", &["https", "http"])?,
            false => {
                Url(parse_url("https://api.twilio.com").ok_or_else(|| section.missing("api_base", "…"))?)
            }
        },
    })
}

fn email(section: &mut Section<'_>) -> Result<EmailConfig, ConfigError> {
    let example = "\"smtps://user@mail.example.org:465\"";
    let line_of_section = section.line;
    let smtp = url(section, "smtp", example, &["smtps", "smtp+starttls", "smtp"])?;
    if smtp.get().password().is_some() {
        let sentence = "holds a password; put it into a file and name that with password_file";
        return Err(section.bad(line_of_section, "smtp", sentence));
    }
    if smtp.get().scheme() == "smtp" && !is_loopback(smtp.get()) {
        let sentence = "would send mail unencrypted over the network; use smtps:// or smtp+starttls://";
        return Err(section.bad(line_of_section, "smtp", sentence));
    }
    let password = section.secret("password")?;
    let from = section.need_text("from", "\"fim@example.org\"")?;
    let to = section.need_list("to", "[\"ops@example.org\"]")?;
    for (key, address, line) in
        to.value.iter().map(|a| ("to", a, to.line)).chain([("from", &from.value, from.line)])
    {
        if !address.contains('@') || address.chars().any(|c| c.is_control()) {
            let sentence = format!("holds \"{}\", which is no e-mail address", address.escape_debug());
            return Err(section.bad(line, key, &sentence));
        }
    }
    Ok(EmailConfig { smtp, password, from: from.value, to: to.value })
}

fn webhook(section: &mut Section<'_>) -> Result<WebhookConfig, ConfigError> {
    let formats = [
        ("json", WebhookFormat::Json),
        ("slack", WebhookFormat::Slack),
        ("teams", WebhookFormat::Teams),
        ("discord", WebhookFormat::Discord),
        ("pagerduty", WebhookFormat::Pagerduty),
    ];
    Ok(WebhookConfig {
        url: url(section, "url", "\"https://hooks.example.org/fim\"", &["https", "http"])?,
        secret: section.secret("secret")?,
        format: section.choice("format", &formats)?.unwrap_or(WebhookFormat::Json),
    })
}

/// An address with a host and one of `schemes`. Complaints do not repeat it: it may hold a secret.
fn url(section: &mut Section<'_>, key: &str, example: &str, schemes: &[&str]) -> Result<Url, ConfigError> {
    let text = section.need_text(key, example)?;
    let Some(url) = parse_url(&text.value).filter(|u| u.host_str().is_some_and(|h| !h.is_empty())) else {
        return Err(section.bad(text.line, key, &format!("is no address; write for example {example}")));
    };
    if !schemes.contains(&url.scheme()) {
        let known: Vec<String> = schemes.iter().map(|s| format!("{s}://")).collect();
        let sentence = format!("begins with {}://; it must begin with {}", url.scheme(), known.join(" or "));
        return Err(section.bad(text.line, key, &sentence));
    }
    Ok(Url(url))
}

fn parse_url(text: &str) -> Option<reqwest::Url> {
    reqwest::Url::parse(text).ok()
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or("").trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
