//! Every key of the configuration: what the readers accept, and what `docs/reference.md` and fim.toml(5) say of it.

/// A key, what holds without it, and what it is for; Markdown.
pub struct Key {
    pub name: &'static str,
    pub default: &'static str,
    pub about: &'static str,
}

pub struct Keys(pub &'static [Key]);

/// A table of the file, or the part of it that one type has.
pub struct Table {
    /// As it is written.
    pub heading: &'static str,
    pub about: &'static str,
    pub keys: &'static [&'static Keys],
}

impl Keys {
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|key| key.name).collect()
    }
}

/// The names of several together.
pub fn names(all: &[&Keys]) -> Vec<&'static str> {
    all.iter().flat_map(|keys| keys.names()).collect()
}

const fn key(name: &'static str, default: &'static str, about: &'static str) -> Key {
    Key { name, default, about }
}

/// The tables that the file may have.
pub const SECTIONS: [&str; 11] =
    ["state", "control", "metrics", "sensor", "ledger", "vault", "watch", "trust", "alert", "central", "log"];

pub static STATE: Keys = Keys(&[key(
    "dir",
    "`/var/lib/fim`",
    "database and vault, mode 0700. Below a watch it is excluded by itself.",
)]);

pub static CONTROL: Keys = Keys(&[
    key("group", "none", "name or number of the group whose members may read through the running daemon"),
    key("socket", "`/run/fim/control`", "the socket that is offered to them"),
]);

pub static METRICS: Keys = Keys(&[key(
    "listen",
    "none",
    "address and port on loopback, such as `127.0.0.1:9184`, from which a Prometheus on this machine reads",
)]);

pub static SENSOR: Keys = Keys(&[
    key(
        "tier",
        "`auto`",
        "the highest tier to try: `auto`, `lsm`, `fentry`, `tracepoint`, `fanotify`, `scan`",
    ),
    key("scan_period", "`1d`", "within this time every file is read again, whatever the kernel said"),
    key("mask", "none", "regular expressions for what is secret in command lines"),
    key("self_test", "`5m`", "how often the sensors are tried; `0s`: never"),
]);

pub static VAULT: Keys = Keys(&[
    key("max_size", "none", "what all objects together may take"),
    key("max_age", "none", "how long evidence and former versions are kept"),
    key(
        "min_free",
        "`256MiB`, or a twentieth of a small file system",
        "always left on the vault's file system",
    ),
]);

pub static LEDGER: Keys = Keys(&[
    key("seal_interval", "`15m`", "how often the ledger's head is sealed"),
    key("max_age", "none", "older records are removed, after a record that says so"),
    key("max_size", "none", "about this much is kept"),
]);

pub static WATCH: Keys = Keys(&[
    key("path", "required", "absolute; a folder with everything below, or one file"),
    key("exclude", "none", "patterns in gitignore syntax, relative to `path`"),
    key("interval", "none", "scan the whole watch each time this has passed"),
    key("rule", "none", "tables of their own: see `[[watch.rule]]`"),
]);

pub static RULE: Keys =
    Keys(&[key("paths", "required", "patterns in gitignore syntax, relative to the watch's `path`")]);

/// What both a watch and a rule can say.
pub static POLICY: Keys = Keys(&[
    key("kinds", "all", "`created`, `modified`, `deleted`, `renamed`, `attributes`, `type`"),
    key("on_modified", "`restore`", "`alert` or `restore`; also for a changed type"),
    key("on_deleted", "`restore`", "`alert` or `restore`"),
    key("on_attributes", "`restore`", "`alert` or `restore`"),
    key("on_created", "`quarantine`", "`alert`, `quarantine` or `delete`"),
    key("keep_versions", "`true`", "keep approved content in the vault; without it nothing can be restored"),
    key("max_file_size", "none", "larger files are watched, but their content is not kept"),
    key("severity", "`high`", "of the records: `low`, `medium`, `high`, `critical`"),
    key("dry_run", "`false`", "record what would be done, and do nothing"),
    key(
        "ignore",
        "none",
        "differences that are none: `content`, `target`, `device`, `mode`, `owner`, `group`, `xattrs`, `mtime`",
    ),
    key("repeat_limit", "`10`", "so many changes of one path are told as a repeated attack; 0: never"),
    key("repeat_window", "`10m`", "the time within which they are counted"),
    key("secret", "by the list", "whether what these files say is neither recorded nor shown unasked"),
]);

