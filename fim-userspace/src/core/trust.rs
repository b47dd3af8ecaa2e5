//! Whether everybody who may have made a change is a trusted updater.

use super::actor::{Actor, Ancestor, Confidence, ExeFile, ProcessKey};
use super::entry::{Aspect, Digest, Entry};
use super::observation::WatchId;
use super::witness::Witnessed;

/// How the kernel's own name of a file that was replaced since may end.
const DELETED: &str = " (deleted)";

/// Nanoseconds that a report may come late: what a program's child did just before the program ended is still told of.
pub const LAG_NS: u64 = 2_000_000_000;

/// Programs whose changes are authorised: one `[[trust]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub name: String,
    /// Paths of executables, escaped, as actors have them.
    pub programs: Vec<String>,
    /// What the executable must hold; without it, what the baseline says of it.
    pub sha256: Option<Digest>,
    /// Whether what the program starts is trusted with it.
    pub descendants: bool,
    /// Where; `None`: everywhere.
    pub watches: Option<Vec<WatchId>>,
    /// Who has to run it.
    pub users: Vec<u32>,
    /// The container that fim itself runs in.
    pub container: Option<String>,
}

/// A process that a rule would trust, provided that the file it runs is what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Index of the rule.
    pub rule: usize,
    /// The rule's program, escaped.
    pub program: String,
    pub process: ProcessKey,
    /// What it runs, as of its exec.
    pub file: ExeFile,
}

/// Why a change is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untrusted {
    /// No rule concerns whoever did it.
    Stranger,
    /// A rule names the program, and something else is wrong, in a sentence.
    Refused(String),
}

/// What is known of a change besides who was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Owner of what is there now; `None`: nothing is there.
    pub owner: Option<u32>,
    /// When it was first reported, nanoseconds since boot.
    pub first_ns: u64,
}

/// Which rules trust everybody who was seen at the path; one claim for each process, that of the one who is named as the
/// author first. A single one whom nobody trusts is enough to refuse.
pub fn judge(
    rules: &[Rule],
    watch: WatchId,
    witnessed: &Witnessed,
    author: &Actor,
    left: Left,
) -> Result<Vec<Claim>, Untrusted> {
    let Some(writers) = witnessed.writers() else {
        return Err(Untrusted::Refused("too many processes had to do with it to know them all".into()));
    };
    let mut claims: Vec<Claim> = Vec::with_capacity(writers.len());
    let (mut stranger, mut refused) = (writers.is_empty(), None);
    for actor in writers {
        match claim(rules, watch, actor, left) {
            Ok(claim) if author.same_process(actor) => claims.insert(0, claim),
            Ok(claim) => claims.push(claim),
            Err(Untrusted::Stranger) => stranger = true,
            Err(Untrusted::Refused(why)) => refused = Some(why),
        }
    }
    match refused {
        Some(why) => Err(Untrusted::Refused(why)),
        None if stranger && !claims.is_empty() => {
            Err(Untrusted::Refused("somebody whom nothing trusts may have had a part in it, too".into()))
        }
        None if stranger => Err(Untrusted::Stranger),
        None => Ok(claims),
    }
}

fn claim(rules: &[Rule], watch: WatchId, actor: &Actor, left: Left) -> Result<Claim, Untrusted> {
    let mut reason = None;
    for (index, rule) in rules.iter().enumerate() {
        if rule.watches.as_ref().is_some_and(|watches| !watches.contains(&watch)) {
            continue;
        }
        let above = actor.ancestors.iter().filter(|_| rule.descendants).map(Link::above);
        for link in std::iter::once(Link::own(actor)).chain(above) {
            let Some(program) = rule.programs.iter().find(|program| link.runs(program)) else { continue };
            match link.claim(index, rule, program, actor, left) {
                Ok(claim) => return Ok(claim),
                Err(why) => {
                    reason.get_or_insert_with(|| format!("not trusted as \"{}\": {why}", rule.name));
                }
            }
        }
    }
    Err(reason.map_or(Untrusted::Stranger, Untrusted::Refused))
}

/// One process of the chain from the actor up.
struct Link<'a> {
    pid: Option<u32>,
    start_ns: Option<u64>,
    uid: Option<u32>,
    exe: Option<&'a str>,
    file: Option<&'a ExeFile>,
    ended_ns: Option<u64>,
}

impl<'a> Link<'a> {
    fn own(actor: &'a Actor) -> Self {
        let Actor { pid, start_ns, uid, exe, exe_file, .. } = actor;
        Self {
            pid: *pid,
            start_ns: *start_ns,
            uid: *uid,
            exe: exe.as_deref(),
            file: exe_file.as_ref(),
            ended_ns: None,
        }
    }

    fn above(ancestor: &'a Ancestor) -> Self {
        let Ancestor { pid, start_ns, uid, exe, exe_file, ended_ns, .. } = ancestor;
        Self {
            pid: Some(*pid),
            start_ns: *start_ns,
            uid: *uid,
            exe: exe.as_deref(),
            file: exe_file.as_ref(),
            ended_ns: *ended_ns,
        }
    }

