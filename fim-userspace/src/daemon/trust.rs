//! Trusted updaters as the daemon holds them: a rule is worth something only while its program is what it should be.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use rustix::fs::{Mode, OFlags};

use crate::config::{Config, UserName, real_paths};
use crate::core::actor::ProcessKey;
use crate::core::entry::{Aspect, Digest, FileType};
use crate::core::observation::WatchId;
use crate::core::path::{display, escape, unescape};
use crate::core::tier::Tier;
use crate::core::trust::{Claim, Rule};
use crate::sensor::actor::container::container;
use crate::sensor::actor::proc::Live;
use crate::store::{Store, StoreError};
use crate::tree::{hash, inspect};

use super::hands::place::locate;
use super::watch::Watch;

/// Processes whose program was found right; beyond that all are looked at anew.
const REMEMBERED: usize = 4096;

/// Where a file is: device and inode.
type FileId = (u64, u64);

pub struct Trust {
    rules: Vec<Rule>,
    /// For each rule, the root of the system whose packages it installs.
    roots: Vec<PathBuf>,
    /// Processes whose program was right when it was looked at: one that replaces itself stays trusted to its end.
    verified: HashSet<(ProcessKey, FileId)>,
    /// Digests of pinned programs: device, inode, change time, size.
    digests: HashMap<(FileId, i64, i64), Digest>,
    /// Programs that were told of as void.
    void: HashSet<(usize, String)>,
    /// When reports of a watch were found to be lost last, nanoseconds since boot.
    lost_ns: HashMap<WatchId, u64>,
}

impl Trust {
    pub fn new(config: &Config, watches: &[Arc<Watch>]) -> anyhow::Result<Self> {
        let mut rules = Vec::with_capacity(config.trust.len());
        for (trust, index) in config.trust.iter().zip(0usize..) {
            let users = trust.users.iter().map(uid).collect::<anyhow::Result<_>>().with_context(|| {
                format!("{}:{}: users in [[trust]]", display(&config.file), config.trust[index].line)
            })?;
            let within = |paths: &Vec<PathBuf>| {
                let one = |path: &PathBuf| config.watches.iter().position(|watch| watch.path == *path);
                let ids = paths.iter().filter_map(one);
                ids.filter_map(|at| watches.get(at)).map(|watch| watch.id).collect()
            };
            rules.push(Rule {
                name: trust.name.clone(),
                programs: real_paths(&trust.programs)
                    .iter()
                    .map(|p| escape(p.as_os_str().as_bytes()))
                    .collect(),
                sha256: trust.sha256,
                descendants: trust.descendants,
                watches: trust.watches.as_ref().map(within),
                users,
                container: own_container(),
            });
        }
        Ok(Self {
            rules,
            roots: config.trust.iter().map(|trust| trust.root.clone()).collect(),
            verified: HashSet::new(),
            digests: HashMap::new(),
            lost_ns: HashMap::new(),
            void: HashSet::new(),
        })
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub fn root(&self, rule: usize) -> Option<&Path> {
        self.roots.get(rule).map(PathBuf::as_path)
    }

    /// Whether what the claimed process runs is what its rule demands; else why not, in a sentence. `changed` is the path
    /// that it changed, absolute.
    pub fn verify(
        &mut self,
        claim: &Claim,
        changed: &[u8],
        watches: &[Arc<Watch>],
        store: &Store,
    ) -> Result<Result<(), String>, StoreError> {
        let ran = (claim.file.dev, claim.file.ino);
        if self.verified.contains(&(claim.process, ran)) {
            return Ok(Ok(()));
        }
        let pinned = self.rules.get(claim.rule).is_some_and(|rule| rule.sha256.is_some());
        if !pinned && replaces_itself(claim, changed, watches, store)? {
            self.remember(claim);
            return Ok(Ok(()));
        }
        let stands = match self.stands(claim.rule, &claim.program, watches, store)? {
            Ok(stands) => stands,
            Err(why) => return Ok(Err(why)),
        };
        if stands != ran {
            let program = &claim.program;
            return Ok(Err(format!("what ran as {program} is not the file that is there")));
        }
        self.remember(claim);
        self.void.remove(&(claim.rule, claim.program.clone()));
        Ok(Ok(()))
    }

    fn remember(&mut self, claim: &Claim) {
        if self.verified.len() >= REMEMBERED {
            self.verified.clear();
        }
        self.verified.insert((claim.process, (claim.file.dev, claim.file.ino)));
    }

    pub fn note_loss(&mut self, watch: WatchId, at_ns: u64) {
        self.lost_ns.insert(watch, at_ns);
    }

    /// Whether a report of what was first seen then may be among those that were lost.
    pub fn lacks_reports(&self, watch: WatchId, first_ns: u64) -> bool {
        self.lost_ns.get(&watch).is_some_and(|lost_ns| first_ns <= *lost_ns)
    }

    /// Notes that a program is not what it should be; whether that is news.
    pub fn note_void(&mut self, claim: &Claim) -> bool {
        self.void.insert((claim.rule, claim.program.clone()))
    }

    pub fn is_known_void(&self, claim: &Claim) -> bool {
        self.void.contains(&(claim.rule, claim.program.clone()))
    }

    /// What a tier that knows processes by /proc only means for trust.
    pub fn in_tier(&self, tier: Tier) -> Option<String> {
        let blind = !self.rules.is_empty() && matches!(tier, Tier::Fanotify | Tier::Scan);
        blind.then(|| {
            format!(
                "in the {} tier a process that has ended is not known, so what a trusted program's children do is \
                 unauthorised and undone; open a window around updates with `fim maintenance start` (docs/trust.md)",
                tier.as_str()
            )
        })
    }

    /// What is wrong with the programs as they stand now, each in a sentence.
    pub fn problems(&mut self, watches: &[Arc<Watch>], store: &Store) -> Result<Vec<String>, StoreError> {
        let mut problems = Vec::new();
        for index in 0..self.rules.len() {
            let (name, programs) = (self.rules[index].name.clone(), self.rules[index].programs.clone());
            for program in programs {
                let exists = unescape(&program).is_some_and(|path| as_path(path).exists());
                if let Err(why) = self.stands(index, &program, watches, store)?
                    && exists
                {
                    problems.push(void(&name, &program, &why));
                    self.void.insert((index, program));
                }
            }
        }
        Ok(problems)
    }

    /// Which file the rule's program is now, if it is what it should be.
    fn stands(
        &mut self,
        rule: usize,
        program: &str,
        watches: &[Arc<Watch>],
        store: &Store,
    ) -> Result<Result<FileId, String>, StoreError> {
        let Some(path) = unescape(program) else { return Ok(Err("its path cannot be read".into())) };
        match self.rules.get(rule).and_then(|rule| rule.sha256) {
            Some(pinned) => Ok(self.pinned(&as_path(path), pinned)),
            None => approved(&path, watches, store),
        }
    }

    fn pinned(&mut self, path: &Path, pinned: Digest) -> Result<FileId, String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let file: OwnedFd = opened.map_err(|e| format!("it cannot be opened ({e})"))?;
        let stat = rustix::fs::fstat(&file).map_err(|e| format!("it cannot be looked at ({e})"))?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
            return Err("it is no regular file".into());
        }
        let id = (stat.st_dev, stat.st_ino);
        let key = (
            id,
            stat.st_ctime.wrapping_mul(1_000_000_000).wrapping_add(stat.st_ctime_nsec.cast_signed()),
            stat.st_size,
        );
        let digest = match self.digests.get(&key) {
            Some(known) => *known,
            None => {
                let (read, _) = hash::hash_fd(&file).map_err(|e| format!("it cannot be read ({e})"))?;
                // Each version that was ever there would be remembered.
                if self.digests.len() >= REMEMBERED {
                    self.digests.clear();
                }
                self.digests.insert(key, read);
                read
            }
        };
        match digest == pinned {
            true => Ok(id),
            false => Err(format!("its SHA-256 is {digest}, not the one that the configuration names")),
        }
    }
}