pub static TRUST: Keys = Keys(&[
    key(
        "preset",
        "none",
        "`dpkg`, `apt`, `rpm`, `dnf`, `zypper`, `pacman`, `snapd`, `flatpak`, `packagekit`",
    ),
    key("name", "the preset, or the file name", "unique; records say `trust:NAME`"),
    key("exe", "required without `preset`", "absolute path of a compiled program"),
    key("sha256", "what the baseline says", "what the program must hold"),
    key("descendants", "`true` for a preset, else `false`", "whether what it starts is trusted"),
    key("watches", "all", "`path` of the watches that it may change"),
    key("users", "`[\"root\"]`", "who has to run it: login names or ids"),
    key("root", "`/`", "of the system whose package database vouches for its files"),
]);

pub static ALERT: Keys = Keys(&[
    key("name", "the type", "unique, without a colon"),
    key("type", "required", "`twilio`, `email`, `webhook`"),
    key("min_severity", "`low`", "less severe records are not sent"),
    key("watches", "all", "`path` of the watches whose records are sent"),
    key("kinds", "all", "kinds of records that are sent"),
    key("verdict", "all but authorised changes", "`unauthorised` or `authorised`"),
    key("hours", "always", "`08:00-18:00`: what happens outside is not sent"),
    key("quiet_hours", "none", "`22:00-06:00`: all but critical records wait until they end"),
    key(
        "group",
        "`15m` twilio, `0s` webhook `json`, `5m` others",
        "after a message all is gathered for so long",
    ),
    key("lifecycle", "`true`", "start, stop, coverage gaps and trouble of fim are sent"),
    key("heartbeat", "none", "something is sent at least so often"),
]);

pub static ALERT_TWILIO: Keys = Keys(&[
    key("account_sid", "required", "`AC` and 32 digits"),
    key("auth_token_file", "none", "file with the token; one of these, or an API key, is required"),
    key("auth_token_credential", "none", "the same as a systemd credential"),
    key("auth_token_env", "none", "the same as an environment variable"),
    key("api_key_sid", "none", "an API key instead of the token"),
    key("api_key_secret_file", "none", "file with the API key's secret"),
    key("api_key_secret_credential", "none", "the same as a systemd credential"),
    key("api_key_secret_env", "none", "the same as an environment variable"),
    key("from", "this or `messaging_service`", "the number that sends"),
    key("messaging_service", "this or `from`", "`MG` and 32 digits"),
    key("to", "required", "numbers as `+15005550009`"),
    key("api_base", "`https://api.twilio.com`", "where the service is"),
]);

pub static ALERT_EMAIL: Keys = Keys(&[
    key(
        "smtp",
        "required",
        "`smtps://user@host:465`, `smtp+starttls://user@host:587`, `smtp://` on loopback only",
    ),
    key("password_file", "none", "file with the password"),
    key("password_credential", "none", "the same as a systemd credential"),
    key("password_env", "none", "the same as an environment variable"),
    key("ca_file", "the system's", "authorities, PEM"),
    key("from", "required", "the sender's address"),
    key("to", "required", "addresses; each is served by itself"),
]);

pub static ALERT_WEBHOOK: Keys = Keys(&[
    key("url", "required, except for `pagerduty`", "`https://` or `http://`"),
    key("secret_file", "none", "file with the signature's key; for `pagerduty` the integration key"),
    key("secret_credential", "none", "the same as a systemd credential"),
    key("secret_env", "none", "the same as an environment variable"),
    key("format", "`json`", "`json`, `slack`, `teams`, `discord`, `pagerduty`"),
]);

pub static CENTRAL: Keys = Keys(&[
    key("url", "required", "`postgres://USER@HOST[:PORT]/DATABASE` or `mysql://…`"),
    key("password_file", "none", "file with the password"),
    key("password_credential", "none", "the same as a systemd credential"),
    key("password_env", "none", "the same as an environment variable"),
    key("tls_ca_file", "the system's", "authorities, PEM"),
    key("batch", "`256`", "records of one transaction, 1 to 256"),
    key("host_id", "`/etc/machine-id`", "tells hosts apart"),
]);

pub static LOG: Keys = Keys(&[
    key("name", "`log:` and path or address", "unique, also among alerts"),
    key("type", "required", "`file`, `syslog`"),
    key("min_severity", "`low`", "less severe records are not written"),
]);

pub static LOG_FILE: Keys = Keys(&[
    key("path", "required", "absolute, reached without symbolic links"),
    key("format", "`text`", "`text`, `json`, `ecs`, `cef`"),
    key("max_size", "none", "a new file is begun before it grows larger"),
    key("max_age", "none", "a new file is begun with the first record after this time"),
    key("keep", "`7`", "rotated files that are kept, 1 to 999"),
]);

