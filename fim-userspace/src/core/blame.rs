//! Where each line of a version comes from, by the versions before it.

use std::collections::HashMap;
use std::sync::Arc;

use super::entry::Digest;

/// Lines of an old version that gave way to lines of a new one; from 1, and where there are none, the line before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub old_line: usize,
    pub old_lines: usize,
    pub new_line: usize,
    pub new_lines: usize,
}

/// One change of a file's content; `None`: nothing was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub seq: u64,
    pub before: Option<Digest>,
    pub after: Option<Digest>,
    /// By line; `None` where they cannot be had.
    pub runs: Option<Arc<[Run]>>,
}

/// Who a line is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This record changed it.
    Event(u64),
    /// This record changed the file, and it is not known which lines.
    Perhaps(u64),
    /// No record tells of it: it was so in the version that fim began with.
    Beginning,
}

/// The origin of each of the `lines` lines of the version `target`. `history`: by record.
pub fn blame(target: Digest, lines: usize, history: &[Step]) -> Vec<Origin> {
    let mut origins = vec![None; lines];
    // Where the lines that are still to be told stand in the version that is looked at, from 1.
    let mut open: HashMap<usize, usize> = (1..=lines).map(|line| (line, line)).collect();
    let (mut version, mut rest) = (Some(target), history);
    while let Some(index) = origin_of(version, rest) {
        let step = &rest[index];
        let moved = |line: usize| match (&step.runs, step.before) {
            (_, None) => Err(Origin::Event(step.seq)),
            (None, _) => Err(Origin::Perhaps(step.seq)),
            (Some(runs), _) => before(runs, line).ok_or(Origin::Event(step.seq)),
        };
        open = open
            .into_iter()
            .filter_map(|(line, at)| match moved(at) {
                Ok(at) => Some((line, at)),
                Err(origin) => {
                    origins[line - 1] = Some(origin);
                    None
                }
            })
            .collect();
        if open.is_empty() {
            break;
        }
        (version, rest) = (step.before, &rest[..index]);
    }
    origins.into_iter().map(|origin| origin.unwrap_or(Origin::Beginning)).collect()
}

/// The step that made `version` last: what follows with the same outcome only told of it again.
fn origin_of(version: Option<Digest>, history: &[Step]) -> Option<usize> {
    version?;
    let last = history.iter().rposition(|step| step.after == version)?;
    let again = history[..last].iter().rev().take_while(|step| step.after == version).count();
    Some(last - again)
}

/// Where a line stood before, unless it is one of those that came.
fn before(runs: &[Run], line: usize) -> Option<usize> {
    let mut shifted = line;
    for run in runs {
        let first = if run.new_lines == 0 { run.new_line + 1 } else { run.new_line };
        if line < first {
            break;
        }
        if line < first + run.new_lines {
            return None;
        }
        shifted = (shifted + run.old_lines).saturating_sub(run.new_lines);
    }
    Some(shifted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(n: u8) -> Option<Digest> {
        Some(Digest([n; 32]))
    }

    fn step(seq: u64, before: u8, after: u8, runs: &[(usize, usize, usize, usize)]) -> Step {
        let run = |r: &(usize, usize, usize, usize)| Run {
            old_line: r.0,
            old_lines: r.1,
            new_line: r.2,
            new_lines: r.3,
        };
        Step {
            seq,
            before: version(before),
            after: version(after),
            runs: Some(runs.iter().map(run).collect()),
        }
    }

    #[test]
    fn each_line_is_followed_to_the_change_that_made_it() {
        use Origin::{Beginning as B, Event as E, Perhaps as P};
        // 1: a b c; 2: a b c d; 3: x a c d; 4: x a C D
        let history = [
            step(5, 1, 2, &[(3, 0, 4, 1)]),
            step(7, 2, 3, &[(0, 0, 1, 1), (2, 1, 2, 0)]),
            step(9, 3, 4, &[(3, 2, 3, 2)]),
        ];
        let told = |target: u8, lines, history: &[Step]| blame(Digest([target; 32]), lines, history);
        assert_eq!(told(1, 3, &history), [B, B, B]);
        assert_eq!(told(2, 4, &history), [B, B, B, E(5)]);
        assert_eq!(told(3, 4, &history), [E(7), B, B, E(5)]);
        assert_eq!(told(4, 4, &history), [E(7), B, E(9), E(9)]);
        assert_eq!(told(8, 2, &history), [B, B]);
        let mut dark = history.clone();
        dark[1].runs = None;
        assert_eq!(told(4, 4, &dark), [P(7), P(7), E(9), E(9)]);
        let mut made = history.clone();
        made[0] = Step { seq: 5, before: None, after: version(2), runs: None };
        assert_eq!(told(3, 4, &made), [E(7), E(5), E(5), E(5)]);
    }

    #[test]
    fn who_approved_it_later_did_not_change_it_and_who_wrote_it_again_did() {
        use Origin::{Beginning as B, Event as E};
        let change = step(5, 1, 2, &[(1, 1, 1, 1)]);
        let accepted = step(6, 1, 2, &[(1, 1, 1, 1)]);
        let back = step(8, 2, 1, &[(1, 1, 1, 1)]);
        let again = step(9, 1, 2, &[(1, 1, 1, 1)]);
        assert_eq!(blame(Digest([2; 32]), 2, &[change.clone(), accepted]), [E(5), B]);
        assert_eq!(blame(Digest([2; 32]), 2, &[change, back, again]), [E(9), B]);
    }
}
