//! Repeated attacks on one path: told once as such, then recorded without being told until the path is left alone.
//!
//! Nothing here touches a response: what is changed a thousand times is put right a thousand times.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;

use super::change::ChangeKind;
use super::event::Response;

/// Paths whose changes are counted; the one that was changed longest ago is forgotten first.
const COUNTED: usize = 8192;
/// Paths that are muted at a time; the one that was changed longest ago is closed first.
const MUTED: usize = 1024;
/// Different authors that are remembered by name for one path.
const AUTHORS: usize = 5;

/// From which repetition on a path is muted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// 0: never.
    pub count: u32,
    pub window_ns: u64,
}

/// One change, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub kind: ChangeKind,
    pub response: Response,
    /// Program (escaped) and user of whom it is attributed to.
    pub author: Author,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Author {
    pub exe: Option<String>,
    pub uid: Option<u32>,
}

/// What happened to one path so often that it is told once and for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escalation {
    pub count: u32,
    /// When the first of these changes was, on the clock that the changes were given with.
    pub since_ns: u64,
    pub window_ns: u64,
    /// Who, and how often, most often first.
    pub authors: Vec<(Author, u32)>,
    /// Changes by authors beyond those.
    pub other_authors: u32,
    /// What was changed and what was done about it, and how often.
    pub outcomes: Vec<(ChangeKind, Response, u32)>,
}

/// The end of a muted time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing<K> {
    pub key: K,
    pub muted: u64,
    pub since_ns: u64,
    pub last_ns: u64,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The path was left alone for its window.
    Quiet,
    /// Too many other paths are muted.
    Room,
    /// fim ends.
    End,
}

/// What becomes of the record of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Told,
    /// Told, and followed by a record about the repetition; what comes after is muted.
    Escalated(Escalation),
    Muted,
}

struct Counted {
    touched: u64,
    /// When each change was, and what it was, oldest first; never more than the limit.
    changes: VecDeque<(u64, Change)>,
}

struct Muted {
    touched: u64,
    since_ns: u64,
    last_ns: u64,
    window_ns: u64,
    muted: u64,
}

/// Counts changes by path.
pub struct Repetition<K> {
    counted: HashMap<K, Counted>,
    muted: HashMap<K, Muted>,
    /// By when they were last touched, oldest first.
    counted_order: BTreeMap<u64, K>,
    muted_order: BTreeMap<u64, K>,
    touch: u64,
    /// Mutings that ended for want of room and have not been told yet.
    pushed_out: Vec<Closing<K>>,
    /// No muting ends before this; `u64::MAX` when none is open.
    next_end: u64,
}

impl<K: Clone + Eq + Hash> Default for Repetition<K> {
    fn default() -> Self {
        Self {
            counted: HashMap::new(),
            muted: HashMap::new(),
            counted_order: BTreeMap::new(),
            muted_order: BTreeMap::new(),
            touch: 0,
            pushed_out: Vec::new(),
            next_end: u64::MAX,
        }
    }
}

impl<K: Clone + Eq + Hash> Repetition<K> {
    /// Takes one unauthorised change of `key` into account.
    pub fn note(&mut self, key: &K, limit: Limit, change: Change, now_ns: u64) -> Verdict {
        if limit.count == 0 {
            return Verdict::Told;
        }
        self.touch += 1;
        let touch = self.touch;
        if let Some(muted) = self.muted.get_mut(key) {
            self.muted_order.remove(&muted.touched);
            self.muted_order.insert(touch, key.clone());
            (muted.touched, muted.last_ns) = (touch, now_ns);
            muted.muted += 1;
            return Verdict::Muted;
        }
        let counted = self
            .counted
            .entry(key.clone())
            .or_insert_with(|| Counted { touched: touch, changes: VecDeque::new() });
        self.counted_order.remove(&counted.touched);
        counted.touched = touch;
        let begin = now_ns.saturating_sub(limit.window_ns);
        while counted.changes.front().is_some_and(|(at, _)| *at < begin) {
            counted.changes.pop_front();
        }
        counted.changes.push_back((now_ns, change));
        if counted.changes.len() < limit.count as usize {
            self.counted_order.insert(touch, key.clone());
            self.forget_the_oldest();
            return Verdict::Told;
        }
        let changes = std::mem::take(&mut counted.changes);
        self.counted.remove(key);
        self.mute(key, limit, now_ns);
        Verdict::Escalated(escalation(&changes, limit))
    }

