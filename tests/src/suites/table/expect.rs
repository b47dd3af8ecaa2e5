//! Holding records against what a row expects.

use std::path::Path;

use crate::actor::SelfReport;
use crate::fim::Policy;
use crate::record::{Record, State};
use crate::tree::Node;

/// One expected record with everything about it that only the run knows.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub kinds: &'static [&'static str],
    /// Absolute.
    pub path: String,
    pub old_path: Option<String>,
    pub response: &'static str,
    /// `None`: found by a scan, when nobody can be named.
    pub actor: Option<SelfReport>,
    pub exact: bool,
    /// The tier that the record must name.
    pub tier: String,
    /// What was approved; `Some(None)`: nothing.
    pub before: Option<Option<Node>>,
    /// What is there after the operation; `Some(None)`: nothing. `None`: not looked at.
    pub after: Option<Option<Node>>,
}

impl Wanted {
    /// `Ok` when one of the records is what is wanted and none accuses somebody else; else the reason.
    pub fn find<'r>(&self, records: &'r [Record]) -> Result<&'r Record, String> {
        let about: Vec<&Record> =
            records.iter().filter(|r| r.is_change() && r.is_about(Path::new(&self.path))).collect();
        if let Some(record) = about.iter().find(|r| self.accuses_another(r)) {
            return Err(format!("somebody else is said to have done it: {}", record.brief()));
        }
        if let Some(record) = about.iter().find(|r| r.response == "failed") {
            return Err(format!("the response failed: {}", record.brief()));
        }
        let mut reason = format!("no {} record for {}", self.kinds.join(" or "), self.path);
        for record in about.iter().rev() {
            match self.matches(record) {
                Ok(()) => return Ok(record),
                Err(why) => reason = format!("{why} in {}", record.brief()),
            }
        }
        Err(reason)
    }

    fn accuses_another(&self, record: &Record) -> bool {
        match (&self.actor, &record.actor) {
            (Some(wanted), Some(got)) => got.confidence == "exact" && got.pid != Some(wanted.pid),
            _ => false,
        }
    }

    fn matches(&self, record: &Record) -> Result<(), String> {
        if !self.kinds.contains(&record.kind.as_str()) {
            return Err(format!("kind is not {}", self.kinds.join(" or ")));
        }
        equal("old_path", &self.old_path, &record.old_path)?;
        equal("verdict", &Some("unauthorised".to_owned()), &record.verdict)?;
        equal("response", &self.response, &record.response.as_str())?;
        equal("tier", &self.tier, &record.tier)?;
        if let Some(wanted) = self.actor.as_ref().filter(|_| self.exact) {
            let got = record.actor.as_ref().ok_or("nobody is named")?;
            equal("confidence", &"exact", &got.confidence.as_str())?;
            equal("pid", &Some(wanted.pid), &got.pid)?;
            equal("ppid", &Some(wanted.ppid), &got.ppid)?;
            equal("uid", &Some(wanted.uid), &got.uid)?;
            equal("gid", &Some(wanted.gid), &got.gid)?;
            equal("exe", &Some(&wanted.exe), &got.exe.as_ref())?;
        }
        if let Some(wanted) = &self.before {
            same_state("before", wanted.as_ref(), record.before.as_ref())?;
        }
        if let Some(wanted) = &self.after {
            same_state("after", wanted.as_ref(), record.after.as_ref())?;
        }
        Ok(())
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, wanted: &T, got: &T) -> Result<(), String> {
    if wanted == got { Ok(()) } else { Err(format!("{what} is {got:?}, not {wanted:?}")) }
}

