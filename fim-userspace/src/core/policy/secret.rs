//! Files whose content is nobody's business: what they say is neither recorded nor shown unasked.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{BadPattern, Patterns, WatchPolicy};
use crate::core::path::RelPath;

/// What is secret on any machine unless a watch or a rule says otherwise; gitignore(5) syntax, relative to `/`.
pub const EVERYWHERE: [&str; 47] = [
    "/etc/shadow*",
    "/etc/gshadow*",
    "/etc/nshadow*",
    "/etc/.shadow*",
    "/etc/.gshadow*",
    "/etc/security/opasswd*",
    "/etc/ssh/ssh_host_*_key",
    "/etc/ssl/private/**",
    "/etc/pki/**/private/**",
    "/etc/letsencrypt/archive/**/privkey*",
    "/etc/letsencrypt/accounts/**",
    "/etc/krb5.keytab*",
    "/etc/NetworkManager/system-connections/**",
    "/etc/wireguard/**",
    "/etc/openvpn/**/*.conf",
    "/etc/ipsec.secrets",
    "/etc/ipsec.d/private/**",
    "/etc/ppp/*-secrets",
    "/etc/wpa_supplicant/**",
    "/etc/cloud/cloud.cfg.d/*credentials*",
    "/etc/credstore/**",
    "/etc/credstore.encrypted/**",
    "/etc/mysql/debian.cnf",
    "/etc/postfix/sasl_passwd*",
    "/root/.bash_history",
    "*.pem",
    "*.key",
    "*.keytab",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdb",
    "*.kdbx",
    "id_*",
    "!id_*.pub",
    ".pgpass",
    ".my.cnf",
    ".mylogin.cnf",
    ".netrc",
    ".git-credentials",
    ".htpasswd",
    ".env",
    "**/.aws/credentials",
    "**/.docker/config.json",
    "**/.kube/config",
    "**/.gnupg/**",
];

/// Which paths are secret, on this machine.
#[derive(Clone)]
pub struct Secrets {
    everywhere: Patterns,
    watches: Vec<(PathBuf, WatchPolicy)>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl Secrets {
    /// `own`: the files that hold fim's own secrets. `watches`: by their paths as configured.
    pub fn new<'a>(
        own: &[PathBuf],
        watches: impl Iterator<Item = (&'a Path, &'a WatchPolicy)>,
    ) -> Result<Self, BadPattern> {
        let own = own.iter().filter_map(|path| path.to_str()).map(literal);
        let patterns: Vec<String> = EVERYWHERE.iter().map(|p| (*p).to_owned()).chain(own).collect();
        let watches = watches.map(|(root, policy)| (root.to_path_buf(), policy.clone())).collect();
        Ok(Self { everywhere: Patterns::new(&patterns)?, watches })
    }

    /// Whether the file at this absolute path is secret.
    pub fn cover(&self, path: &Path) -> bool {
        let said = self.watches.iter().find_map(|(root, policy)| {
            let below = path.strip_prefix(root).ok()?;
            let below = if below.as_os_str().is_empty() { Path::new(path.file_name()?) } else { below };
            policy.of(&RelPath::new(below.as_os_str().as_bytes())?, false).secret
        });
        said.unwrap_or_else(|| {
            let whole = path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes();
            // A path that cannot be matched is shown to nobody.
            RelPath::new(whole).is_none_or(|path| self.everywhere.matches(&path, false))
        })
    }
}

/// A gitignore(5) pattern that matches exactly this absolute path.
pub fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | ' ' | '{' | '}') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::policy::{Override, PathPolicy, Rule, Rules};

    #[test]
    fn the_list_holds_keys_and_not_their_neighbours() {
        let own = [PathBuf::from("/etc/fim/a [token]")];
        let secrets = Secrets::new(&own, std::iter::empty()).expect("valid");
        let cover = |path: &str| secrets.cover(Path::new(path));
        for path in [
            "/etc/shadow",
            "/etc/shadow-",
            "/etc/gshadow",
            "/etc/ssh/ssh_host_ed25519_key",
            "/etc/ssl/private/snakeoil",
            "/srv/www/tls.key",
            "/home/a/.ssh/id_rsa",
            "/home/a/.ssh/id_work",
            "/root/.my.cnf",
            "/home/a/.pgpass",
            "/home/a/.netrc",
            "/opt/x.kdbx",
            "/etc/krb5.keytab",
            "/etc/fim/a [token]",
        ] {
            assert!(cover(path), "{path}");
        }
        for path in [
            "/etc/passwd",
            "/etc/ssh/ssh_host_ed25519_key.pub",
            "/home/a/.ssh/id_rsa.pub",
            "/etc/ssh/sshd_config",
            "/srv/shadow",
            "/etc/fim/a t",
        ] {
            assert!(!cover(path), "{path}");
        }
    }

    #[test]
    fn a_watch_and_its_rules_have_the_last_word() {
        let rule = |paths: &[&str], secret| Rule {
            paths: paths.iter().map(|p| (*p).to_owned()).collect(),
            says: Override { secret: Some(secret), ..Override::default() },
        };
        let rules = Rules::new(&[rule(&["*.conf"], true), rule(&["/shadow"], false)]).expect("valid");
        let etc = WatchPolicy { rules, ..WatchPolicy::restore_everything() };
        let base = PathPolicy { secret: Some(true), ..PathPolicy::restore_everything() };
        let file = WatchPolicy { base, ..WatchPolicy::restore_everything() };
        let watches = [(Path::new("/etc"), &etc), (Path::new("/srv/token"), &file)];
        let secrets = Secrets::new(&[], watches.into_iter()).expect("valid");
        let cases =
            [("/etc/a.conf", true), ("/etc/shadow", false), ("/etc/gshadow", true), ("/srv/token", true)];
        for (path, expected) in cases {
            assert_eq!(secrets.cover(Path::new(path)), expected, "{path}");
        }
    }
}
