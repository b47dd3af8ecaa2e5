//! What the administrator wants done about which change.

mod exclude;
mod patterns;
mod rule;
mod secret;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::change::{Change, ChangeKind, KindSet};
use super::entry::{Aspect, AspectSet, Entry, FileType};
use super::path::RelPath;

pub use exclude::{Excluded, Exclusions};
pub use patterns::{BadPattern, Patterns};
pub use rule::{Override, Rule, Rules};
pub use secret::{Secrets, literal};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// What to do about a change of something approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnAltered {
    Alert,
    Restore,
}

impl OnAltered {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Restore => "restore",
        }
    }
}

/// What to do about something that should not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnCreated {
    Alert,
    Quarantine,
    Delete,
}

impl OnCreated {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Quarantine => "quarantine",
            Self::Delete => "delete",
        }
    }
}

/// What a rule may ignore, by its name in the configuration. The type is none of them: a file in whose place a link
/// lies is another file.
pub const IGNORABLE: [(&str, Aspect); 8] = [
    ("content", Aspect::Content),
    ("target", Aspect::Target),
    ("device", Aspect::Device),
    ("mode", Aspect::Mode),
    ("owner", Aspect::Owner),
    ("group", Aspect::Group),
    ("xattrs", Aspect::Xattrs),
    ("mtime", Aspect::Mtime),
];

/// What holds for one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathPolicy {
    /// Changes of other kinds are not even recorded.
    pub kinds: KindSet,
    pub on_modified: OnAltered,
    pub on_deleted: OnAltered,
    pub on_attributes: OnAltered,
    pub on_created: OnCreated,
    pub keep_versions: bool,
    /// Bytes: a larger file is watched, and its content is not kept. `None` where nothing of its own is said.
    pub max_file_size: Option<u64>,
    pub severity: Severity,
    /// The response is planned and recorded, and not carried out.
    pub dry_run: bool,
    /// A difference in these is none.
    pub ignore: AspectSet,
    /// Changes within `repeat_window` from which on one path's records are muted; 0: never.
    pub repeat_limit: u32,
    pub repeat_window: Duration,
    /// Whether the content is nobody's business; `None`: what [`Secrets`] say.
    pub secret: Option<bool>,
}

/// What holds for one watch: its own keys, its rules, and what is not watched.
#[derive(Clone, Debug)]
pub struct WatchPolicy {
    /// Where no rule says otherwise.
    pub base: PathPolicy,
    pub rules: Rules,
    pub exclude: Exclusions,
}

impl PathPolicy {
    /// What the defaults of the configuration say: everything is undone.
    pub fn restore_everything() -> Self {
        Self {
            kinds: KindSet::all(),
            on_modified: OnAltered::Restore,
            on_deleted: OnAltered::Restore,
            on_attributes: OnAltered::Restore,
            on_created: OnCreated::Quarantine,
            keep_versions: true,
            max_file_size: None,
            severity: Severity::High,
            dry_run: false,
            ignore: AspectSet::default(),
            repeat_limit: 10,
            repeat_window: Duration::from_secs(600),
            secret: None,
        }
    }

    /// Whether the approved content of a file of this size is kept.
    pub fn keeps(&self, size: u64) -> bool {
        self.keep_versions && self.max_file_size.is_none_or(|max| size <= max)
    }

    /// Every response reduced to telling.
    pub fn alert_only(mut self) -> Self {
        self.on_modified = OnAltered::Alert;
        self.on_deleted = OnAltered::Alert;
        self.on_attributes = OnAltered::Alert;
        self.on_created = OnCreated::Alert;
        self
    }

    /// Whether `now` is as good as `approved`: they differ in nothing, or in what is ignored.
    pub fn satisfied(&self, approved: &Entry, now: &Entry) -> bool {
        approved == now || approved.differences_but(now, self.ignore).is_empty()
    }

    /// The approved entry, with what is ignored taken from `now`: putting attributes back leaves that alone.
    pub fn as_far_as_it_counts(&self, approved: &Entry, now: &Entry) -> Entry {
        let ignored = |aspect| self.ignore.contains(aspect);
        let mut entry = approved.clone();
        if ignored(Aspect::Content) {
            (entry.sha256, entry.size) = (now.sha256, now.size);
        }
        if ignored(Aspect::Target) {
            (entry.target, entry.size) = (now.target.clone(), now.size);
        }
        if ignored(Aspect::Device) {
            entry.rdev = now.rdev;
        }
        if ignored(Aspect::Mode) {
            entry.mode = now.mode;
        }
        if ignored(Aspect::Owner) {
            entry.uid = now.uid;
        }
        if ignored(Aspect::Group) {
            entry.gid = now.gid;
        }
        if ignored(Aspect::Xattrs) {
            entry.xattrs = now.xattrs.clone();
        }
        if ignored(Aspect::Mtime) {
            entry.mtime_ns = now.mtime_ns;
        }
        entry
    }
}

impl WatchPolicy {
    /// What the defaults of the configuration say: everything is undone.
    pub fn restore_everything() -> Self {
        Self { base: PathPolicy::restore_everything(), rules: Rules::none(), exclude: Exclusions::none() }
    }

    /// What holds for `path`.
    pub fn of(&self, path: &RelPath, directory: bool) -> PathPolicy {
        self.rules.resolve(self.base, path, directory)
    }

    /// What holds for a change. A rename concerns two paths: the approved name's policy says what is put back, the new
    /// name's what must go.
    pub fn of_change(&self, change: &Change) -> PathPolicy {
        let is_dir = |kind: Option<FileType>| kind == Some(FileType::Directory);
        let (before, after) =
            (change.before.as_ref().map(|e| e.kind), change.after.as_ref().map(|f| f.entry.kind));
        let Some(old) = &change.old_path else {
            // What was approved under this name decides, whatever somebody put there.
            return self.of(&change.path, is_dir(before.or(after)));
        };
        let (old, new) = (self.of(old, is_dir(before)), self.of(&change.path, is_dir(after)));
        PathPolicy { on_created: new.on_created, severity: old.severity.max(new.severity), ..old }
    }

    /// The rules that decided what holds for a change, as written; none where the watch's own keys did.
    pub fn rules_of_change(&self, change: &Change) -> Vec<String> {
        let directory = change.before.as_ref().or(change.after.as_ref().map(|found| &found.entry));
        let directory = directory.is_some_and(|entry| entry.kind == FileType::Directory);
        let mut names: Vec<String> = self.rules.named(&change.path, directory).collect();
        for name in change.old_path.iter().flat_map(|old| self.rules.named(old, directory)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Whether a rename from `old` to `new` is told and answered as one change. Where the two names' policies do not
    /// agree on that, it is a deletion and a creation, each under its own.
    pub fn renames_as_one(&self, old: &RelPath, new: &RelPath, directory: bool) -> bool {
        const RENAMED: ChangeKind = ChangeKind::Renamed;
        let (old, new) = (self.of(old, directory), self.of(new, directory));
        old.kinds.contains(RENAMED) && new.kinds.contains(RENAMED) && old.dry_run == new.dry_run
    }

    /// Nothing is carried out, whatever the rules say.
    pub fn dry_run_everything(&mut self) {
        self.base.dry_run = true;
        self.rules.forget_dry_run();
    }
}

#[cfg(test)]
mod tests;
