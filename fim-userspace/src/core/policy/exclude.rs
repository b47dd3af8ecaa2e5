//! Paths that are not watched.

use super::patterns::{BadPattern, Patterns};
use crate::core::path::RelPath;

/// gitignore(5) patterns relative to the watch root.
#[derive(Clone, Debug)]
pub struct Exclusions {
    patterns: Patterns,
    /// A watch on a single file sees nothing but that name.
    only: Option<RelPath>,
}

/// Why a path is not watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excluded<'a> {
    /// By this pattern, as it was written.
    Pattern(&'a str),
    /// The watch is on this single file.
    Only(&'a RelPath),
}

impl Exclusions {
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, BadPattern> {
        Ok(Self { patterns: Patterns::new(patterns)?, only: None })
    }

    pub fn none() -> Self {
        Self { patterns: Patterns::none(), only: None }
    }

    /// The same exclusions, with everything but `path` excluded as well.
    pub fn only(mut self, path: RelPath) -> Self {
        self.only = Some(path);
        self
    }

    /// Whether `path` or a folder above it is excluded. The root never is, but for a watch on a single file in it.
    pub fn excludes(&self, path: &RelPath, directory: bool) -> bool {
        self.why(path, directory).is_some()
    }

    /// What excludes `path`, if anything does.
    pub fn why(&self, path: &RelPath, directory: bool) -> Option<Excluded<'_>> {
        match &self.only {
            Some(only) => (only != path).then_some(Excluded::Only(only)),
            None => self.patterns.find(path, directory).map(Excluded::Pattern),
        }
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
