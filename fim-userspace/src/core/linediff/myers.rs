//! Myers' O(ND) comparison in linear space, with a limit on the work: "An O(ND) Difference Algorithm and Its Variations",
//! 1986. Libraries either have no such limit or ask a clock, which says nothing about how far they come.

/// Elements that are only in one of the two sequences.
#[derive(Debug, PartialEq, Eq)]
pub struct Changed {
    pub removed: Vec<bool>,
    pub added: Vec<bool>,
}

/// The work would go beyond the limit.
#[derive(Debug, PartialEq, Eq)]
pub struct OutOfSteps;

/// Compares `old` and `new` in at most `steps` steps: a comparison of two elements is one, and so is a move to another
/// diagonal.
pub fn compare(old: &[u32], new: &[u32], steps: u64) -> Result<Changed, OutOfSteps> {
    let mut changed = Changed { removed: vec![false; old.len()], added: vec![false; new.len()] };
    let (old, removed) = only_shared(old, new, &mut changed.removed);
    let (new, added) = only_shared(new, &old, &mut changed.added);
    let mut search =
        Search { steps, forward: vec![NOWHERE; old.len() + new.len() + 5], backward: Vec::new() };
    search.backward = search.forward.clone();
    let mut marks = Vec::new();
    search.run((&old, 0), (&new, 0), &mut marks)?;
    for mark in marks {
        match mark {
            Mark::Removed(from, to) => removed[from..to].iter().for_each(|at| changed.removed[*at] = true),
            Mark::Added(from, to) => added[from..to].iter().for_each(|at| changed.added[*at] = true),
        }
    }
    Ok(changed)
}

/// The elements of `one` that occur in `other` too, and their places; the others are marked.
fn only_shared(one: &[u32], other: &[u32], marks: &mut [bool]) -> (Vec<u32>, Vec<usize>) {
    let most = other.iter().max().map_or(0, |most| *most as usize + 1);
    let mut there = vec![false; most];
    other.iter().for_each(|token| there[*token as usize] = true);
    let shared = |token: &u32| there.get(*token as usize).is_some_and(|there| *there);
    let mut places = Vec::new();
    for (at, token) in one.iter().enumerate() {
        if shared(token) { places.push(at) } else { marks[at] = true }
    }
    (places.iter().map(|at| one[*at]).collect(), places)
}

enum Mark {
    Removed(usize, usize),
    Added(usize, usize),
}

/// No path has come to this diagonal.
const NOWHERE: i32 = -1;

/// A part of a sequence, and where it begins.
type Part<'a> = (&'a [u32], usize);

struct Search {
    steps: u64,
    /// How far along the first sequence the furthest path on each diagonal has come, from the beginning and the end.
    forward: Vec<i32>,
    backward: Vec<i32>,
}

impl Search {
    fn spend(&mut self, steps: usize) -> Result<(), OutOfSteps> {
        self.steps = self.steps.checked_sub(steps as u64).ok_or(OutOfSteps)?;
        Ok(())
    }

    fn run(&mut self, mut a: Part<'_>, mut b: Part<'_>, marks: &mut Vec<Mark>) -> Result<(), OutOfSteps> {
        loop {
            let same = |(x, y): &(&u32, &u32)| x == y;
            let head = a.0.iter().zip(b.0).take_while(same).count();
            (a, b) = ((&a.0[head..], a.1 + head), (&b.0[head..], b.1 + head));
            let tail = a.0.iter().rev().zip(b.0.iter().rev()).take_while(same).count();
            (a.0, b.0) = (&a.0[..a.0.len() - tail], &b.0[..b.0.len() - tail]);
            self.spend(head + tail + 1)?;
            if a.0.is_empty() || b.0.is_empty() {
                marks.push(Mark::Removed(a.1, a.1 + a.0.len()));
                marks.push(Mark::Added(b.1, b.1 + b.0.len()));
                return Ok(());
            }
            let (x, y) = self.middle(a.0, b.0)?;
            // The first part needs half of the edits, so this goes no deeper than their logarithm.
            self.run((&a.0[..x], a.1), (&b.0[..y], b.1), marks)?;
            (a, b) = ((&a.0[x..], a.1 + x), (&b.0[y..], b.1 + y));
        }
    }

