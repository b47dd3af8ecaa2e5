//! `[[alert]]`: who is told, and how.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::error::ConfigError;
use super::keys;
use super::read::{Put, Section, Source};
use super::secret::SecretSource;
use super::{SEVERITIES, WatchConfig, WebhookFormat};
use crate::core::event::{EventKind, Verdict};
use crate::core::path::display;
use crate::core::policy::Severity;
use crate::core::route::{Hours, Route};

/// The name of the sink that is always there; no alert can have it.
pub const JOURNALD: &str = "journald";

/// Where PagerDuty takes events, unless `url` says otherwise.
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";
const TWILIO_API: &str = "https://api.twilio.com";

/// How long a message to people is followed by none, unless `group` says otherwise.
const GROUP_SMS: Duration = Duration::from_secs(15 * 60);
const GROUP_TEXT: Duration = Duration::from_secs(5 * 60);

#[derive(Clone, Debug)]
pub struct AlertConfig {
    /// Unique, without a colon; the cursors are kept under it. The type where no name is given.
    pub name: String,
    pub route: Route,
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
    /// `AC` and 32 hexadecimal digits.
    pub account_sid: String,
    /// Who signs in: the account with its token, or an API key with its secret.
    pub user: String,
    pub secret: SecretSource,
    pub sender: TwilioSender,
    pub to: Vec<String>,
    pub api_base: Url,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TwilioSender {
    /// A number, or a name where the country allows it.
    From(String),
    /// `MG` and 32 hexadecimal digits.
    MessagingService(String),
}

#[derive(Clone, Debug)]
pub struct EmailConfig {
    pub smtp: Url,
    pub password: Option<SecretSource>,
    /// Authorities to believe instead of the system's, PEM.
    pub ca_file: Option<PathBuf>,
    pub from: String,
    pub to: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct WebhookConfig {
    pub url: Url,
    /// Key of the signature; without one the requests are not signed. PagerDuty's integration key.
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

/// A watch's root that an alert names, and the line.
pub(super) type Named = Put<String>;

/// `named` gets the roots that the alert is about; [`check_watches`] holds them against the watches, which are read later.
pub(super) fn read(
    mut section: Section<'_>,
    named: &mut Vec<Named>,
) -> Result<(AlertConfig, usize), ConfigError> {
    let every = keys::names(&[&keys::ALERT, &keys::ALERT_TWILIO, &keys::ALERT_EMAIL, &keys::ALERT_WEBHOOK]);
    let types = [("twilio", Type::Twilio), ("email", Type::Email), ("webhook", Type::Webhook)];
    let Some(kind) = section.choice("type", &types)? else {
        section.refuse_unknown(&every)?;
        return Err(section.missing("type", "\"webhook\" (or \"email\" or \"twilio\")"));
    };
    let own = match kind {
        Type::Twilio => &keys::ALERT_TWILIO,
        Type::Email => &keys::ALERT_EMAIL,
        Type::Webhook => &keys::ALERT_WEBHOOK,
    };
    section.rename(format!("[[alert]] of type {}", types[kind as usize].0));
    section.refuse_unknown(&keys::names(&[&keys::ALERT, own]))?;
    let line = section.line;
    let name = match section.has("name") {
        true => section.need_text("name", "\"ops\"")?,
        false => Put { value: types[kind as usize].0.to_owned(), line },
    };
    if name.value.contains(':') {
        return Err(section.bad(name.line, "name", "holds a colon, which stands before a receiver's name"));
    }
    let kind = match kind {
        Type::Twilio => AlertKind::Twilio(twilio(&mut section)?),
        Type::Email => AlertKind::Email(email(&mut section)?),
        Type::Webhook => AlertKind::Webhook(webhook(&mut section)?),
    };
    let group = match &kind {
        AlertKind::Twilio(_) => GROUP_SMS,
        AlertKind::Webhook(hook) if hook.format == WebhookFormat::Json => Duration::ZERO,
        AlertKind::Email(_) | AlertKind::Webhook(_) => GROUP_TEXT,
    };
    let route = route(&mut section, named, group)?;
    let pages = matches!(&kind, AlertKind::Webhook(hook) if hook.format == WebhookFormat::Pagerduty);
    if pages && route.heartbeat.is_some() {
        let sentence = "would page somebody each time; send it through an alert of another format";
        return Err(section.bad(line, "heartbeat", sentence));
    }
    Ok((AlertConfig { name: name.value, route, kind }, line))
}

fn route(section: &mut Section<'_>, named: &mut Vec<Named>, group: Duration) -> Result<Route, ConfigError> {
    let kinds = EventKind::ALL.map(|kind| (kind.as_str(), kind));
    let verdicts = [("unauthorised", Verdict::Unauthorised), ("authorised", Verdict::Authorised)];
    Ok(Route {
        min_severity: section.choice("min_severity", &SEVERITIES)?.unwrap_or(Severity::Low),
        watches: watches(section, named)?,
        kinds: section.choices("kinds", &kinds)?.unwrap_or_default(),
        verdict: section.choice("verdict", &verdicts)?,
        hours: hours(section, "hours")?,
        quiet: hours(section, "quiet_hours")?,
        group: section.duration("group", Duration::ZERO)?.unwrap_or(group),
        lifecycle: section.take("lifecycle", "true or false")?.is_none_or(|put| put.value),
        heartbeat: section.duration("heartbeat", Duration::from_secs(10))?,
    })
}

fn watches(section: &mut Section<'_>, named: &mut Vec<Named>) -> Result<Vec<String>, ConfigError> {
    let mut roots = Vec::new();
    for put in section.texts("watches")?.into_iter().flat_map(|list| list.value) {
        let root = display(&section.absolute("watches", &put)?);
        named.push(Put { value: root.clone(), line: put.line });
        roots.push(root);
    }
    Ok(roots)
}

/// A root that no watch has would never match.
pub(super) fn check_watches(
    source: Source<'_>,
    named: &[Named],
    watches: &[WatchConfig],
) -> Result<(), ConfigError> {
    let roots: Vec<String> = watches.iter().map(|watch| display(&watch.path)).collect();
    let Some(lost) = named.iter().find(|named| !roots.contains(&named.value)) else { return Ok(()) };
    let known = roots.join(", ");
    let sentence = format!(
        "watches in [[alert]] holds \"{}\", which no [[watch]] has as its path; those are {known}",
        lost.value
    );
    Err(source.at(lost.line, sentence))
}

fn hours(section: &mut Section<'_>, key: &str) -> Result<Option<Hours>, ConfigError> {
    let Some(found) = section.text(key)? else { return Ok(None) };
    let hours = Hours::parse(&found.value);
    let sentence = format!(
        "cannot be \"{}\"; write two different local times such as \"22:00-06:00\"",
        found.value.escape_debug()
    );
    hours.map(Some).ok_or_else(|| section.bad(found.line, key, &sentence))
}

fn twilio(section: &mut Section<'_>) -> Result<TwilioConfig, ConfigError> {
    let to = section.need_list("to", "[\"+15005550009\"]")?;
    for number in &to.value {
        if !is_number(number) {
            let sentence = format!(
                "holds \"{}\", which is no international number; write it as \"+15005550009\"",
                number.escape_debug()
            );
            return Err(section.bad(to.line, "to", &sentence));
        }
    }
    let account = section.need_text("account_sid", "\"AC…\"")?;
    let (user, secret) = match section.text("api_key_sid")? {
        Some(key) => {
            sid(section, "api_key_sid", "SK", &key)?;
            if section.secret("auth_token")?.is_some() {
                let sentence = "stands beside auth_token; keep the API key or the token";
                return Err(section.bad(key.line, "api_key_sid", sentence));
            }
            (key.value, section.need_secret("api_key_secret")?)
        }
        None => (account.value.clone(), section.need_secret("auth_token")?),
    };
    sid(section, "account_sid", "AC", &account)?;
    let sender = match section.text("messaging_service")? {
        Some(service) => {
            sid(section, "messaging_service", "MG", &service)?;
            if section.has("from") {
                let sentence = "stands beside from; the service chooses the number, so keep one of them";
                return Err(section.bad(service.line, "messaging_service", sentence));
            }
            TwilioSender::MessagingService(service.value)
        }
        None => TwilioSender::From(section.need_text("from", "\"+15005550006\"")?.value),
    };
    let api_base = match section.has("api_base") {
        true => url(section, "api_base", "\"https://api.twilio.com\"", &["https", "http"])?,
        false => known_url(section, "api_base", TWILIO_API)?,
    };
    if api_base.0.scheme() == "http" && !is_loopback(&api_base.0) {
        let sentence = "would send the token unencrypted over the network; use https://";
        return Err(section.bad(section.line, "api_base", sentence));
    }
    Ok(TwilioConfig { account_sid: account.value, user, secret, sender, to: to.value, api_base })
}

/// E.164.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or("");
    (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Twilio's names of things: two letters and 32 hexadecimal digits.
fn sid(section: &Section<'_>, key: &str, letters: &str, found: &Put<String>) -> Result<(), ConfigError> {
    let digits = found.value.strip_prefix(letters).unwrap_or("");
    if digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(());
    }
    let sentence =
        format!("is none: it is {letters} and 32 digits from 0 to f, as Twilio's console shows it");
    Err(section.bad(found.line, key, &sentence))
}

fn known_url(section: &Section<'_>, key: &str, text: &str) -> Result<Url, ConfigError> {
    parse_url(text).map(Url).ok_or_else(|| section.missing(key, text))
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
    if smtp.get().username().is_empty() && password.is_some() {
        let sentence = format!("names no user to whom the password belongs; write for example {example}");
        return Err(section.bad(line_of_section, "smtp", &sentence));
    }
    let from = section.need_text("from", "\"fim@example.org\"")?;
    let to = section.need_list("to", "[\"ops@example.org\"]")?;
    for (key, address, line) in
        to.value.iter().map(|a| ("to", a, to.line)).chain([("from", &from.value, from.line)])
    {
        if address.parse::<lettre::Address>().is_err() {
            let sentence = format!("holds \"{}\", which is no e-mail address", address.escape_debug());
            return Err(section.bad(line, key, &sentence));
        }
    }
    let ca_file = section.text("ca_file")?;
    let ca_file = ca_file.map(|put| section.absolute("ca_file", &put)).transpose()?;
    Ok(EmailConfig { smtp, password, ca_file, from: from.value, to: to.value })
}

fn webhook(section: &mut Section<'_>) -> Result<WebhookConfig, ConfigError> {
    let formats = [
        ("json", WebhookFormat::Json),
        ("slack", WebhookFormat::Slack),
        ("teams", WebhookFormat::Teams),
        ("discord", WebhookFormat::Discord),
        ("pagerduty", WebhookFormat::Pagerduty),
    ];
    let format = section.choice("format", &formats)?.unwrap_or(WebhookFormat::Json);
    let schemes = ["https", "http"];
    if format == WebhookFormat::Pagerduty {
        let url = match section.has("url") {
            true => url(section, "url", &format!("\"{PAGERDUTY}\""), &schemes)?,
            false => known_url(section, "url", PAGERDUTY)?,
        };
        return Ok(WebhookConfig { url, secret: Some(section.need_secret("secret")?), format });
    }
    let url = url(section, "url", "\"https://hooks.example.org/fim\"", &schemes)?;
    Ok(WebhookConfig { url, secret: section.secret("secret")?, format })
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
