//! Rules of an aide.conf become watches: which folder is watched, what in it is left out, what is compared where.
//!
//! AIDE asks the rule in the deepest folder first, in each folder the first in the file, and `!` wins over all. fim asks the last
//! rule of a watch first. So rules are written from the least deep on, those of one folder backwards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use globset::Glob as Matcher;

use super::globs::{Glob, Globs};
use super::groups::Policy;
use super::line::{Line, Outcome};
use super::source::Kind;

/// What stands at a path on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    Nothing,
    Folder,
    Link,
    Other,
}

/// A rule with all that was found out about it.
pub struct Rule {
    pub line: usize,
    pub kind: Kind,
    pub globs: Globs,
    pub types: Types,
    /// Of a rule that selects.
    pub policy: Option<Policy>,
}

/// Which types of file a rule is for, as far as patterns can tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Types {
    All,
    Folders,
    /// Some or all that are no folders.
    Others,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Watch {
    pub path: String,
    pub line: usize,
    pub policy: Policy,
    pub exclude: Vec<(String, usize)>,
    pub rules: Vec<WatchRule>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct WatchRule {
    pub policy: Policy,
    pub paths: Vec<(String, usize)>,
}

/// One rule's part in one place.
struct Choice<'a> {
    rule: &'a Rule,
    order: usize,
    glob: &'a Glob,
}

impl Choice<'_> {
    /// Whether all below is selected too.
    fn open(&self) -> bool {
        self.glob.open && self.rule.kind == Kind::Select
    }

    /// The path of a watch with all below it. What is not there may be the beginning of a name.
    fn tree(&self, host: &dyn Fn(&Path) -> Host) -> Option<String> {
        let path = trimmed(self.glob.path.as_deref().filter(|_| self.open())?);
        (!self.glob.begins || host(Path::new(&path)) != Host::Nothing).then_some(path)
    }

    /// The folder that holds whatever it can match; `None`: anywhere.
    fn home(&self) -> Option<String> {
        if let Some(path) = self.glob.path.as_deref().filter(|_| !self.glob.open) {
            return Some(trimmed(path));
        }
        let plain = self.glob.plain.iter().take_while(|plain| **plain).count();
        let deep = self.glob.parts.iter().any(|part| part == "**");
        (!deep).then(|| format!("/{}", self.glob.parts[..plain].join("/")))
    }

    /// The watch that it asks for.
    fn anchor(&self, host: &dyn Fn(&Path) -> Host) -> Option<String> {
        // A pattern for names in the root makes no watch of the whole system.
        self.tree(host).or_else(|| self.home().filter(|home| home != "/"))
    }

    /// The first to be asked is the greatest.
    fn rank(&self) -> (usize, bool, std::cmp::Reverse<usize>) {
        (self.rule.globs.depth, self.rule.kind == Kind::Equals, std::cmp::Reverse(self.order))
    }
}

fn trimmed(path: &str) -> String {
    let path = path.trim_end_matches('/');
    if path.is_empty() { "/".into() } else { path.into() }
}

fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).collect()
}

/// What of a pattern lies in a folder.
#[derive(Debug, PartialEq, Eq)]
enum Within {
    Nothing,
    /// The folder itself, and with an open pattern all in it.
    Whole,
    Part(Vec<String>),
}

impl Within {
    /// `/boot/` selects what is in the folder, and fim has the folder with it.
    fn selecting(self) -> Self {
        match self {
            Self::Part(parts) if parts == ["**"] => Self::Whole,
            other => other,
        }
    }
}

fn within(glob: &[String], open: bool, folder: &[&str]) -> Within {
    let (Some(first), Some(name)) = (glob.first(), folder.first()) else {
        return match (glob.is_empty(), folder.is_empty()) {
            (true, true) => Within::Whole,
            (true, false) if open => Within::Whole,
            (true, false) => Within::Nothing,
            (false, _) => Within::Part(glob.to_vec()),
        };
    };
    if first == "**" {
        // At the end it is all below; else it may stand for this folder too.
        return if glob.len() == 1 { Within::Whole } else { within(glob, open, &folder[1..]) };
    }
    let met = Matcher::new(first).is_ok_and(|glob| glob.compile_matcher().is_match(name));
    if met { within(&glob[1..], open, &folder[1..]) } else { Within::Nothing }
}

