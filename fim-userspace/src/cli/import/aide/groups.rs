//! Groups of attributes, and what fim compares instead.

use std::collections::{BTreeMap, BTreeSet};

pub type Attributes = BTreeSet<&'static str>;

const PLAIN: [&str; 23] = [
    "ftype",
    "p",
    "i",
    "l",
    "n",
    "u",
    "g",
    "s",
    "b",
    "m",
    "a",
    "c",
    "acl",
    "selinux",
    "xattrs",
    "e2fsattrs",
    "caps",
    "I",
    "growing",
    "compressed",
    "ANF",
    "ARF",
    "S",
];
const HASHES: [&str; 16] = [
    "md5",
    "sha1",
    "sha256",
    "sha512",
    "rmd160",
    "tiger",
    "crc32",
    "crc32b",
    "haval",
    "whirlpool",
    "gost",
    "stribog256",
    "stribog512",
    "sha512_256",
    "sha3_256",
    "sha3_512",
];
const EXTENDED: [&str; 5] = ["acl", "selinux", "xattrs", "e2fsattrs", "caps"];

/// What is defined so far.
pub struct Groups(BTreeMap<String, Attributes>);

/// Of one path, in the words of fim's configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Policy {
    pub ignore: Vec<&'static str>,
    /// `None`: all.
    pub kinds: Option<Vec<&'static str>>,
}

impl Groups {
    /// With the groups that AIDE brings.
    pub fn new() -> Self {
        let set = |names: &[&'static str]| names.iter().copied().collect::<Attributes>();
        let base = ["p", "ftype", "i", "l", "n", "u", "g"];
        let with = |more: &[&'static str]| &(&set(&base) | &set(more)) | &set(&EXTENDED);
        let groups = [
            ("R", with(&["s", "m", "c", "md5"])),
            ("L", with(&[])),
            (">", with(&["s", "growing"])),
            ("H", set(&HASHES)),
            ("X", set(&EXTENDED)),
            ("E", Attributes::new()),
        ];
        Self(groups.into_iter().map(|(name, set)| (name.to_owned(), set)).collect())
    }

    pub fn define(&mut self, name: &str, attributes: Attributes) {
        self.0.insert(name.to_owned(), attributes);
    }

    /// What an expression stands for, and which of it was named here and not by a group.
    ///
    /// # Errors
    /// The name that nobody knows.
    pub fn read(&self, expression: &str) -> Result<(Attributes, Attributes), String> {
        let (mut all, mut named) = (Attributes::new(), Attributes::new());
        let mut rest = expression.trim();
        let mut sign = '+';
        while !rest.is_empty() {
            let end = rest.find(['+', '-']).unwrap_or(rest.len());
            let name = rest[..end].trim();
            let (set, direct) = self.one(name)?;
            match sign {
                '-' => all = &all - &set,
                _ => {
                    all.extend(set.iter());
                    named.extend(set.iter().filter(|_| direct));
                }
            }
            sign = rest[end..].chars().next().unwrap_or('+');
            rest = rest[end..].get(1..).unwrap_or_default().trim();
        }
        named.retain(|name| all.contains(name));
        Ok((all, named))
    }

    /// AIDE's own groups count as named: no line of the file defines them.
    fn one(&self, name: &str) -> Result<(Attributes, bool), String> {
        if let Some(known) = PLAIN.iter().chain(&HASHES).find(|known| **known == name) {
            let known = if *known == "S" { vec!["s", "growing"] } else { vec![*known] };
            return Ok((known.into_iter().collect(), true));
        }
        let own = matches!(name, "R" | "L" | ">" | "H" | "X" | "E");
        let set = self.0.get(name).ok_or_else(|| format!("there is no group or attribute {name:?}"))?;
        Ok((set.clone(), own))
    }
}

impl Policy {
    pub fn of(attributes: &Attributes) -> Self {
        let none = |names: &[&'static str]| !names.iter().any(|name| attributes.contains(name));
        let content = none(&HASHES) && none(&["s"]);
        let log = !none(&["growing", "I", "compressed"]);
        let aspects = [
            ("content", content || log),
            ("target", none(&["l"])),
            ("mode", none(&["p"])),
            ("owner", none(&["u"])),
            ("group", none(&["g"])),
            ("xattrs", none(&EXTENDED)),
            ("mtime", none(&["m", "c"]) || log),
        ];
        let ignore = aspects.into_iter().filter(|(_, ignored)| *ignored).map(|(name, _)| name).collect();
        let (new, gone) = (!none(&["ANF"]), !none(&["ARF"]));
        let left_out = |kind: &str| match kind {
            "created" => new || log,
            "deleted" => gone || log,
            "renamed" => new || gone || log,
            _ => false,
        };
        let all = ["created", "modified", "deleted", "renamed", "attributes", "type"];
        let kinds: Vec<&str> = all.into_iter().filter(|kind| !left_out(kind)).collect();
        Self { ignore, kinds: (kinds.len() < all.len()).then_some(kinds) }
    }
}

/// What fim does not do of these attributes, one sentence each.
pub fn differences(named: &Attributes) -> Vec<String> {
    let has = |name: &&&str| named.contains(**name);
    let mut out = Vec::new();
    let never: Vec<&str> = ["i", "n", "b", "a"].iter().filter(has).copied().collect();
    if !never.is_empty() {
        out.push(format!(
            "{} (inode, links, blocks, time of access) are not compared: a restored file has another inode",
            never.join(", ")
        ));
    }
    let log: Vec<&str> = ["growing", "I", "compressed"].iter().filter(has).copied().collect();
    if !log.is_empty() {
        out.push(format!(
            "{}: fim cannot tell a log that grows or is rotated from one that is altered; of such a file only attributes \
             and type are told",
            log.join(", ")
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_sums_and_differences() {
        let mut groups = Groups::new();
        let read = |groups: &Groups, text: &str| groups.read(text).expect("known").0;
        groups.define("Owner", read(&groups, "p+u+g+ftype"));
        groups.define("Static", read(&groups, "Owner + m+c+H"));
        assert_eq!(Policy::of(&read(&groups, "Static")).ignore, ["target", "xattrs"]);
        assert_eq!(Policy::of(&read(&groups, "Static-m-c-u")).ignore, ["target", "owner", "xattrs", "mtime"]);
        assert_eq!(Policy::of(&read(&groups, "R")), Policy { ignore: vec![], kinds: None });
        assert_eq!(Policy::of(&read(&groups, "E")).ignore.len(), 7);
        assert!(groups.read("Static+Nonsense").is_err_and(|name| name.contains("Nonsense")));
        let log = Policy::of(&read(&groups, "Static+growing+ANF"));
        assert_eq!(log.kinds, Some(vec!["modified", "attributes", "type"]));
        assert!(log.ignore.contains(&"content") && log.ignore.contains(&"mtime"));
        assert_eq!(
            Policy::of(&read(&groups, "R+ARF")).kinds.map(|kinds| kinds.contains(&"deleted")),
            Some(false)
        );
    }

    #[test]
    fn what_is_not_compared_is_told_where_it_was_named() {
        let mut groups = Groups::new();
        let (all, named) = groups.read("p+i+n+sha256").expect("known");
        assert!(differences(&named)[0].starts_with("i, n "), "{named:?}");
        groups.define("Mine", all);
        let (_, named) = groups.read("Mine+u").expect("known");
        assert_eq!(differences(&named), [""; 0], "it was told where Mine was defined");
        assert_eq!(differences(&groups.read("R").expect("known").1).len(), 1);
    }
}
