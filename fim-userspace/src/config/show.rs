//! The configuration as it is in force: what the file says, the defaults where it says nothing, and no secret.

use std::time::Duration;

use toml::{Table, Value};

use super::{AlertConfig, AlertKind, Config, LogConfig, LogKind, SyslogConfig, SyslogHeader};
use crate::core::policy::PathPolicy;
use crate::sink::line::printable;

/// Written as durations are read.
const UNITS: [(&str, u128); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// `text` is the file that `config` was read from. Of addresses only scheme, user and host are shown: what follows may be
/// a token. Whatever could break a terminal is escaped.
pub fn effective(config: &Config, text: &str) -> Result<Table, toml::de::Error> {
    let mut document: Table = text.parse()?;
    for (section, key, value) in general(config) {
        let section = document.entry(section).or_insert_with(|| Table::new().into());
        section.as_table_mut().into_iter().for_each(|table| default(table, key, value.clone()));
    }
    for (table, watch) in tables(&mut document, "watch").zip(&config.watches) {
        watch_defaults(table, &watch.policy.base);
    }
    for (table, alert) in tables(&mut document, "alert").zip(&config.alerts) {
        alert_defaults(table, alert);
    }
    for (table, log) in tables(&mut document, "log").zip(&config.logs) {
        log_defaults(table, log);
    }
    if let (Some(Value::Table(table)), Some(central)) = (document.get_mut("central"), &config.central) {
        default(table, "batch", i64::try_from(central.batch).unwrap_or(i64::MAX));
    }
    document.iter_mut().for_each(|(_, value)| harmless(value));
    Ok(document)
}

fn general(config: &Config) -> [(&'static str, &'static str, Value); 6] {
    [
        ("state", "dir", config.state.dir.to_string_lossy().into_owned().into()),
        ("control", "socket", config.control.socket.to_string_lossy().into_owned().into()),
        ("sensor", "self_test", duration(config.sensor.self_test)),
        ("sensor", "tier", config.sensor.tier.as_str().into()),
        ("sensor", "scan_period", duration(config.sensor.scan_period)),
        ("ledger", "seal_interval", duration(config.ledger.seal_interval)),
    ]
}

fn tables<'t>(document: &'t mut Table, key: &str) -> impl Iterator<Item = &'t mut Table> {
    let list = document.get_mut(key).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_table_mut)
}

fn default(table: &mut Table, key: &str, value: impl Into<Value>) {
    table.entry(key).or_insert_with(|| value.into());
}

fn watch_defaults(table: &mut Table, policy: &PathPolicy) {
    for (key, value) in [
        ("on_modified", policy.on_modified.as_str()),
        ("on_deleted", policy.on_deleted.as_str()),
        ("on_attributes", policy.on_attributes.as_str()),
        ("on_created", policy.on_created.as_str()),
        ("severity", policy.severity.as_str()),
    ] {
        default(table, key, value);
    }
    default(table, "keep_versions", policy.keep_versions);
    default(table, "dry_run", policy.dry_run);
    default(table, "repeat_limit", i64::from(policy.repeat_limit));
    default(table, "repeat_window", duration(policy.repeat_window));
}

fn alert_defaults(table: &mut Table, alert: &AlertConfig) {
    default(table, "name", alert.name.as_str());
    default(table, "min_severity", alert.route.min_severity.as_str());
    default(table, "group", duration(alert.route.group));
    default(table, "lifecycle", alert.route.lifecycle);
    match &alert.kind {
        AlertKind::Twilio(twilio) => default(table, "api_base", twilio.api_base.get().as_str()),
        AlertKind::Webhook(hook) => {
            default(table, "format", hook.format.as_str());
            default(table, "url", hook.url.get().as_str());
        }
        AlertKind::Email(_) => {}
    }
}

