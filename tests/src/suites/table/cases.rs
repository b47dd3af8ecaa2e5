//! The table: what is there, what is done to it, what the ledger must then say.
//!
//! Paths start with `in/` (the case's own folder in the watched tree) or `out/` (its folder outside).

use crate::actor::Op;
use crate::actor::Op::*;

/// What is there before the baseline is taken.
#[derive(Clone, Copy, Debug)]
pub enum Make {
    File(&'static str),
    Dir(&'static str),
    /// A second name for a file made before.
    Link(&'static str, &'static str),
}

/// How much about the actor has to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Pid, ids, executable and `exact`.
    Exact,
    /// Nobody wrong: exactly the actor, or not said to be exact.
    NobodyWrong,
}

/// One record that has to be there.
#[derive(Clone, Copy, Debug)]
pub struct Expect {
    /// Any of these.
    pub kinds: &'static [&'static str],
    pub path: &'static str,
    pub old_path: Option<&'static str>,
    /// Under the policy that undoes everything.
    pub response: &'static str,
    pub who: Who,
    /// The operation is one system call, so even the undoing policy must have seen its whole effect.
    pub whole: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub name: &'static str,
    pub make: &'static [Make],
    /// Operations by separate actors before the one that counts, while the daemon runs.
    pub prelude: &'static [(Op, &'static [&'static str])],
    pub op: Op,
    pub args: &'static [&'static str],
    pub expect: &'static [Expect],
    /// What also satisfies, where the kernel cannot tell both names of a rename in one event.
    pub unpaired: &'static [Expect],
}

const fn record(kinds: &'static [&'static str], path: &'static str, response: &'static str) -> Expect {
    Expect { kinds, path, old_path: None, response, who: Who::Exact, whole: true }
}

const fn created(path: &'static str) -> Expect {
    Expect { whole: false, ..record(&["created"], path, "quarantined") }
}

const fn modified(path: &'static str) -> Expect {
    record(&["modified"], path, "restored")
}

const fn deleted(path: &'static str) -> Expect {
    record(&["deleted"], path, "restored")
}

const fn attributes(path: &'static str) -> Expect {
    record(&["attributes"], path, "restored")
}

const fn renamed(from: &'static str, to: &'static str) -> Expect {
    Expect { old_path: Some(from), ..record(&["renamed"], to, "restored") }
}

/// Found by looking around after an event on something else.
const fn nearby(expect: Expect) -> Expect {
    Expect { who: Who::NobodyWrong, ..expect }
}

const fn case(
    name: &'static str,
    make: &'static [Make],
    op: Op,
    args: &'static [&'static str],
    expect: &'static [Expect],
) -> Case {
    Case { name, make, prelude: &[], op, args, expect, unpaired: &[] }
}

const FILE: &[Make] = &[Make::File("in/file")];
const TREE: &[Make] = &[
    Make::Dir("in/tree"),
    Make::File("in/tree/one"),
    Make::Dir("in/tree/deep"),
    Make::File("in/tree/deep/two"),
];