pub static LOG_SYSLOG: Keys = Keys(&[
    key("address", "required", "`udp://host:514`, `tcp://host:514`, `tls://host:6514`, `unix:///dev/log`"),
    key("format", "`rfc5424`; `rfc3164` for `unix://`", "the header"),
    key("body", "`text`", "`text`, `json`, `ecs`, `cef`"),
    key("facility", "`authpriv`", "`kern`, `user`, `daemon`, `auth`, `local0` … `local7` and so on"),
    key("ca_file", "the system's", "authorities, PEM"),
    key("client_cert", "none", "what fim shows to a server that asks; PEM"),
    key("client_key", "none", "its key, mode 0600"),
]);

/// All of it, in the order of the reference.
pub static TABLES: &[Table] = &[
    Table { heading: "[state]", about: "Where fim keeps what it knows.", keys: &[&STATE] },
    Table { heading: "[control]", about: "Who besides root may ask the running daemon.", keys: &[&CONTROL] },
    Table { heading: "[metrics]", about: "What Prometheus is told.", keys: &[&METRICS] },
    Table { heading: "[sensor]", about: "How changes are seen.", keys: &[&SENSOR] },
    Table { heading: "[vault]", about: "What is kept, and for how long.", keys: &[&VAULT] },
    Table { heading: "[ledger]", about: "The records.", keys: &[&LEDGER] },
    Table {
        heading: "[[watch]]",
        about: "What is guarded, and what is done about changes. One or more.",
        keys: &[&WATCH, &POLICY],
    },
    Table {
        heading: "[[watch.rule]]",
        about: "Below its `[[watch]]`: what holds for some of its paths. Without a key, what the watch says.",
        keys: &[&RULE, &POLICY],
    },
    Table { heading: "[[trust]]", about: "Programs whose changes are authorised.", keys: &[&TRUST] },
    Table { heading: "[[alert]]", about: "Who is told, of what, and when.", keys: &[&ALERT] },
    Table { heading: "[[alert]] of type twilio", about: "Short messages.", keys: &[&ALERT_TWILIO] },
    Table { heading: "[[alert]] of type email", about: "Mail.", keys: &[&ALERT_EMAIL] },
    Table { heading: "[[alert]] of type webhook", about: "HTTP.", keys: &[&ALERT_WEBHOOK] },
    Table { heading: "[central]", about: "One database for the records of many hosts.", keys: &[&CENTRAL] },
    Table { heading: "[[log]]", about: "Every record, as one line or one message.", keys: &[&LOG] },
    Table { heading: "[[log]] of type file", about: "A file.", keys: &[&LOG_FILE] },
    Table { heading: "[[log]] of type syslog", about: "A syslog server.", keys: &[&LOG_SYSLOG] },
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, show};

    /// The value of a default that the reference gives as such.
    fn given(key: &Key) -> Option<&'static str> {
        key.default
            .strip_prefix('`')
            .and_then(|rest| rest.strip_suffix('`'))
            .filter(|value| !value.contains('`'))
    }

    #[test]
    fn the_defaults_that_are_told_are_those_that_hold() {
        let text = "[[watch]]\npath = \"/w\"\n[[log]]\ntype = \"file\"\npath = \"/var/log/fim.log\"\n\
                    [central]\nurl = \"postgres://u@localhost/d?socket=/run/postgresql\"\n[[alert]]\ntype = \"webhook\"\nurl = \"https://h/\"\n";
        let config = Config::parse(Path::new("fim.toml"), text).expect("valid");
        let shown = show::effective(&config, text).expect("shown");
        let mut compared = 0;
        for (section, keys) in [
            ("state", &[&STATE][..]),
            ("sensor", &[&SENSOR]),
            ("ledger", &[&LEDGER]),
            ("central", &[&CENTRAL]),
            ("watch", &[&WATCH, &POLICY]),
            ("log", &[&LOG, &LOG_FILE]),
            ("alert", &[&ALERT, &ALERT_WEBHOOK]),
        ] {
            let table = &shown[section];
            let table = table.as_table().or_else(|| table[0].as_table()).expect("a table");
            for key in keys.iter().flat_map(|keys| keys.0) {
                if let (Some(told), Some(value)) = (given(key), table.get(key.name)) {
                    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    assert_eq!(told, value, "{section}.{}", key.name);
                    compared += 1;
                }
            }
        }
        assert!(compared >= 17, "{compared}");
    }

    #[test]
    fn each_key_is_told_once() {
        for table in TABLES {
            let mut names = names(table.keys);
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{}", table.heading);
        }
        let headings = TABLES.iter().map(|table| table.heading.trim_matches(['[', ']']));
        let known: Vec<&str> = headings.filter(|name| !name.contains(['.', ' '])).collect();
        let mut sections = SECTIONS.to_vec();
        sections.sort_unstable();
        let mut known = known;
        known.sort_unstable();
        assert_eq!(known, sections);
    }
}
