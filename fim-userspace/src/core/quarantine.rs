//! What was taken out of its place: why, what became of it, and which of it belongs together.

use super::path::RelPath;
use super::plan::Step;

/// Why something became evidence. The words stand in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It stood in the place of something approved.
    Altered,
    /// Nothing should have been there.
    Removed,
    /// Only its attributes were put back; the file itself is where it was.
    Attributes,
    /// It was only renamed, and has its name back.
    Renamed,
    /// A response that died left it under a private name.
    Interrupted,
    /// A person put another version in its place.
    Replaced,
    /// It was told of and left where it was; this is a copy.
    Recorded,
}

impl Reason {
    pub const ALL: [Self; 7] = [
        Self::Altered,
        Self::Removed,
        Self::Attributes,
        Self::Renamed,
        Self::Interrupted,
        Self::Replaced,
        Self::Recorded,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Altered => "altered",
            Self::Removed => "removed",
            Self::Attributes => "attributes",
            Self::Renamed => "renamed",
            Self::Interrupted => "interrupted",
            Self::Replaced => "replaced",
            Self::Recorded => "recorded",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }

    /// Why what this step takes out of its place is evidence. `content`: it holds content of its own.
    pub fn of(step: &Step, content: bool) -> Self {
        match step {
            Step::Reattribute { .. } if !content => Self::Attributes,
            Step::Replace { .. } | Step::Reattribute { .. } => Self::Altered,
            Step::MoveBack { .. } => Self::Renamed,
            Step::Quarantine { .. } | Step::Delete { .. } => Self::Removed,
        }
    }

    /// Whether the thing itself was taken away, rather than told of and left.
    pub fn is_away(self) -> bool {
        !matches!(self, Self::Attributes | Self::Renamed | Self::Recorded)
    }
}

/// What became of evidence; while it is kept, nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A person put it back.
    Released,
    /// A person had its content removed.
    Purged,
    /// A limit had its content removed.
    Evicted,
}

impl Fate {
    pub const ALL: [Self; 3] = [Self::Released, Self::Purged, Self::Evicted];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Purged => "purged",
            Self::Evicted => "evicted",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fate| fate.as_str() == text)
    }
}

/// What grouping needs to know of one piece of evidence.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    pub watch: &'a std::path::Path,
    pub path: &'a RelPath,
    pub directory: bool,
    /// Seconds since the epoch, when it was taken away.
    pub time: i64,
}

/// Seconds within which a folder and what was in it are taken away.
const TOGETHER: i64 = 60;