pub const CASES: &[Case] = &[
    case("create", &[], Create, &["in/new"], &[created("in/new")]),
    case("write", FILE, Write, &["in/file"], &[modified("in/file")]),
    case("append", FILE, Append, &["in/file"], &[modified("in/file")]),
    case("truncate", FILE, Truncate, &["in/file"], &[modified("in/file")]),
    case("mmap-write", FILE, MmapWrite, &["in/file"], &[Expect { whole: false, ..modified("in/file") }]),
    Case {
        unpaired: &[deleted("in/file"), created("in/renamed")],
        ..case("rename-inside", FILE, Rename, &["in/file", "in/renamed"], &[renamed("in/file", "in/renamed")])
    },
    case(
        "rename-in",
        &[Make::File("out/file")],
        Rename,
        &["out/file", "in/arrived"],
        &[Expect { whole: true, ..created("in/arrived") }],
    ),
    case("rename-out", FILE, Rename, &["in/file", "out/taken"], &[deleted("in/file")]),
    case("replace", FILE, Replace, &["in/file"], &[modified("in/file")]),
    case("unlink", FILE, Unlink, &["in/file"], &[deleted("in/file")]),
    case("rmdir-tree", TREE, RmdirTree, &["in/tree"], &[deleted("in/tree/one"), deleted("in/tree/deep/two")]),
    case("mkdir-tree", &[], MkdirTree, &["in/made"], &[created("in/made")]),
    case("link", FILE, Link, &["in/file", "in/second"], &[Expect { whole: true, ..created("in/second") }]),
    case(
        "link-in",
        &[Make::File("out/file")],
        Link,
        &["out/file", "in/second"],
        &[Expect { whole: true, ..created("in/second") }],
    ),
    case(
        "write-old-link",
        &[Make::File("in/file"), Make::Link("in/file", "out/link")],
        Write,
        &["out/link"],
        &[modified("in/file")],
    ),
    Case {
        prelude: &[(Link, &["in/file", "out/link"])],
        ..case("write-new-link", FILE, Write, &["out/link"], &[modified("in/file")])
    },
    case("symlink", &[], Symlink, &["/etc/shadow", "in/sym"], &[Expect { whole: true, ..created("in/sym") }]),
    case("chmod", FILE, Chmod, &["in/file"], &[attributes("in/file")]),
    case("chown", FILE, Chgrp, &["in/file", "4567"], &[attributes("in/file")]),
    case("utimens", FILE, Utimens, &["in/file"], &[attributes("in/file")]),
    case("setxattr", FILE, Setxattr, &["in/file"], &[attributes("in/file")]),
    case("quick", FILE, Quick, &["in/file"], &[modified("in/file")]),
    case(
        "recreate",
        FILE,
        Recreate,
        &["in/file"],
        &[Expect { whole: false, ..record(&["modified", "deleted"], "in/file", "restored") }],
    ),
    case("chmod-dir", &[Make::Dir("in/dir")], Chmod, &["in/dir"], &[attributes("in/dir")]),
    case(
        "rename-dir-in",
        &[Make::Dir("out/tree"), Make::File("out/tree/one")],
        Rename,
        &["out/tree", "in/tree"],
        &[Expect { whole: true, ..created("in/tree") }, nearby(created("in/tree/one"))],
    ),
    case(
        "rename-dir-out",
        TREE,
        Rename,
        &["in/tree", "out/tree"],
        &[deleted("in/tree"), nearby(deleted("in/tree/one")), nearby(deleted("in/tree/deep/two"))],
    ),
];

impl Case {
    /// Paths that records of this case may be about: what its operations name, what lies below, and temporary names.
    pub fn may_touch(&self, path: &str) -> bool {
        let named = self.prelude.iter().flat_map(|(_, args)| args.iter()).chain(self.args);
        let expected = self.expect.iter().chain(self.unpaired).map(|e| &e.path);
        named.chain(expected).any(|p| {
            path.strip_prefix(p)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest == ".tmp")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_row_is_sound() {
        let mut names = BTreeSet::new();
        for case in CASES {
            assert!(names.insert(case.name), "{} stands there twice", case.name);
            assert_eq!(
                case.args.len(),
                if case.op.takes_two() || case.op == Chgrp { 2 } else { 1 },
                "{}",
                case.name
            );
            assert!(!case.expect.is_empty(), "{} expects nothing", case.name);
            for expect in case.expect {
                assert!(expect.path.starts_with("in/"), "{}", case.name);
            }
        }
    }

    #[test]
    fn may_touch_takes_whole_names() {
        let replace = CASES.iter().find(|c| c.name == "replace").expect("there");
        assert!(replace.may_touch("in/file") && replace.may_touch("in/file.tmp"));
        assert!(!replace.may_touch("in/file2") && !replace.may_touch("in"));
    }
}