    /// A place that a shortest path comes through: neither the beginning nor the end, since both sequences hold something
    /// and differ at either end.
    fn middle(&mut self, a: &[u32], b: &[u32]) -> Result<(usize, usize), OutOfSteps> {
        let (n, m) = (a.len() as i32, b.len() as i32);
        let delta = n - m;
        let most = (n + m + 1) / 2;
        let at = |diagonal: i32| (diagonal + most + 1) as usize;
        let width = at(most + 1) + 1;
        self.forward[..width].fill(NOWHERE);
        self.backward[..width].fill(NOWHERE);
        for d in 0..=most {
            for back in [false, true] {
                // Diagonals beyond the corners hold nothing.
                let low = -d.min(m) + ((d - d.min(m)) & 1);
                let high = d.min(n) - ((d - d.min(n)) & 1);
                for k in (low..=high).rev().step_by(2) {
                    let (own, other) = match back {
                        false => (&mut self.forward, &self.backward),
                        true => (&mut self.backward, &self.forward),
                    };
                    let begin = step(own, at(k), (k, n, m), d);
                    let Some(x) = begin else {
                        own[at(k)] = NOWHERE;
                        self.spend(1)?;
                        continue;
                    };
                    let y = x - k;
                    let run = snake(a, b, (x, y), back);
                    own[at(k)] = x + run;
                    let facing = delta - k;
                    let within = if back { facing.abs() <= d } else { facing.abs() < d };
                    let met = (delta & 1 == 0) == back
                        && within
                        && other[at(facing)] != NOWHERE
                        && x + run + other[at(facing)] >= n;
                    self.spend(1 + run as usize)?;
                    if met {
                        let (x, y) = if back { (n - x, m - y) } else { (x, y) };
                        return Ok((x as usize, y as usize));
                    }
                }
            }
        }
        // Paths always meet; if they did not, all that is left would differ.
        Err(OutOfSteps)
    }
}

/// Where the furthest path with `d` edits begins on diagonal `k`, if it stays within the two sequences.
fn step(v: &[i32], at: usize, (k, n, m): (i32, i32, i32), d: i32) -> Option<i32> {
    if d == 0 {
        return Some(0);
    }
    let (down, right) = (v[at + 1], v[at - 1]);
    let fits = |x: &i32| *x <= n && (0..=m).contains(&(x - k));
    let down = Some(down).filter(|x| *x != NOWHERE && fits(x));
    let right = Some(right).filter(|x| *x != NOWHERE).map(|x| x + 1).filter(fits);
    down.max(right)
}

/// How many elements are the same from there on; with `back`, from the other end.
fn snake(a: &[u32], b: &[u32], (x, y): (i32, i32), back: bool) -> i32 {
    let (x, y) = (x as usize, y as usize);
    let same = |(x, y): &(&u32, &u32)| x == y;
    let count = match back {
        false => a[x..].iter().zip(&b[y..]).take_while(same).count(),
        true => a[..a.len() - x].iter().rev().zip(b[..b.len() - y].iter().rev()).take_while(same).count(),
    };
    count as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The length of the longest common subsequence, by the table.
    fn longest(a: &[u32], b: &[u32]) -> usize {
        let mut row = vec![0; b.len() + 1];
        for x in a {
            let mut corner = 0;
            for (j, y) in b.iter().enumerate() {
                let above = row[j + 1];
                row[j + 1] = if x == y { corner + 1 } else { above.max(row[j]) };
                corner = above;
            }
        }
        row[b.len()]
    }

    fn kept<'a>(all: &'a [u32], marks: &'a [bool]) -> Vec<u32> {
        all.iter().zip(marks).filter(|(_, marked)| !**marked).map(|(token, _)| *token).collect()
    }

    proptest! {
        #[test]
        fn what_is_left_is_common_and_as_long_as_can_be(
            a in proptest::collection::vec(0u32..5, 0..40),
            b in proptest::collection::vec(0u32..5, 0..40),
        ) {
            let changed = compare(&a, &b, u64::MAX).expect("within the limit");
            let common = kept(&a, &changed.removed);
            prop_assert_eq!(&common, &kept(&b, &changed.added));
            prop_assert_eq!(common.len(), longest(&a, &b));
        }
    }

    #[test]
    fn the_work_is_limited_whatever_comes() {
        // Two random orders of the same elements: about as bad as it gets.
        let mut state = 88_172_645_463_325_252u64;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let a: Vec<u32> = (0..20_000).map(|_| random(300) as u32).collect();
        let b: Vec<u32> = (0..20_000).map(|_| random(300) as u32).collect();
        assert_eq!(compare(&a, &b, 1_000_000), Err(OutOfSteps));
        let none: Vec<u32> = (20_000..40_000).collect();
        let changed = compare(&a, &none, 10).expect("no element in common needs no search");
        assert!(changed.removed.iter().chain(&changed.added).all(|marked| *marked));
        assert_eq!(compare(&a, &a, 20_001).map(|c| c.removed.contains(&true)), Ok(false));
    }
}