fn same_state(what: &str, wanted: Option<&Node>, got: Option<&State>) -> Result<(), String> {
    let (wanted, got) = match (wanted, got) {
        (None, None) => return Ok(()),
        (Some(wanted), Some(got)) => (wanted, got),
        (None, Some(_)) => return Err(format!("`{what}` should be empty")),
        (Some(_), None) => return Err(format!("`{what}` is empty")),
    };
    let kind = match wanted.mode & libc::S_IFMT {
        libc::S_IFREG => "regular",
        libc::S_IFDIR => "directory",
        libc::S_IFLNK => "symlink",
        _ => "other",
    };
    equal(&format!("{what}.type"), &kind, &got.kind.as_str())?;
    if kind == "regular" {
        equal(&format!("{what}.sha256"), &Some(&wanted.content), &got.sha256.as_ref())?;
        equal(&format!("{what}.size"), &wanted.size, &got.size)?;
    }
    if kind != "symlink" {
        equal(&format!("{what}.mode"), &format!("{:04o}", wanted.mode & 0o7777), &got.mode)?;
    }
    equal(&format!("{what}.uid"), &wanted.uid, &got.uid)?;
    equal(&format!("{what}.gid"), &wanted.gid, &got.gid)
}

/// What the policy answers where it undoes things with `response`.
pub fn response(policy: Policy, response: &'static str) -> &'static str {
    match policy {
        Policy::Restore => response,
        Policy::Alert => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::parse_lines;
    use std::collections::BTreeMap;

    fn node() -> Node {
        Node {
            mode: libc::S_IFREG | 0o640,
            uid: 1234,
            gid: 2345,
            mtime_ns: 1,
            size: 9,
            content: "aa".into(),
            xattrs: BTreeMap::new(),
        }
    }

    fn wanted() -> Wanted {
        Wanted {
            kinds: &["modified"],
            path: "/w/a".into(),
            old_path: None,
            response: "restored",
            actor: Some(SelfReport { pid: 123, ppid: 7, uid: 1234, gid: 2345, exe: "/bin/fim-actor".into() }),
            exact: true,
            tier: "lsm".into(),
            before: Some(Some(node())),
            after: Some(None),
        }
    }

    const RECORDED: &str = r#"{"seq":1,"id":"x","time":"t","kind":"modified","path":"/w/a","old_path":null,"verdict":"unauthorised","response":"restored","tier":"lsm","actor":{"pid":123,"ppid":7,"uid":1234,"gid":2345,"exe":"/bin/fim-actor","confidence":"exact"},"before":{"type":"regular","sha256":"aa","size":9,"mode":"0640","uid":1234,"gid":2345,"mtime":"t"},"after":null}"#;

    /// What `RECORDED` with `from` replaced by `to` is answered with.
    fn answer(wanted: &Wanted, from: &str, to: &str) -> Result<(), String> {
        let altered = RECORDED.replacen(from, to, 1);
        assert!(from == to || altered != RECORDED, "{from} is not in the recorded line");
        wanted.find(&parse_lines(&altered).expect("reads")).map(drop)
    }

    #[test]
    fn each_wrong_field_is_refused() {
        assert_eq!(answer(&wanted(), "", ""), Ok(()));
        let wrong = [
            ("modified", "created"),
            ("/w/a", "/w/b"),
            ("\"old_path\":null", "\"old_path\":\"/w/o\""),
            ("unauthorised", "authorised"),
            ("\"restored\"", "\"none\""),
            ("\"restored\"", "\"failed\""),
            ("\"lsm\"", "\"fentry\""),
            ("\"pid\":123", "\"pid\":124"),
            ("\"ppid\":7", "\"ppid\":8"),
            ("\"uid\":1234", "\"uid\":0"),
            ("\"gid\":2345", "\"gid\":null"),
            ("/bin/fim-actor", "/bin/sh"),
            ("exact", "unknown"),
            ("\"aa\"", "\"ab\""),
            ("\"size\":9", "\"size\":8"),
            ("0640", "0644"),
        ];
        for (from, to) in wrong {
            assert!(answer(&wanted(), from, to).is_err(), "{from} -> {to} was accepted");
        }
    }

    #[test]
    fn where_nobody_can_be_named_the_wrong_one_is_refused_all_the_same() {
        let loose = Wanted { exact: false, ..wanted() };
        assert_eq!(answer(&loose, "exact", "unknown"), Ok(()));
        let why = answer(&loose, "\"pid\":123", "\"pid\":124").expect_err("another process");
        assert!(why.contains("somebody else"), "{why}");
    }
}
