//! What leaves the vault: by age first, then by size, the oldest first, and never what the present baseline needs.

use super::entry::Digest;

/// Who needs an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The present baseline: never removed.
    Baseline,
    /// Stored a moment ago, and its record may still be under way: not removed yet.
    InHand,
    /// Former versions, evidence, or nobody.
    Free,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub digest: Digest,
    /// Bytes that it takes.
    pub size: u64,
    /// When it was needed last, nanoseconds since the epoch: the newest of its evidence and former versions.
    pub time_ns: i64,
    pub hold: Hold,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What is older goes; nanoseconds since the epoch.
    pub before_ns: Option<i64>,
    /// What all objects together may take, in bytes.
    pub max_size: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// What goes, in this order.
    pub remove: Vec<Candidate>,
    /// How many of these went for their age; the others for the size of all.
    pub by_age: usize,
    /// Bytes that all objects take, before and after.
    pub before: u64,
    pub after: u64,
    /// Bytes that the present baseline needs.
    pub baseline: u64,
    /// Bytes above `max_size` that cannot go.
    pub over: u64,
}

/// Decides what goes. The order of `objects` does not matter.
pub fn decide(mut objects: Vec<Candidate>, rules: &Rules) -> Decision {
    let total = |hold: Hold| objects.iter().filter(|o| o.hold == hold).map(|o| o.size).sum::<u64>();
    let before = objects.iter().map(|o| o.size).sum();
    let mut decision = Decision { before, baseline: total(Hold::Baseline), ..Decision::default() };
    let mut left = before;
    objects.retain(|o| o.hold == Hold::Free);
    objects.sort_by_key(|o| (o.time_ns, o.digest));
    for object in objects {
        let old = rules.before_ns.is_some_and(|before| object.time_ns < before);
        let too_much = rules.max_size.is_some_and(|max| left > max);
        // Sorted by time: what follows is neither older nor is there more of it.
        if !old && !too_much {
            break;
        }
        left -= object.size;
        decision.by_age += usize::from(old);
        decision.remove.push(object);
    }
    decision.after = left;
    decision.over = rules.max_size.map_or(0, |max| left.saturating_sub(max));
    decision
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(n: u8, size: u64, time_ns: i64, hold: Hold) -> Candidate {
        Candidate { digest: Digest([n; 32]), size, time_ns, hold }
    }

    fn gone(decision: &Decision) -> Vec<u8> {
        decision.remove.iter().map(|o| o.digest.0[0]).collect()
    }

    #[test]
    fn age_comes_before_size_and_the_oldest_go_first() {
        let all = || {
            vec![
                object(1, 100, 50, Hold::Free),
                object(2, 1000, 1, Hold::Baseline),
                object(3, 10, 20, Hold::Free),
                object(4, 30, 40, Hold::Free),
                object(5, 7, 5, Hold::InHand),
            ]
        };
        type Case = (Option<i64>, Option<u64>, &'static [u8], usize, u64, u64);
        let cases: [Case; 8] = [
            (None, None, &[], 0, 1147, 0),
            (Some(20), None, &[], 0, 1147, 0),
            (Some(21), None, &[3], 1, 1137, 0),
            (Some(i64::MAX), None, &[3, 4, 1], 3, 1007, 0),
            (None, Some(1147), &[], 0, 1147, 0),
            (None, Some(1146), &[3], 0, 1137, 0),
            (Some(21), Some(1107), &[3, 4], 1, 1107, 0),
            (None, Some(0), &[3, 4, 1], 0, 1007, 1007),
        ];
        for (before_ns, max_size, expected, by_age, after, over) in cases {
            let decision = decide(all(), &Rules { before_ns, max_size });
            assert_eq!(gone(&decision), expected, "{before_ns:?} {max_size:?}");
            assert_eq!((decision.by_age, decision.after, decision.over), (by_age, after, over));
            assert_eq!((decision.before, decision.baseline), (1147, 1000));
        }
    }
}