    /// Whether records about `key` are muted now; what is no change of its own is asked for with this.
    pub fn mutes(&self, key: &K) -> bool {
        self.muted.contains_key(key)
    }

    /// When [`Repetition::ended`] may have something to tell.
    pub fn next_end(&self) -> Option<u64> {
        if self.pushed_out.is_empty() {
            (self.next_end != u64::MAX).then_some(self.next_end)
        } else {
            Some(0)
        }
    }

    /// The mutings that have ended by now.
    pub fn ended(&mut self, now_ns: u64) -> Vec<Closing<K>> {
        let mut ended = std::mem::take(&mut self.pushed_out);
        if now_ns < self.next_end {
            return ended;
        }
        let over = |m: &Muted| m.last_ns.saturating_add(m.window_ns) <= now_ns;
        let quiet: Vec<K> = self.muted.iter().filter(|(_, m)| over(m)).map(|(key, _)| key.clone()).collect();
        ended.extend(quiet.into_iter().filter_map(|key| self.close(key, Why::Quiet)));
        let ends = self.muted.values().map(|m| m.last_ns.saturating_add(m.window_ns));
        self.next_end = ends.min().unwrap_or(u64::MAX);
        ended
    }

    /// Ends every muting.
    pub fn end(&mut self) -> Vec<Closing<K>> {
        let mut ended = std::mem::take(&mut self.pushed_out);
        let open: Vec<K> = self.muted.keys().cloned().collect();
        ended.extend(open.into_iter().filter_map(|key| self.close(key, Why::End)));
        ended
    }

    fn mute(&mut self, key: &K, limit: Limit, now_ns: u64) {
        let (touched, window_ns) = (self.touch, limit.window_ns);
        self.muted_order.insert(touched, key.clone());
        let muted = Muted { touched, since_ns: now_ns, last_ns: now_ns, window_ns, muted: 0 };
        self.muted.insert(key.clone(), muted);
        self.next_end = self.next_end.min(now_ns.saturating_add(window_ns));
        if self.muted.len() > MUTED
            && let Some((_, oldest)) = self.muted_order.pop_first()
        {
            let closing = self.close(oldest, Why::Room);
            self.pushed_out.extend(closing);
        }
    }

    fn close(&mut self, key: K, why: Why) -> Option<Closing<K>> {
        let muted = self.muted.remove(&key)?;
        self.muted_order.remove(&muted.touched);
        let Muted { since_ns, last_ns, muted, .. } = muted;
        Some(Closing { key, muted, since_ns, last_ns, why })
    }

    fn forget_the_oldest(&mut self) {
        if self.counted.len() > COUNTED
            && let Some((_, oldest)) = self.counted_order.pop_first()
        {
            self.counted.remove(&oldest);
        }
    }
}