/// Makes the watches, and says of each line what became of it.
pub fn watches(rules: &[Rule], lines: &mut [Line], host: &dyn Fn(&Path) -> Host) -> Vec<Watch> {
    let choices: Vec<Choice<'_>> = rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| rule.kind != Kind::Not)
        .flat_map(|(order, rule)| rule.globs.each.iter().map(move |glob| Choice { rule, order, glob }))
        .collect();
    let mut used = vec![false; choices.len()];
    let mut watches = Vec::new();
    for root in roots(&choices, host) {
        let place = Place { root: &root, names: parts(&root), host };
        let inside: Vec<(usize, Within)> = choices
            .iter()
            .enumerate()
            .map(|(at, choice)| (at, within(&choice.glob.parts, choice.open(), &place.names).selecting()))
            .filter(|(_, found)| *found != Within::Nothing)
            .collect();
        // What only might be there is no reason to call the folder its home.
        let homes =
            |at: usize| choices[at].anchor(host).is_some_and(|home| Path::new(&home).starts_with(&root));
        if let Some(why) = place.unusable() {
            for (at, _) in inside.iter().filter(|(at, _)| homes(*at)) {
                used[*at] = true;
                lines[choices[*at].rule.line].note(Outcome::Lost, why.clone());
            }
            continue;
        }
        if let Some(line) = excluded(rules, &place) {
            for (at, _) in inside.iter().filter(|(at, _)| homes(*at)) {
                used[*at] = true;
                let why = format!("{} leaves out all of it", lines[line].named());
                lines[choices[*at].rule.line].note(Outcome::Needless, why);
            }
            continue;
        }
        inside.iter().for_each(|(at, _)| used[*at] = true);
        let inside: Vec<(&Choice<'_>, Within)> =
            inside.into_iter().map(|(at, found)| (&choices[at], found)).collect();
        watches.extend(place.watch(&inside, rules, lines));
    }
    for (choice, _) in choices.iter().zip(&used).filter(|(_, used)| !**used) {
        lines[choice.rule.line].note(
            Outcome::Lost,
            "nothing else names a folder to watch where this could match; add a [[watch]]",
        );
    }
    negatives_elsewhere(rules, lines);
    watches
}

/// The least number of folders that hold all that is selected, none within another.
fn roots(choices: &[Choice<'_>], host: &dyn Fn(&Path) -> Host) -> Vec<String> {
    let all: BTreeSet<String> = choices.iter().filter_map(|choice| choice.anchor(host)).collect();
    let within = |path: &str| all.iter().any(|other| other != path && Path::new(path).starts_with(other));
    all.iter().filter(|path| !within(path)).cloned().collect()
}

/// The line that leaves out a whole watch.
fn excluded(rules: &[Rule], place: &Place<'_>) -> Option<usize> {
    let not = rules.iter().filter(|rule| rule.kind == Kind::Not && rule.types != Types::Others);
    let mut not = not.flat_map(|rule| rule.globs.each.iter().map(move |glob| (rule, glob)));
    not.find(|(_, glob)| {
        // `!/etc/` leaves out what is in it, and the folder stays.
        let inner =
            glob.parts.last().is_some_and(|part| part == "**") && glob.parts.len() == place.names.len() + 1;
        within(&glob.parts, true, &place.names) == Within::Whole && !inner
    })
    .map(|(rule, _)| rule.line)
}

fn negatives_elsewhere(rules: &[Rule], lines: &mut [Line]) {
    for rule in rules.iter().filter(|rule| rule.kind == Kind::Not) {
        let line = &mut lines[rule.line];
        if line.became.is_empty() && line.outcome == Outcome::Carried {
            line.note(Outcome::Needless, "nothing is watched there");
        }
    }
}

struct Place<'a> {
    root: &'a str,
    names: Vec<&'a str>,
    host: &'a dyn Fn(&Path) -> Host,
}

impl Place<'_> {
    fn unusable(&self) -> Option<String> {
        let root = self.root;
        match (self.host)(Path::new(root)) {
            Host::Nothing => Some(format!("{root} is not there on this host; add a [[watch]] once it is")),
            Host::Link => Some(format!(
                "{root} is a symbolic link on this host; what it leads to is watched by the path where it really is"
            )),
            Host::Folder | Host::Other => None,
        }
    }

    fn watch(&self, inside: &[(&Choice<'_>, Within)], rules: &[Rule], lines: &mut [Line]) -> Option<Watch> {
        let mut whole: Vec<&Choice<'_>> =
            inside.iter().filter(|(_, found)| *found == Within::Whole).map(|(choice, _)| *choice).collect();
        whole.sort_by_key(|choice| choice.rank());
        let tree = whole.iter().any(|choice| choice.open());
        let first = whole.iter().find(|choice| choice.open() || !tree).or_else(|| whole.first());
        let first = first.copied().or_else(|| inside.first().map(|(choice, _)| *choice))?;
        let mut watch = Watch {
            path: self.root.to_owned(),
            line: first.rule.line,
            policy: first.rule.policy.clone()?,
            exclude: Vec::new(),
            rules: Vec::new(),
        };
        lines[first.rule.line].became(format!("[[watch]] {}", self.root));
        if (self.host)(Path::new(self.root)) != Host::Folder {
            self.others_of(&whole, first, lines);
            return Some(watch);
        }
        if !tree {
            watch.exclude = self.only(inside);
        }
        self.root_rules(&whole, first, tree, &mut watch, lines);
        self.inner_rules(inside, &mut watch, lines);
        self.negatives(rules, &mut watch, lines);
        if let Some(siblings) = self.siblings(first) {
            lines[first.rule.line].note(Outcome::Changed, siblings);
        }
        Some(watch)
    }

    /// Later rules for the same single file never came to be asked.
    fn others_of(&self, whole: &[&Choice<'_>], first: &Choice<'_>, lines: &mut [Line]) {
        for choice in whole.iter().filter(|choice| choice.rule.line != first.rule.line) {
            lines[choice.rule.line].note(Outcome::Needless, "another line says it of the same file");
        }
    }

    /// AIDE takes what begins so.
    fn siblings(&self, first: &Choice<'_>) -> Option<String> {
        let open = first.glob.path.as_deref().is_some_and(|path| first.open() && !path.ends_with('/'));
        let path = Path::new(self.root);
        let (folder, name) = (path.parent()?, path.file_name()?.to_str()?);
        let names = std::fs::read_dir(folder).ok().filter(|_| open)?.flatten().map(|entry| entry.file_name());
        let mut more: Vec<String> = names
            .filter_map(|other| other.into_string().ok())
            .filter(|other| other != name && other.starts_with(name))
            .map(|other| crate::core::path::display(&folder.join(other)))
            .collect();
        more.sort();
        (!more.is_empty()).then(|| {
            format!(
                "AIDE takes {} too, whose name begins so; add a [[watch]] where that is meant",
                more.join(", ")
            )
        })
    }

    /// Everything is left out but what is selected and the way there.
    fn only(&self, inside: &[(&Choice<'_>, Within)]) -> Vec<(String, usize)> {
        let mut out: Vec<(String, usize)> = Vec::new();
        for (choice, found) in inside {
            let line = choice.rule.line;
            if out.is_empty() {
                out.push(("/**".into(), line));
            }
            let Within::Part(parts) = found else { continue };
            if parts.iter().any(|part| part == "**") && parts.last().is_none_or(|part| part != "**") {
                continue;
            }
            let named = parts.iter().take_while(|part| *part != "**").count();
            let ways = (1..named).map(|n| format!("!/{}/", parts[..n].join("/")));
            let own = format!("!/{}", parts[..named].join("/"));
            let below = choice.open().then(|| format!("{own}/**"));
            let folder = if choice.rule.types == Types::Folders || named < parts.len() { "/" } else { "" };
            for pattern in ways.chain([format!("{own}{folder}")]).chain(below) {
                if !out.iter().any(|(known, _)| *known == pattern) {
                    out.push((pattern, line));
                }
            }
        }
        out
    }

    /// Rules for the whole watch after the one that its own keys come from.
    fn root_rules(
        &self,
        whole: &[&Choice<'_>],
        first: &Choice<'_>,
        tree: bool,
        watch: &mut Watch,
        lines: &mut [Line],
    ) {
        let same = |choice: &Choice<'_>| std::ptr::eq(choice.rule, first.rule);
        if first.rule.types != Types::All && !whole.iter().any(|choice| choice.rule.types == Types::All) {
            let covered = |types| whole.iter().any(|choice| choice.rule.types == types);
            if tree && !(covered(Types::Folders) && covered(Types::Others)) {
                let why = "fim compares the other types of file there too, in the same way";
                lines[first.rule.line].note(Outcome::Changed, why);
            }
        }
        for choice in whole.iter().filter(|choice| !same(choice)) {
            let line = choice.rule.line;
            if !choice.open() && tree {
                lines[line].note(
                    Outcome::Changed,
                    "the watched folder itself follows the [[watch]], not a rule of its own",
                );
                continue;
            }
            let Some(policy) = choice.rule.policy.clone().filter(|_| tree) else {
                lines[line].note(Outcome::Needless, "another line says it of the same folder");
                continue;
            };
            let paths: &[&str] = match choice.rule.types {
                Types::All => &["*"],
                Types::Folders => &["!*", "*/"],
                Types::Others => &["*", "!*/"],
            };
            lines[line].became(format!("[[watch.rule]] {} in {}", paths.join(" "), self.root));
            watch.rules.push(WatchRule {
                policy,
                paths: paths.iter().map(|path| ((*path).to_owned(), line)).collect(),
            });
        }
    }

    fn inner_rules(&self, inside: &[(&Choice<'_>, Within)], watch: &mut Watch, lines: &mut [Line]) {
        let mut parted: Vec<(&Choice<'_>, &[String])> = inside
            .iter()
            .filter_map(|(choice, found)| match found {
                Within::Part(parts) => Some((*choice, parts.as_slice())),
                _ => None,
            })
            .collect();
        parted.sort_by_key(|(choice, _)| choice.rank());
        // Rules of different folders of one depth cannot meet, so those that say the same become one. In a folder the order counts:
        // each time the policy changes a new run begins.
        let mut runs: BTreeMap<(usize, String), (usize, Policy)> = BTreeMap::new();
        // Depth, run, policy and, where it must stay alone, its line; then length, pattern and line of each path.
        type Key = (usize, usize, Policy, Option<usize>);
        let mut rules: BTreeMap<Key, Vec<(usize, String, usize)>> = BTreeMap::new();
        for (choice, parts) in parted {
            let Some(policy) = choice.rule.policy.clone() else { continue };
            let folder = choice.home().unwrap_or_default();
            let node = (choice.rule.globs.depth, node(&folder, choice.rule.globs.depth));
            let run = runs.entry(node).or_insert((0, policy.clone()));
            if run.1 != policy {
                *run = (run.0 + 1, policy.clone());
            }
            let line = choice.rule.line;
            let alone = parts.iter().any(|part| part == "**").then_some(line);
            let patterns = self.patterns(choice, parts);
            lines[line].became(format!("[[watch.rule]] {} in {}", patterns.join(" "), self.root));
            let rule = rules.entry((choice.rule.globs.depth, run.0, policy, alone)).or_default();
            rule.extend(patterns.into_iter().map(|pattern| (parts.len(), pattern, line)));
        }
        for ((_, _, policy, alone), mut paths) in rules {
            if alone.is_none() {
                // So that a `!` for what lies below comes before what is named there.
                paths.sort_by_key(|(length, ..)| *length);
            }
            let paths = paths.into_iter().map(|(_, pattern, line)| (pattern, line)).collect();
            watch.rules.push(WatchRule { policy, paths });
        }
    }

    fn patterns(&self, choice: &Choice<'_>, parts: &[String]) -> Vec<String> {
        let own = format!("/{}", parts.join("/"));
        let at = || Path::new(self.root).join(own.trim_start_matches('/'));
        let file = || choice.glob.path.is_some() && (self.host)(&at()) == Host::Other;
        // What ends so matches nothing but what is below.
        let inner = parts.last().is_some_and(|part| part == "**");
        let below = |text: &str| if inner { format!("{own}{text}") } else { format!("{own}/**{text}") };
        match (choice.open(), choice.rule.types) {
            (true, Types::All) => vec![own],
            (true, Types::Folders) if inner => vec![format!("!{own}"), format!("{own}/")],
            (true, Types::Folders) => vec![format!("!{}", below("")), format!("{own}/"), below("/")],
            (true, Types::Others) if inner => vec![own.clone(), format!("!{own}/")],
            (true, Types::Others) => {
                vec![own.clone(), below(""), format!("!{own}/"), format!("!{}", below("/"))]
            }
            (false, Types::Folders) => vec![format!("{own}/"), format!("!{own}/**")],
            (false, _) if file() => vec![own],
            (false, Types::Others) => vec![own.clone(), format!("!{own}/")],
            (false, Types::All) => vec![own.clone(), format!("!{own}/**")],
        }
    }

    fn negatives(&self, rules: &[Rule], watch: &mut Watch, lines: &mut [Line]) {
        for rule in rules.iter().filter(|rule| rule.kind == Kind::Not) {
            for glob in &rule.globs.each {
                let Within::Part(parts) = within(&glob.parts, true, &self.names) else { continue };
                let line = &mut lines[rule.line];
                let own = format!("/{}", parts.join("/"));
                let pattern = match rule.types {
                    Types::All => own,
                    Types::Folders => format!("{own}/"),
                    Types::Others if glob.open => {
                        line.note(
                            Outcome::Lost,
                            "fim leaves out a folder with all in it, but not only the files of a whole tree",
                        );
                        continue;
                    }
                    Types::Others => {
                        line.note(Outcome::Changed, "fim leaves out whatever has this name, of any type");
                        own
                    }
                };
                line.became(format!("exclude {pattern} in {}", self.root));
                watch.exclude.push((pattern, rule.line));
            }
        }
    }
}

/// The folder in whose list AIDE keeps the rule.
fn node(home: &str, depth: usize) -> String {
    parts(home).into_iter().take(depth.saturating_sub(1)).collect::<Vec<_>>().join("/")
}