fn log_defaults(table: &mut Table, log: &LogConfig) {
    default(table, "name", log.name.as_str());
    default(table, "min_severity", log.min_severity.as_str());
    match &log.kind {
        LogKind::File(file) => {
            default(table, "format", file.format.as_str());
            default(table, "keep", i64::from(file.rotation.keep));
        }
        LogKind::Syslog(SyslogConfig { header, body, .. }) => {
            let header = match header {
                SyslogHeader::Rfc5424 => "rfc5424",
                SyslogHeader::Rfc3164 => "rfc3164",
            };
            default(table, "format", header);
            default(table, "body", body.as_str());
        }
    }
}

/// `1h30m`.
fn duration(time: Duration) -> Value {
    let mut left = time.as_millis();
    let mut text = String::new();
    for (unit, size) in UNITS {
        if left >= size {
            text.push_str(&format!("{}{unit}", left / size));
            left %= size;
        }
    }
    if text.is_empty() { "0s".into() } else { text.into() }
}

fn harmless(value: &mut Value) {
    match value {
        Value::String(text) => *text = printable(&address(text).unwrap_or_else(|| text.clone())),
        Value::Array(list) => list.iter_mut().for_each(harmless),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| harmless(value)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

/// `https://user@host:8443/…`; `None` for what is no address with a host.
fn address(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let (authority, path) = match rest.find(['/', '?', '#']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if authority.is_empty() {
        return None;
    }
    // A password is refused where the file is read; what comes after the user's name goes all the same.
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", user.split(':').next().unwrap_or_default()),
        None => authority.to_owned(),
    };
    let path = if path.trim_matches('/').is_empty() { "" } else { "/…" };
    Some(format!("{scheme}://{authority}{path}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn defaults_are_filled_in_and_addresses_end_with_the_host() {
        let text = r#"
            [[watch]]
            path = "/etc"
            exclude = ["a\u001b[2J"]
            [[watch.rule]]
            paths = ["*"]
            severity = "critical"
            [[alert]]
            type = "webhook"
            url = "https://hooks.example.org:8443/services/T0K3N?key=T0K3N"
            secret_env = "HOOK"
            [[alert]]
            type = "email"
            smtp = "smtps://fim@mail.example.org:465"
            password_file = "/etc/fim/password"
            from = "f@example.org"
            to = ["o@example.org"]
            [[log]]
            type = "syslog"
            address = "unix:///dev/log"
        "#;
        let config = Config::parse(Path::new("fim.toml"), text).expect("valid");
        let shown = effective(&config, text).expect("shown");
        let said = shown.to_string();
        for words in [
            "dir = \"/var/lib/fim\"",
            "tier = \"auto\"",
            "scan_period = \"1d\"",
            "on_created = \"quarantine\"",
            "repeat_window = \"10m\"",
            "url = \"https://hooks.example.org:8443/…\"",
            "secret_env = \"HOOK\"",
            "group = \"0s\"",
            "group = \"5m\"",
            "smtp = \"smtps://fim@mail.example.org:465\"",
            "password_file = \"/etc/fim/password\"",
            "address = \"unix:///dev/log\"",
            "format = \"rfc3164\"",
        ] {
            assert!(said.contains(words), "{words} in {said}");
        }
        assert!(!said.contains("T0K3N") && !said.contains('\u{1b}'), "{said}");
        assert_eq!(shown["watch"][0]["exclude"][0].as_str(), Some("a\\x1b[2J"));
        assert_eq!(shown["watch"][0]["rule"][0]["severity"].as_str(), Some("critical"));
        assert_eq!(shown["watch"][0]["severity"].as_str(), Some("high"));
    }

    #[test]
    fn every_address_loses_what_may_be_secret() {
        for (text, shown) in [
            ("https://h/p", Some("https://h/…")),
            ("https://h/", Some("https://h")),
            ("https://u:pw@h:1?k=v", Some("https://u@h:1/…")),
            ("https://h#x", Some("https://h/…")),
            ("unix:///dev/log", None),
            ("/etc/fim", None),
        ] {
            assert_eq!(address(text).as_deref(), shown, "{text}");
        }
        let text = |ms| duration(Duration::from_millis(ms));
        assert_eq!([text(0), text(5_400_001)], ["0s".into(), Value::from("1h30m1ms")]);
    }
}
