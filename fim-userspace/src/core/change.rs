//! A change: the baseline's entry against what is there.

use serde::{Deserialize, Serialize};

use super::entry::{Aspect, AspectSet, Entry, Found};
use super::path::RelPath;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Created,
    Modified,
    Deleted,
    Renamed,
    Attributes,
    Type,
}

impl ChangeKind {
    pub const ALL: [Self; 6] =
        [Self::Created, Self::Modified, Self::Deleted, Self::Renamed, Self::Attributes, Self::Type];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Renamed => "renamed",
            Self::Attributes => "attributes",
            Self::Type => "type",
        }
    }
}

/// Kinds of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindSet(u8);

impl KindSet {
    pub fn all() -> Self {
        ChangeKind::ALL.into_iter().collect()
    }

    pub fn contains(self, kind: ChangeKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    pub fn list(self) -> impl Iterator<Item = ChangeKind> {
        ChangeKind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl FromIterator<ChangeKind> for KindSet {
    fn from_iter<I: IntoIterator<Item = ChangeKind>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |set, kind| set | 1 << kind as u8))
    }
}

/// One path that is not what the baseline says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub kind: ChangeKind,
    pub path: RelPath,
    /// The approved name; renames only.
    pub old_path: Option<RelPath>,
    /// Approved state; `None` when nothing was approved under this name.
    pub before: Option<Entry>,
    /// Present state; `None` when nothing is there.
    pub after: Option<Found>,
    pub aspects: Vec<Aspect>,
}

/// What the two states of one path amount to; `None` when nothing differs.
pub fn compare(path: &RelPath, before: Option<&Entry>, after: Option<&Found>) -> Option<Change> {
    compare_but(path, before, after, AspectSet::default())
}

/// As [`compare`], where a difference in what is `ignored` is none.
pub fn compare_but(
    path: &RelPath,
    before: Option<&Entry>,
    after: Option<&Found>,
    ignored: AspectSet,
) -> Option<Change> {
    let (kind, aspects) = match (before, after) {
        (None, None) => return None,
        (None, Some(_)) => (ChangeKind::Created, Vec::new()),
        (Some(_), None) => (ChangeKind::Deleted, Vec::new()),
        (Some(b), Some(a)) => {
            let aspects = b.differences_but(&a.entry, ignored);
            let kind = match aspects.first()? {
                Aspect::Type => ChangeKind::Type,
                Aspect::Content | Aspect::Target | Aspect::Device => ChangeKind::Modified,
                _ => ChangeKind::Attributes,
            };
            (kind, aspects)
        }
    };
    Some(Change {
        kind,
        path: path.clone(),
        old_path: None,
        before: before.cloned(),
        after: after.cloned(),
        aspects,
    })
}

/// Something was mounted at a path since its state was approved: another object has its name, and the one it hides is
/// unchanged as far as anybody can tell.
pub fn mounted_over(path: &RelPath, before: Option<&Entry>, after: &Found) -> Change {
    Change {
        kind: if before.is_some() { ChangeKind::Type } else { ChangeKind::Created },
        path: path.clone(),
        old_path: None,
        before: before.cloned(),
        after: Some(after.clone()),
        aspects: before.map(|_| Aspect::Flags).into_iter().collect(),
    }
}
