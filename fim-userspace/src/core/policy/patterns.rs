//! gitignore(5) patterns over the paths of one watch.

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder, Glob};

use crate::core::path::RelPath;

/// Patterns relative to the watch root, the last one that matches decides.
#[derive(Clone, Debug)]
pub struct Patterns(Gitignore);

/// A pattern that gitignore syntax does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern {pattern:?} is not valid gitignore syntax ({reason}); correct it or remove it")]
pub struct BadPattern {
    pub pattern: String,
    pub reason: String,
}

impl Patterns {
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, BadPattern> {
        // The matcher needs a root of its own; paths are given to it relative, so any will do.
        let mut builder = GitignoreBuilder::new("/");
        for pattern in patterns {
            let bad =
                |e: ignore::Error| BadPattern { pattern: pattern.as_ref().into(), reason: e.to_string() };
            builder.add_line(None, pattern.as_ref()).map_err(bad)?;
        }
        let bad = |e: ignore::Error| BadPattern { pattern: String::new(), reason: e.to_string() };
        Ok(Self(builder.build().map_err(bad)?))
    }

    pub fn none() -> Self {
        Self(Gitignore::empty())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a pattern that can match at all: neither a comment nor one that begins with `!`.
    pub fn can_match(&self) -> bool {
        self.0.num_ignores() > 0
    }

    /// The pattern as it was written, when `path` or the nearest folder above it that matches anything matches one
    /// without `!`. The root matches nothing.
    pub fn find(&self, path: &RelPath, directory: bool) -> Option<&str> {
        self.levels(path, directory)
            .find_map(|(at, folder)| match self.0.matched(at, folder) {
                Match::None => None,
                Match::Ignore(glob) => Some(Some(glob)),
                Match::Whitelist(_) => Some(None),
            })?
            .map(Glob::original)
    }

    pub fn matches(&self, path: &RelPath, directory: bool) -> bool {
        self.find(path, directory).is_some()
    }

    /// `path` and the folders above it, without the root, nearest first.
    fn levels<'p>(
        &self,
        path: &'p RelPath,
        directory: bool,
    ) -> impl Iterator<Item = (&'p std::path::Path, bool)> + use<'p> {
        let there = !self.0.is_empty();
        let levels = path.as_path().ancestors().take_while(move |at| there && !at.as_os_str().is_empty());
        levels.enumerate().map(move |(above, at)| (at, directory || above > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_level_decides_and_the_root_matches_nothing() {
        let patterns = Patterns::new(&["*/", "!/keep/", "/keep/*.tmp", "# a comment"]).expect("valid");
        let cases = [
            ("", true, None),
            ("file", false, None),
            ("dir", true, Some("*/")),
            ("dir/file", false, Some("*/")),
            ("keep", true, None),
            ("keep/a", false, None),
            ("keep/a.tmp", false, Some("/keep/*.tmp")),
            ("keep/sub/a", false, Some("*/")),
        ];
        for (path, directory, expected) in cases {
            let path = RelPath::new(path).expect("sound");
            assert_eq!(patterns.find(&path, directory), expected, "{path}");
        }
    }

    #[test]
    fn what_can_never_match_is_known() {
        let can = |lines: &[&str]| Patterns::new(lines).expect("valid").can_match();
        assert!(can(&["a"]) && can(&["!a", "b"]) && can(&["\\#a"]));
        assert!(!can(&[]) && !can(&[""]) && !can(&["# a"]) && !can(&["!a"]));
    }
}
