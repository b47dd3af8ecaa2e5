//! Who gave an order.

use std::fs;

use nix::unistd::{Uid, User};

use crate::core::path::escape;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    pub uid: u32,
}

impl Person {
    /// The person behind a process of root: who called sudo, or else who logged in, or else the user it runs as. The
    /// environment is the process's own word, which is as good as root's.
    pub fn behind(pid: u32, uid: u32) -> Self {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let login = fs::read_to_string(format!("/proc/{pid}/loginuid")).ok();
        let login = login.and_then(|text| text.trim().parse().ok());
        Self::from(&environment, login, uid, &|uid| {
            User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
        })
    }

    fn from(
        environment: &[u8],
        login: Option<u32>,
        uid: u32,
        name_of: &dyn Fn(u32) -> Option<String>,
    ) -> Self {
        let variable = |name: &[u8]| {
            environment.split(|b| *b == 0).find_map(|pair| {
                let value = pair.strip_prefix(name)?.strip_prefix(b"=")?;
                (!value.is_empty()).then(|| escape(value))
            })
        };
        let sudo_uid = variable(b"SUDO_UID").and_then(|text| text.parse().ok());
        if let (Some(name), Some(uid)) = (variable(b"SUDO_USER"), sudo_uid) {
            return Self { name, uid };
        }
        // 4294967295: never logged in.
        let uid = login.filter(|id| *id != u32::MAX).unwrap_or(uid);
        Self { name: name_of(uid).unwrap_or_else(|| format!("uid {uid}")), uid }
    }

    /// As the ledger tells it: `person: ann (uid 1000) from fim accept: new host key`.
    pub fn says(&self, command: &str, reason: Option<&str>) -> String {
        let reason = reason.map(|text| format!(": {text}")).unwrap_or_default();
        format!("person: {} (uid {}) from {command}{reason}", self.name, self.uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudo_tells_then_the_login_then_the_user() {
        let names = |uid| (uid == 1000).then(|| "ann".to_owned());
        let from = |env: &[u8], login, uid| Person::from(env, login, uid, &names);
        let person = |name: &str, uid| Person { name: name.into(), uid };
        assert_eq!(from(b"A=b\0SUDO_USER=bob\0SUDO_UID=1007\0", Some(1000), 0), person("bob", 1007));
        assert_eq!(from(b"SUDO_USER=\0", Some(1000), 0), person("ann", 1000));
        assert_eq!(from(b"", Some(u32::MAX), 1000), person("ann", 1000));
        assert_eq!(from(b"", None, 4711), person("uid 4711", 4711));
        assert_eq!(from(b"SUDO_USER=a\nb\0SUDO_UID=5\0", None, 0).name, "a\\x0ab");
        let said = person("ann", 1000).says("fim accept", Some("new key"));
        assert_eq!(said, "person: ann (uid 1000) from fim accept: new key");
    }
}