fn escalation(changes: &VecDeque<(u64, Change)>, limit: Limit) -> Escalation {
    let mut authors: Vec<(Author, u32)> = Vec::new();
    let mut outcomes: Vec<(ChangeKind, Response, u32)> = Vec::new();
    for (_, change) in changes {
        match authors.iter_mut().find(|(author, _)| *author == change.author) {
            Some((_, count)) => *count += 1,
            None => authors.push((change.author.clone(), 1)),
        }
        match outcomes.iter_mut().find(|(kind, done, _)| (*kind, *done) == (change.kind, change.response)) {
            Some((.., count)) => *count += 1,
            None => outcomes.push((change.kind, change.response, 1)),
        }
    }
    authors.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    outcomes.sort_by_key(|(.., count)| std::cmp::Reverse(*count));
    let rest = authors.split_off(authors.len().min(AUTHORS));
    Escalation {
        count: changes.len() as u32,
        since_ns: changes.front().map_or(0, |(at, _)| *at),
        window_ns: limit.window_ns,
        authors,
        other_authors: rest.into_iter().map(|(_, count)| count).sum(),
        outcomes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { count: 3, window_ns: 100 };

    fn by(exe: &str, uid: u32, response: Response) -> Change {
        let author = Author { exe: Some(exe.into()), uid: Some(uid) };
        Change { kind: ChangeKind::Modified, response, author }
    }

    fn change() -> Change {
        by("/bin/sh", 1, Response::Restored)
    }

    /// `.` told, `!` escalated, `m` muted; `c` a closing that came before.
    fn play(limit: Limit, times: &[(&'static str, u64)]) -> String {
        let mut repetition = Repetition::default();
        let mut out = String::new();
        for (key, at) in times {
            out.extend(repetition.ended(*at).iter().map(|_| 'c'));
            out.push(match repetition.note(key, limit, change(), *at) {
                Verdict::Told => '.',
                Verdict::Escalated(_) => '!',
                Verdict::Muted => 'm',
            });
        }
        out
    }

    #[test]
    fn what_is_told_and_what_is_muted() {
        type Case = (&'static str, Limit, &'static [(&'static str, u64)], &'static str);
        let cases: [Case; 7] = [
            ("below the limit", LIMIT, &[("a", 1), ("a", 2)], ".."),
            ("at the limit", LIMIT, &[("a", 1), ("a", 2), ("a", 3), ("a", 4), ("a", 99)], "..!mm"),
            ("too slow", LIMIT, &[("a", 1), ("a", 51), ("a", 102), ("a", 160)], "...."),
            ("another path", LIMIT, &[("a", 1), ("b", 2), ("a", 3), ("b", 4), ("a", 5), ("b", 6)], "....!!"),
            (
                "each change puts the end off",
                LIMIT,
                &[("a", 1), ("a", 2), ("a", 3), ("a", 90), ("a", 180), ("a", 280), ("a", 281), ("a", 282)],
                "..!mmc..!",
            ),
            ("of one", Limit { count: 1, ..LIMIT }, &[("a", 1), ("a", 2), ("a", 102)], "!mc!"),
            ("turned off", Limit { count: 0, ..LIMIT }, &[("a", 1), ("a", 1), ("a", 1), ("a", 1)], "...."),
        ];
        for (name, limit, times, expected) in cases {
            assert_eq!(play(limit, times), expected, "{name}");
        }
    }

    #[test]
    fn an_escalation_says_who_did_what_since_when() {
        let mut repetition = Repetition::default();
        let limit = Limit { count: 9, window_ns: 100 };
        repetition.note(&"a", limit, change(), 1);
        let mut last = Verdict::Told;
        for n in 0..8 {
            let name = format!("/bin/{}", n.min(6));
            let failed = by(&name, 7, if n == 3 { Response::Failed } else { Response::Restored });
            last = repetition.note(&"a", limit, failed, 10 + n);
        }
        let Verdict::Escalated(told) = last else { panic!("{last:?}") };
        assert_eq!((told.count, told.since_ns, told.window_ns), (9, 1, 100));
        assert_eq!(told.authors[0], (Author { exe: Some("/bin/6".into()), uid: Some(7) }, 2));
        assert_eq!((told.authors.len(), told.other_authors), (5, 3));
        let outcomes =
            [(ChangeKind::Modified, Response::Restored, 8), (ChangeKind::Modified, Response::Failed, 1)];
        assert_eq!(told.outcomes, outcomes);
    }

    #[test]
    fn a_closing_says_how_many_were_muted() {
        let mut repetition = Repetition::default();
        let once = Limit { count: 1, window_ns: 100 };
        assert_eq!(repetition.next_end(), None);
        for at in [1, 5, 9] {
            repetition.note(&"a", once, change(), at);
        }
        repetition.note(&"b", once, change(), 50);
        assert!(repetition.mutes(&"a") && !repetition.mutes(&"c"));
        assert_eq!(repetition.ended(100), []);
        let closing = |key, muted, since_ns, last_ns, why| Closing { key, muted, since_ns, last_ns, why };
        assert_eq!(repetition.ended(109), [closing("a", 2, 1, 9, Why::Quiet)]);
        assert!(!repetition.mutes(&"a"));
        assert_eq!(repetition.next_end(), Some(150));
        assert_eq!(repetition.end(), [closing("b", 0, 50, 50, Why::End)]);
    }

    #[test]
    fn a_million_paths_do_not_make_it_grow_and_no_muting_is_lost() {
        let mut repetition = Repetition::default();
        for n in 0..1_000_000u64 {
            assert_eq!(repetition.note(&n, LIMIT, change(), 1), Verdict::Told);
        }
        assert_eq!((repetition.counted.len(), repetition.counted_order.len()), (COUNTED, COUNTED));
        let once = Limit { count: 1, window_ns: 100 };
        for n in 0..2_000u64 {
            repetition.note(&n, once, change(), 2);
        }
        assert_eq!((repetition.muted.len(), repetition.muted_order.len()), (MUTED, MUTED));
        assert_eq!(repetition.next_end(), Some(0), "what was pushed out is told at once");
        let ended = repetition.ended(3);
        assert!(ended.iter().all(|c| c.why == Why::Room), "{ended:?}");
        assert_eq!(ended.len() + repetition.end().len(), 2_000);
    }
}