    fn runs(&self, program: &str) -> bool {
        self.exe.is_some_and(|exe| exe.strip_suffix(DELETED).unwrap_or(exe) == program)
    }

    fn claim(
        &self,
        index: usize,
        rule: &Rule,
        program: &str,
        actor: &Actor,
        left: Left,
    ) -> Result<Claim, String> {
        if self.ended_ns.is_some_and(|ended| ended.saturating_add(LAG_NS) < left.first_ns) {
            // A service that a package's script started would be trusted for as long as it runs.
            return Err(format!("{program}, which started it, had ended by then"));
        }
        let known = (self.pid, self.start_ns, self.file);
        let (Some(tgid), Some(start_ns), Some(file)) = known else {
            return Err(format!("which file ran as {program} is not known for certain"));
        };
        if let Some(container) = actor.container.as_ref().filter(|own| rule.container.as_ref() != Some(own)) {
            // The host's own file may be mounted there, and run with whatever surroundings the container's root likes.
            return Err(format!("{program} ran in the container {container}"));
        }
        match actor.confidence {
            Confidence::Exact => {}
            // Nobody was seen making it. What its owner made, nobody else can have put there.
            Confidence::Several if left.owner.is_some() && left.owner == actor.uid => {}
            Confidence::Several => return Err("nobody was seen doing this very change".into()),
            Confidence::Unknown => return Err("who did it is not known for certain".into()),
        }
        if !rule.users.iter().any(|user| is_user(*user, self.uid, actor.auid)) {
            return Err(match self.uid {
                Some(uid) => format!("{program} was run by uid {uid}, which `users` does not name"),
                None => format!("who ran {program} is not known"),
            });
        }
        Ok(Claim {
            rule: index,
            program: program.to_owned(),
            process: ProcessKey { tgid, start_ns },
            file: file.clone(),
        })
    }
}

/// A user runs a program under his own id, or as root after he has logged in. A login alone is no proof: a service that
/// somebody restarted by hand keeps his login id.
fn is_user(user: u32, uid: Option<u32>, login: Option<u32>) -> bool {
    uid == Some(user) || (uid == Some(0) && login == Some(user))
}

/// Whether what is there now is new in all in which it differs from what was approved. `known` is a state that was recorded
/// as unauthorised and left; whoever touches the file afterwards must not make the rest of it right.
pub fn is_remade(before: Option<&Entry>, known: &Entry, now: &Entry) -> bool {
    let since = known.differences(now);
    if since.contains(&Aspect::Type) {
        return true;
    }
    let content = |aspect: &Aspect| matches!(aspect, Aspect::Content | Aspect::Target | Aspect::Device);
    match before {
        Some(before) => before.differences(now).iter().all(|aspect| since.contains(aspect)),
        // Nothing was approved there: only what it holds makes it another one.
        None => since.iter().any(content),
    }
}

/// A ready-made rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    pub name: &'static str,
    pub programs: &'static [&'static str],
}

/// Package managers. What exists under none of these paths is never trusted, so that a list may be longer than a system.
pub const PRESETS: [Preset; 9] = [
    Preset { name: "dpkg", programs: &["/usr/bin/dpkg"] },
    Preset {
        name: "apt",
        programs: &["/usr/bin/apt", "/usr/bin/apt-get", "/usr/bin/aptitude-curses", "/usr/bin/dpkg"],
    },
    Preset { name: "rpm", programs: &["/usr/bin/rpm"] },
    Preset {
        name: "dnf",
        programs: &["/usr/bin/dnf5", "/usr/bin/dnf5daemon-server", "/usr/bin/microdnf", "/usr/bin/rpm"],
    },
    Preset { name: "zypper", programs: &["/usr/bin/zypper", "/usr/bin/rpm"] },
    Preset { name: "pacman", programs: &["/usr/bin/pacman"] },
    Preset { name: "snapd", programs: &["/usr/lib/snapd/snapd", "/usr/libexec/snapd/snapd"] },
    Preset {
        name: "flatpak",
        programs: &[
            "/usr/bin/flatpak",
            "/usr/libexec/flatpak-system-helper",
            "/usr/lib/flatpak/flatpak-system-helper",
        ],
    },
    Preset { name: "packagekit", programs: &["/usr/libexec/packagekitd", "/usr/lib/packagekit/packagekitd"] },
];

/// Programs that do what anybody tells them: trusting one trusts every script.
const INTERPRETERS: [&str; 26] = [
    "sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "csh", "tcsh", "busybox", "toybox", "python",
    "perl", "ruby", "node", "nodejs", "php", "lua", "tclsh", "awk", "gawk", "mawk", "env", "java", "expect",
];

/// Whether the file name is that of an interpreter or of the dynamic loader, with or without a version.
pub fn is_interpreter(name: &str) -> bool {
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'));
    INTERPRETERS.contains(&name)
        || INTERPRETERS.contains(&plain)
        || name.starts_with("ld-linux")
        || name.starts_with("ld-musl")
}

#[cfg(test)]
mod tests;