/// Puts whole trees together: indexes of `pieces`, the top of each tree first, in the order of the tops. What was in a
/// folder belongs to the one that was taken away closest to it in time.
pub fn group(pieces: &[Piece<'_>]) -> Vec<Vec<usize>> {
    let mut by_path: std::collections::HashMap<(&std::path::Path, RelPath), Vec<usize>> = Default::default();
    let folders = (0..pieces.len()).filter(|i| pieces[*i].directory);
    folders.for_each(|i| by_path.entry((pieces[i].watch, pieces[i].path.clone())).or_default().push(i));
    by_path.values_mut().for_each(|known| known.sort_by_key(|f| (pieces[*f].time, *f)));
    let above = |i: usize| {
        let piece = pieces[i];
        let mut at = piece.path.parent();
        while let Some(path) = at {
            let known = by_path.get(&(piece.watch, path.clone()));
            let near = known.and_then(|known| closest(pieces, known, piece.time));
            match near.filter(|f| pieces[*f].time.abs_diff(piece.time) <= TOGETHER as u64) {
                Some(folder) => return Some(folder),
                None => at = path.parent(),
            }
        }
        None
    };
    let mut groups: std::collections::BTreeMap<usize, Vec<usize>> = Default::default();
    for i in 0..pieces.len() {
        // Each step leads to a shorter path, so this ends.
        let top = std::iter::successors(Some(i), |at| above(*at)).last().unwrap_or(i);
        groups.entry(top).or_default().push(i);
    }
    let tree = |(top, mut members): (usize, Vec<usize>)| {
        members.sort_by_key(|i| (*i != top, pieces[*i].path.clone(), *i));
        members
    };
    groups.into_iter().map(tree).collect()
}

/// The one of `known`, which are ordered by time, that is closest to `time`; the first of several.
fn closest(pieces: &[Piece<'_>], known: &[usize], time: i64) -> Option<usize> {
    let first_from = |time| known.partition_point(|f| pieces[*f].time < time);
    let after = first_from(time);
    let before = known[..after].last().map(|f| first_from(pieces[*f].time));
    let candidates = [before, Some(after)].into_iter().flatten().filter_map(|at| known.get(at).copied());
    candidates.min_by_key(|f| (pieces[*f].time.abs_diff(time), *f))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn words_read_back() {
        assert!(Reason::ALL.into_iter().all(|r| Reason::parse(r.as_str()) == Some(r)));
        assert!(Fate::ALL.into_iter().all(|f| Fate::parse(f.as_str()) == Some(f)));
        assert_eq!((Reason::parse("x"), Fate::parse("")), (None, None));
    }

    #[test]
    fn a_tree_is_one_group_and_its_next_incarnation_another() {
        let rows = [
            ("d/f", false, 100),
            ("d", true, 101),
            ("d/s", true, 101),
            ("d/s/g", false, 101),
            ("other", false, 101),
            ("d", true, 500),
            ("d/f", false, 501),
            ("d/late", false, 900),
            ("dx", false, 101),
        ];
        let paths: Vec<RelPath> = rows.iter().map(|r| RelPath::new(r.0).expect("sound")).collect();
        let piece = |(row, path): (&(&str, bool, i64), _)| Piece {
            watch: Path::new("/w"),
            path,
            directory: row.1,
            time: row.2,
        };
        let pieces: Vec<Piece<'_>> = rows.iter().zip(&paths).map(|(r, p)| piece((r, p))).collect();
        assert_eq!(group(&pieces), vec![vec![1, 0, 2, 3], vec![4], vec![5, 6], vec![7], vec![8]]);
        let mut elsewhere = pieces.clone();
        elsewhere[0].watch = Path::new("/v");
        assert_eq!(group(&elsewhere)[0], [0]);
    }

    #[test]
    fn a_folder_that_was_made_again_and_again_is_grouped_at_once() {
        // Each file has two folders that are as close.
        const TIMES: i64 = 100_000;
        let (folder, file) = (RelPath::new("d").expect("sound"), RelPath::new("d/f").expect("sound"));
        let watch = Path::new("/w");
        let piece = |path, directory, time| Piece { watch, path, directory, time };
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        for n in 0..TIMES {
            pieces.extend([piece(&folder, true, 2 * n), piece(&file, false, 2 * n + 1)]);
        }
        let groups = group(&pieces);
        assert_eq!(groups.len() as i64, TIMES);
        assert!(
            (0..).zip(&groups).all(|(n, group)| *group == [2 * n, 2 * n + 1]),
            "the first of two that are as close"
        );
    }

    #[test]
    fn what_is_closest_in_time_is_what_a_look_at_each_would_find() {
        let path = RelPath::new("d").expect("sound");
        // Every step a multiple of 7 modulo 64: repeated times, in no order.
        let times: Vec<i64> = (0..200).map(|n| n * 49 % 64 + n % 3).collect();
        let piece = |time: &i64| Piece { watch: Path::new("/w"), path: &path, directory: true, time: *time };
        let pieces: Vec<Piece<'_>> = times.iter().map(piece).collect();
        let mut known: Vec<usize> = (0..pieces.len()).collect();
        known.sort_by_key(|f| (pieces[*f].time, *f));
        for time in -5..80 {
            let expected = (0..pieces.len()).min_by_key(|f| times[*f].abs_diff(time));
            assert_eq!(closest(&pieces, &known, time), expected, "{time}");
        }
        assert_eq!(closest(&pieces, &[], 5), None);
    }
}
