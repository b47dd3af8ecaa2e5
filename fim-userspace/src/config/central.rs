//! `[central]`: one database for the records of many hosts.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use super::error::ConfigError;
use super::read::{Put, Section};
use super::secret::SecretSource;

/// The name of the central database's sink; no alert can have it.
pub const CENTRAL: &str = "central";
/// The name of the sink that brings the lines there.
pub const CENTRAL_LINES: &str = "central-lines";

const EXAMPLE: &str = "\"postgres://fim@db.example.org/fim\"";
/// Records of one transaction, and the most of them.
const BATCH: usize = 256;

#[derive(Clone, Debug)]
pub struct CentralConfig {
    pub dialect: Dialect,
    pub place: Place,
    pub user: String,
    pub database: String,
    pub password: Option<SecretSource>,
    /// The only authorities that are trusted; without it those of the system.
    pub tls_ca_file: Option<PathBuf>,
    /// Records of one transaction, at least one.
    pub batch: usize,
    /// `None`: what `/etc/machine-id` holds.
    pub host_id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Postgres,
    Mysql,
}

impl Dialect {
    /// As people call the server.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Mysql => "MySQL/MariaDB",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
            Self::Mysql => 3306,
        }
    }
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Tcp {
        host: String,
        port: u16,
    },
    /// PostgreSQL: the folder of its socket; MySQL: the socket itself.
    Socket(PathBuf),
}

impl Place {
    /// Whether nothing leaves this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Socket(_) => true,
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Socket(path) => f.write_str(&crate::core::path::display(path)),
        }
    }
}

pub(super) fn read(mut section: Section<'_>) -> Result<CentralConfig, ConfigError> {
    section.refuse_unknown(&super::keys::CENTRAL.names())?;
    let (dialect, place, user, database) = url(&mut section)?;
    let password = section.secret("password")?;
    let tls_ca_file = match section.has("tls_ca_file") {
        true => {
            let found = section.need_text("tls_ca_file", "\"/etc/fim/db-ca.pem\"")?;
            Some(section.absolute("tls_ca_file", &found)?)
        }
        false => None,
    };
    let batch = match section.take::<i64>("batch", "a whole number")? {
        None => BATCH,
        Some(Put { value, line }) => usize::try_from(value)
            .ok()
            .filter(|n| (1..=BATCH).contains(n))
            .ok_or_else(|| section.bad(line, "batch", &format!("must lie between 1 and {BATCH}")))?,
    };
    let host_id = section.text("host_id")?;
    if let Some(found) = &host_id
        && !is_host_id(&found.value)
    {
        let sentence = "must be 1 to 64 letters, digits or characters of \"-_.:\"";
        return Err(section.bad(found.line, "host_id", sentence));
    }
    let host_id = host_id.map(|found| found.value);
    Ok(CentralConfig { dialect, place, user, database, password, tls_ca_file, batch, host_id })
}

pub(crate) fn is_host_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
}

