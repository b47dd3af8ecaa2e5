//! What the administrator wants done about which change.

use serde::{Deserialize, Serialize};

use super::change::ChangeKind;
use super::path::RelPath;

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

/// What to do about something that should not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnCreated {
    Alert,
    Quarantine,
    Delete,
}

/// The rules of one watch.
#[derive(Clone, Debug)]
pub struct WatchPolicy {
    pub kinds: Vec<ChangeKind>,
    pub on_modified: OnAltered,
    pub on_deleted: OnAltered,
    pub on_attributes: OnAltered,
    pub on_created: OnCreated,
    pub keep_versions: bool,
    /// Content of larger files is not kept, in bytes.
    pub max_file_size: Option<u64>,
    pub severity: Severity,
    pub exclude: Exclusions,
}

/// Paths that are not watched: gitignore(5) patterns relative to the watch root.
#[derive(Clone, Debug)]
pub struct Exclusions {
    matcher: ignore::gitignore::Gitignore,
    /// A watch on a single file sees nothing but that name.
    only: Option<RelPath>,
}

/// A pattern that gitignore syntax does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the exclude pattern {pattern:?} is not valid gitignore syntax ({reason}); correct it or remove it")]
pub struct BadPattern {
    pub pattern: String,
    pub reason: String,
}

impl Exclusions {
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, BadPattern> {
        // The matcher needs a root of its own; paths are given to it relative, so any will do.
        let mut builder = ignore::gitignore::GitignoreBuilder::new("/");
        for pattern in patterns {
            let bad =
                |e: ignore::Error| BadPattern { pattern: pattern.as_ref().into(), reason: e.to_string() };
            builder.add_line(None, pattern.as_ref()).map_err(bad)?;
        }
        let bad = |e: ignore::Error| BadPattern { pattern: String::new(), reason: e.to_string() };
        Ok(Self { matcher: builder.build().map_err(bad)?, only: None })
    }

    pub fn none() -> Self {
        Self { matcher: ignore::gitignore::Gitignore::empty(), only: None }
    }

    /// The same exclusions, with everything but `path` excluded as well.
    pub fn only(mut self, path: RelPath) -> Self {
        self.only = Some(path);
        self
    }

    /// Whether `path` or a folder above it is excluded. The root never is, but for a watch on a single file in it.
    pub fn excludes(&self, path: &RelPath, directory: bool) -> bool {
        if let Some(only) = &self.only {
            return only != path;
        }
        if path.is_root() {
            return false;
        }
        !self.matcher.is_empty()
            && self.matcher.matched_path_or_any_parents(path.as_path(), directory).is_ignore()
    }
}

impl WatchPolicy {
    /// What the defaults of the configuration say: everything is undone.
    pub fn restore_everything() -> Self {
        Self {
            kinds: ChangeKind::ALL.to_vec(),
            on_modified: OnAltered::Restore,
            on_deleted: OnAltered::Restore,
            on_attributes: OnAltered::Restore,
            on_created: OnCreated::Quarantine,
            keep_versions: true,
            max_file_size: None,
            severity: Severity::High,
            exclude: Exclusions::none(),
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclusions_follow_gitignore() {
        let ex = Exclusions::new(&["*.swp", "/mtab", "cache/", "!keep.swp"]).expect("valid");
        let cases = [
            ("a/b.swp", false, true),
            ("mtab", false, true),
            ("sub/mtab", false, false),
            ("cache", true, true),
            ("cache", false, false),
            ("x/cache/deep/file", false, true),
            ("keep.swp", false, false),
            ("plain", false, false),
            ("", true, false),
        ];
        for (path, dir, expected) in cases {
            let path = RelPath::new(path).expect("sound");
            assert_eq!(ex.excludes(&path, dir), expected, "{path}");
        }
    }

    #[test]
    fn a_single_file_watch_sees_nothing_else() {
        let ex = Exclusions::none().only(RelPath::new("passwd").expect("sound"));
        assert!(!ex.excludes(&RelPath::new("passwd").expect("sound"), false));
        assert!(ex.excludes(&RelPath::new("group").expect("sound"), false));
        assert!(ex.excludes(&RelPath::root(), true), "the folder around it is not watched");
    }
}