/// What is told of a trust that is worth nothing.
pub fn void(rule: &str, program: &str, why: &str) -> String {
    format!(
        "{program} is not trusted (\"{rule}\"): {why}. What it changes is unauthorised until it is what it should be; see \
         `fim diff {program}`"
    )
}

/// Whether the change is the first that is seen of a program that takes its own place: the file that it runs is not there
/// any more, and is the one that was approved. Had anybody altered that before, it would be known.
fn replaces_itself(
    claim: &Claim,
    changed: &[u8],
    watches: &[Arc<Watch>],
    store: &Store,
) -> Result<bool, StoreError> {
    if unescape(&claim.program).is_none_or(|program| program != changed) {
        return Ok(false);
    }
    let Ok((watch, rel)) = locate(watches, changed) else { return Ok(false) };
    let approved = store.baseline_get(watch.path(), &rel)?;
    let same = approved.is_some_and(|approved| {
        (approved.identity.dev, approved.identity.ino) == (claim.file.dev, claim.file.ino)
    });
    Ok(same && store.open_change(watch.path(), &rel)?.is_none())
}

/// The file at `path`, if its baseline entry says that it is this one.
fn approved(
    path: &[u8],
    watches: &[Arc<Watch>],
    store: &Store,
) -> Result<Result<FileId, String>, StoreError> {
    let Ok((watch, rel)) = locate(watches, path) else {
        return Ok(Err(
            "it lies in no watch, so nothing says what it must be; watch it, or name its sha256".into()
        ));
    };
    let Some(entry) = store.baseline_get(watch.path(), &rel)? else {
        return Ok(Err(
            "nobody approved it; accept it with `fim accept` once you know where it comes from".into()
        ));
    };
    let now = match inspect::inspect(&watch.root, &rel, Some(&entry)) {
        Ok(Some(now)) => now,
        Ok(None) => return Ok(Err("it is not there".into())),
        Err(error) => return Ok(Err(error.to_string())),
    };
    // A time proves nothing, and may be ignored in this watch.
    let differences = entry.entry.differences(&now.entry);
    if differences.iter().any(|aspect| *aspect != Aspect::Mtime) {
        return Ok(Err("it is not what was approved".into()));
    }
    let plain = now.entry.kind == FileType::Regular && now.entry.sha256.is_some();
    if !plain || watch.root.is_mounted_over(&rel, &now.entry) {
        return Ok(Err("its content cannot be compared with what was approved".into()));
    }
    Ok(Ok((now.identity.dev, now.identity.ino)))
}

fn as_path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

fn uid(user: &UserName) -> anyhow::Result<u32> {
    let name = match user {
        UserName::Id(id) => return Ok(*id),
        UserName::Login(name) => name,
    };
    match nix::unistd::User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => {
            bail!("there is no user \"{}\"; correct the name, or write the number", name.escape_debug())
        }
        Err(e) => bail!("the user \"{}\" cannot be looked up ({e}); write the number", name.escape_debug()),
    }
}

fn own_container() -> Option<String> {
    let group = Live::read(std::process::id()).ok()?.cgroup?;
    container(&group).map(|(id, _)| id)
}