/// Complaints do not repeat the address: somebody may have put the password into it.
fn url(section: &mut Section<'_>) -> Result<(Dialect, Place, String, String), ConfigError> {
    let text = section.need_text("url", EXAMPLE)?;
    let bad = |sentence: &str| section.bad(text.line, "url", sentence);
    let no_address = || bad(&format!("is no address of a database; write for example {EXAMPLE}"));
    let url = reqwest::Url::parse(&text.value).map_err(|_| no_address())?;
    let dialect = match url.scheme() {
        "postgres" | "postgresql" => Dialect::Postgres,
        "mysql" | "mariadb" => Dialect::Mysql,
        other => {
            let sentence = format!("begins with {other}://; it must begin with postgres:// or mysql://");
            return Err(bad(&sentence));
        }
    };
    if url.password().is_some() {
        return Err(bad(
            "holds a password; put it into a file with mode 0600 and name that with password_file",
        ));
    }
    let decode = |text: &str| {
        let text = percent_decode_str(text).decode_utf8().ok()?;
        (!text.is_empty() && !text.contains(char::is_control)).then(|| text.into_owned())
    };
    let user = decode(url.username())
        .ok_or_else(|| bad(&format!("names no user before the \"@\"; write for example {EXAMPLE}")))?;
    let database = decode(url.path().trim_start_matches('/'))
        .filter(|name| !name.contains('/'))
        .ok_or_else(|| bad(&format!("names no database after the host; write for example {EXAMPLE}")))?;
    let mut place = None;
    for (key, value) in url.query_pairs() {
        if key != "socket" || !value.starts_with('/') || value.contains('\0') || place.is_some() {
            return Err(bad(
                "may have only \"?socket=/path\" after the database, for a server on this machine",
            ));
        }
        place = Some(Place::Socket(PathBuf::from(value.into_owned())));
    }
    if url.fragment().is_some() {
        return Err(no_address());
    }
    let host = url.host_str().and_then(decode).ok_or_else(no_address)?;
    let host = host.trim_matches(['[', ']']).to_owned();
    let port = url.port().unwrap_or(dialect.port());
    Ok((dialect, place.unwrap_or(Place::Tcp { host, port }), user, database))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn parse(lines: &str) -> Result<CentralConfig, String> {
        let text = format!("[[watch]]\npath = \"/etc\"\n[central]\n{lines}\n");
        let config = Config::parse(Path::new("fim.toml"), &text).map_err(|e| e.to_string())?;
        Ok(config.central.expect("a [central]"))
    }

    fn place(url: &str) -> (Dialect, String, String, String) {
        let central = parse(&format!("url = {url:?}")).expect(url);
        (central.dialect, central.place.to_string(), central.user, central.database)
    }

    #[test]
    fn one_address_says_it_all() {
        let of = |d, p: &str, u: &str, n: &str| (d, p.to_owned(), u.to_owned(), n.to_owned());
        let (pg, my) = (Dialect::Postgres, Dialect::Mysql);
        assert_eq!(place("postgres://fim@db.example.org/logs"), of(pg, "db.example.org:5432", "fim", "logs"));
        assert_eq!(place("postgresql://a%40b@[::1]:77/x"), of(pg, "[::1]:77", "a@b", "x"));
        assert_eq!(place("mysql://fim@10.0.0.1/logs"), of(my, "10.0.0.1:3306", "fim", "logs"));
        assert_eq!(
            place("mariadb://fim@localhost/logs?socket=/run/mysqld/mysqld.sock"),
            of(my, "/run/mysqld/mysqld.sock", "fim", "logs")
        );
        let local = |url: &str| parse(&format!("url = {url:?}")).expect(url).place.is_local();
        assert!(
            local("mysql://f@127.0.0.2/x") && local("postgres://f@[::1]/x") && local("mysql://f@localhost/x")
        );
        assert!(
            local("postgres://f@db/x?socket=/run/postgresql") && !local("mysql://f@127.0.0.1.example.org/x")
        );
    }

    #[test]
    fn every_value_arrives() {
        let central = parse(
            "url = \"mysql://fim@db/fim\"\npassword_env = \"PW\"\ntls_ca_file = \"/etc/ca.pem\"\nbatch = 7\nhost_id = \"web-1.a:b_c\"",
        )
        .expect("valid");
        assert_eq!(central.password, Some(SecretSource::Env("PW".into())));
        assert_eq!(central.tls_ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
        assert_eq!((central.batch, central.host_id.as_deref()), (7, Some("web-1.a:b_c")));
    }

    #[test]
    fn complaints_say_what_to_write_and_never_the_password() {
        let cases = [
            ("", "[central] has no \"url\""),
            ("url = \"postgres://fim:hunter2@db/fim\"", "password_file"),
            ("url = \"sqlite://fim@db/fim\"", "postgres:// or mysql://"),
            ("url = \"hunter2\"", "is no address of a database"),
            ("url = \"postgres://db/fim\"", "names no user"),
            ("url = \"postgres://fim@db\"", "names no database"),
            ("url = \"postgres://fim@db/a/b\"", "names no database"),
            ("url = \"postgres://fim@db/fim?sslmode=hunter2\"", "?socket=/path"),
            ("url = \"postgres://fim@db/fim?socket=relative\"", "?socket=/path"),
            ("url = \"postgres://fim@db/fim\"\nbatch = 0", "between 1 and 256"),
            ("url = \"postgres://fim@db/fim\"\nhost_id = \"a b\"", "1 to 64"),
            ("url = \"postgres://fim@db/fim\"\npassword = \"hunter2\"", "did you mean \"password_file\"?"),
            ("url = \"postgres://fim@db/fim\"\ntls_ca_file = \"ca.pem\"", "relative"),
        ];
        for (lines, expected) in cases {
            let said = parse(lines).expect_err(lines);
            assert!(said.contains(expected) && said.starts_with("fim.toml:"), "{lines}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
        let named = "[[watch]]\npath = \"/etc\"\n[[alert]]\nname = \"central\"\ntype = \"webhook\"\nurl = \"http://h/\"\n";
        let said = Config::parse(Path::new("fim.toml"), named).expect_err("a taken name").to_string();
        assert!(said.contains("toml:3:") && said.contains("\"central\""), "{said}");
    }
}
