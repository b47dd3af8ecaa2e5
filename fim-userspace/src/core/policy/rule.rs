//! Rules: what holds for some of a watch's paths instead of what the watch says.

use std::time::Duration;

use super::patterns::{BadPattern, Patterns};
use super::{OnAltered, OnCreated, PathPolicy, Severity};
use crate::core::change::KindSet;
use crate::core::entry::AspectSet;
use crate::core::path::RelPath;

/// What one rule says; `None` where it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Override {
    pub kinds: Option<KindSet>,
    pub on_modified: Option<OnAltered>,
    pub on_deleted: Option<OnAltered>,
    pub on_attributes: Option<OnAltered>,
    pub on_created: Option<OnCreated>,
    pub keep_versions: Option<bool>,
    pub max_file_size: Option<u64>,
    pub severity: Option<Severity>,
    pub dry_run: Option<bool>,
    pub ignore: Option<AspectSet>,
    pub repeat_limit: Option<u32>,
    pub repeat_window: Option<Duration>,
    pub secret: Option<bool>,
}

impl Override {
    /// `policy` with what this says put over it.
    pub fn over(&self, policy: PathPolicy) -> PathPolicy {
        PathPolicy {
            kinds: self.kinds.unwrap_or(policy.kinds),
            on_modified: self.on_modified.unwrap_or(policy.on_modified),
            on_deleted: self.on_deleted.unwrap_or(policy.on_deleted),
            on_attributes: self.on_attributes.unwrap_or(policy.on_attributes),
            on_created: self.on_created.unwrap_or(policy.on_created),
            keep_versions: self.keep_versions.unwrap_or(policy.keep_versions),
            max_file_size: self.max_file_size.or(policy.max_file_size),
            severity: self.severity.unwrap_or(policy.severity),
            dry_run: self.dry_run.unwrap_or(policy.dry_run),
            ignore: self.ignore.unwrap_or(policy.ignore),
            repeat_limit: self.repeat_limit.unwrap_or(policy.repeat_limit),
            repeat_window: self.repeat_window.unwrap_or(policy.repeat_window),
            secret: self.secret.or(policy.secret),
        }
    }
}

/// Paths, and what holds for them.
#[derive(Clone, Debug)]
pub struct Rule {
    /// gitignore(5) patterns relative to the watch root, as written.
    pub paths: Vec<String>,
    pub says: Override,
}

/// The rules of one watch, in the order of the file: a later one wins over an earlier one, key by key.
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Vec<Stated>,
    /// Every pattern of every rule: most paths match none, which is known by one search.
    any: Patterns,
}

#[derive(Clone, Debug)]
struct Stated {
    paths: Vec<String>,
    patterns: Patterns,
    says: Override,
}

impl Rules {
    pub fn new(rules: &[Rule]) -> Result<Self, BadPattern> {
        let all: Vec<&str> =
            rules.iter().flat_map(|rule| &rule.paths).map(|p| p.strip_prefix('!').unwrap_or(p)).collect();
        let one = |rule: &Rule| {
            Ok(Stated { paths: rule.paths.clone(), patterns: Patterns::new(&rule.paths)?, says: rule.says })
        };
        Ok(Self { rules: rules.iter().map(one).collect::<Result<_, _>>()?, any: Patterns::new(&all)? })
    }

    pub fn none() -> Self {
        Self { rules: Vec::new(), any: Patterns::none() }
    }

    /// Which rules hold for `path`, by their place.
    pub fn matching(&self, path: &RelPath, directory: bool) -> Vec<usize> {
        if !self.any.matches(path, directory) {
            return Vec::new();
        }
        let matched =
            |(index, rule): (usize, &Stated)| rule.patterns.matches(path, directory).then_some(index);
        self.rules.iter().enumerate().filter_map(matched).collect()
    }

    /// What holds for `path`, where `watch` is what holds without rules.
    pub fn resolve(&self, watch: PathPolicy, path: &RelPath, directory: bool) -> PathPolicy {
        self.matching(path, directory)
            .into_iter()
            .fold(watch, |policy, index| self.rules[index].says.over(policy))
    }

    /// The patterns of each rule that holds for `path`, as written.
    pub fn named(&self, path: &RelPath, directory: bool) -> impl Iterator<Item = String> {
        self.matching(path, directory).into_iter().map(|index| self.rules[index].paths.join(", "))
    }

    /// Takes back what rules say of dry runs.
    pub(super) fn forget_dry_run(&mut self) {
        self.rules.iter_mut().for_each(|rule| rule.says.dry_run = None);
    }
}
