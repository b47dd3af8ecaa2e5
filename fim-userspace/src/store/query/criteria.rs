//! What is asked for.

use globset::{GlobBuilder, GlobMatcher};
use memchr::memmem::Finder;

use crate::core::event::{Event, EventKind};
use crate::core::policy::Severity;
use crate::store::columns::{Facets, Who};

/// All that are given must be met.
#[derive(Clone, Debug, Default)]
pub struct Criteria {
    /// Microseconds since the epoch, inclusive.
    pub since_us: Option<i64>,
    pub until_us: Option<i64>,
    /// One of them; the path, or where it was before.
    pub paths: Vec<Pattern>,
    /// One of them.
    pub kinds: Vec<EventKind>,
    /// One of them, as uid, euid or login uid of anybody who may have written.
    pub users: Vec<u32>,
    /// One of them, of anybody who may have written.
    pub exes: Vec<Pattern>,
    pub unauthorised: bool,
    pub min_severity: Option<Severity>,
}

/// A path and everything below it, or a glob: `*` and `?` stop at slashes, `**` does not.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// What every match begins with.
    prefix: String,
    glob: Option<Glob>,
}

#[derive(Clone, Debug)]
struct Glob {
    /// The longest text that every match holds: looked for first, since it is much quicker.
    holds: Finder<'static>,
    matcher: GlobMatcher,
}

#[derive(Debug, thiserror::Error)]
#[error("{pattern:?} is no pattern: {why}; write for example \"/etc/ssh/*\" or \"/etc/**/*.conf\"")]
pub struct PatternError {
    pattern: String,
    why: String,
}

impl Pattern {
    /// `text` is compared with escaped paths, as records show them.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let Some(literal) = text.find(['*', '?', '[', '{']) else {
            let prefix = text.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(text);
            return Ok(Self { prefix: prefix.into(), glob: None });
        };
        let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(false).build();
        let glob = glob.map_err(|e| PatternError { pattern: text.into(), why: e.kind().to_string() })?;
        let glob =
            Glob { holds: Finder::new(longest_part(text)).into_owned(), matcher: glob.compile_matcher() };
        Ok(Self { prefix: text[..literal].into(), glob: Some(glob) })
    }

    pub fn matches(&self, path: &str) -> bool {
        match &self.glob {
            Some(glob) => glob.holds.find(path.as_bytes()).is_some() && glob.matcher.is_match(path),
            None => path
                .strip_prefix(&self.prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.prefix.ends_with('/')),
        }
    }

    /// Matches lie from the first text on and before the second, in the order of bytes.
    pub(super) fn bounds(&self) -> (String, String) {
        (self.prefix.clone(), format!("{}\u{10ffff}", self.prefix))
    }
}

/// The longest text that stands in every match of the glob as it stands in the glob; slashes are left out, since `**/`
/// matches also nothing, and so is what stands in brackets and braces.
fn longest_part(glob: &str) -> &str {
    let open = glob.find(['[', '{']).unwrap_or(glob.len());
    let close = glob.rfind([']', '}']).map_or(glob.len(), |at| at + 1);
    let parts = [&glob[..open], glob.get(close..).filter(|_| close > open).unwrap_or_default()];
    let parts = parts.into_iter().flat_map(|part| part.split(['*', '?', '/', ',']));
    parts.max_by_key(|part| part.len()).unwrap_or_default()
}

impl Criteria {
    pub fn is_empty(&self) -> bool {
        !self.by_time() && !self.by_class() && !self.by_actor() && self.paths.is_empty()
    }

    /// Whether `event` meets all of them.
    pub fn met_by(&self, event: &Event) -> bool {
        let facets = Facets::from(event);
        let [kind, severity, verdict, ..] = facets.class();
        (!self.by_time() || self.in_time(facets.time_us()))
            && (!self.by_class() || self.has_class(kind, severity, verdict))
            && (!self.by_actor() || self.has_actor(facets.actor.iter().chain(&facets.other_actors).cloned()))
            && (self.paths.is_empty() || self.has_path(facets.path.as_deref(), facets.old_path.as_deref()))
    }

    pub(super) fn by_time(&self) -> bool {
        self.since_us.is_some() || self.until_us.is_some()
    }

    pub(super) fn time_bounds(&self) -> (i64, i64) {
        (self.since_us.unwrap_or(i64::MIN), self.until_us.unwrap_or(i64::MAX))
    }

    pub(super) fn in_time(&self, time_us: i64) -> bool {
        let (since, until) = self.time_bounds();
        (since..=until).contains(&time_us)
    }

    pub(super) fn by_class(&self) -> bool {
        !self.kinds.is_empty() || self.unauthorised || self.min_severity.is_some()
    }

    pub(super) fn has_class(&self, kind: &str, severity: &str, verdict: &str) -> bool {
        let severe = |least: Severity| SEVERITIES.iter().any(|s| *s >= least && s.as_str() == severity);
        (self.kinds.is_empty() || self.kinds.iter().any(|k| k.as_str() == kind))
            && (!self.unauthorised || verdict == "unauthorised")
            && self.min_severity.is_none_or(severe)
    }

    pub(super) fn by_actor(&self) -> bool {
        !self.users.is_empty() || !self.exes.is_empty()
    }

    /// User and program must be one and the same actor's.
    pub(super) fn has_actor<'a>(&self, mut who: impl Iterator<Item = Who<'a>>) -> bool {
        let exe = |who: &Who<'a>| who.exe().is_some_and(|exe| self.exes.iter().any(|p| p.matches(exe)));
        who.any(|who| {
            (self.users.is_empty() || self.users.iter().any(|uid| who.is_user(*uid)))
                && (self.exes.is_empty() || exe(&who))
        })
    }

    pub(super) fn has_path(&self, path: Option<&str>, old_path: Option<&str>) -> bool {
        [path, old_path].into_iter().flatten().any(|path| self.paths.iter().any(|p| p.matches(path)))
    }
}

const SEVERITIES: [Severity; 4] = [Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
