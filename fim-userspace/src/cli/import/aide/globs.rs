//! Regular expressions of selection lines as patterns of gitignore(5).
//!
//! Alternatives and what may be left out become patterns of their own; what no pattern says is an error, and what a pattern says
//! only roughly is noted.

use crate::core::policy::literal;

#[cfg(test)]
#[path = "globs_tests.rs"]
mod tests;

/// More patterns than this for one line help nobody.
const MOST: usize = 300;

/// One way in which the expression can match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    /// Components from the root on, as patterns; `**` for any number of them.
    pub parts: Vec<String>,
    /// Whether each component is a plain name.
    pub plain: Vec<bool>,
    /// The expression has no `$`: names that begin so, and all below them.
    pub open: bool,
    /// The plain path, where there is nothing else in it.
    pub path: Option<String>,
    /// Whether `.*` after it says that a name only begins so.
    pub begins: bool,
}

impl Glob {
    /// As `=` means it: `=/srv` the folder, `=/srv/` what lies directly in it.
    pub fn without_what_is_below(&mut self) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        match self.path.take() {
            Some(path) if !path.ends_with('/') => *self = glob(&literal(&path), false, Some(path)),
            _ => {
                if let Some(last) = self.parts.last_mut().filter(|last| *last == "**") {
                    *last = "*".into();
                }
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Globs {
    pub each: Vec<Glob>,
    /// Where the patterns say more or less than the expression.
    pub rough: Option<String>,
    /// Components before the first that is no plain name: the deeper, the earlier AIDE asks this rule.
    pub depth: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Char(char),
    /// One character of a component, as a pattern: `?` or `[a-z]`.
    One(String),
    /// Any number of characters of a component.
    Star,
    /// Any number of characters, slashes too.
    Deep,
    End,
}

type Ways = Vec<Vec<Piece>>;

/// # Errors
/// Why no pattern can say this.
pub fn translate(expression: &str) -> Result<Globs, String> {
    let text = unescape_percent(expression)?;
    let text = text.strip_prefix('^').unwrap_or(&text).to_owned();
    if !text.starts_with('/') {
        return Err("it does not begin with a slash".into());
    }
    let mut parser = Parser { rest: text.chars().collect(), at: 0, rough: None };
    let ways = parser.alternatives()?;
    if parser.at < parser.rest.len() {
        return Err("a parenthesis is closed that was not opened".into());
    }
    let mut each = Vec::new();
    for way in ways {
        each.extend(globs(way)?);
    }
    if each.len() > MOST {
        return Err(too_many());
    }
    each.dedup();
    Ok(Globs { each, rough: parser.rough, depth: depth(&text) })
}

fn too_many() -> String {
    format!("it stands for more than {MOST} patterns")
}

/// `%20` for a space.
fn unescape_percent(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).map_err(|_| "its bytes are no UTF-8 text".into())
}

fn depth(text: &str) -> usize {
    let special = text.find(['(', '^', '$', '*', '[', '|', '?', '+', '.', '{', '\\']).unwrap_or(text.len());
    text[..special].matches('/').count()
}

struct Parser {
    rest: Vec<char>,
    at: usize,
    rough: Option<String>,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    fn roughly(&mut self, why: &str) {
        self.rough.get_or_insert_with(|| why.to_owned());
    }

    fn alternatives(&mut self) -> Result<Ways, String> {
        let mut ways = self.sequence()?;
        while self.eat('|') {
            ways.extend(self.sequence()?);
        }
        Ok(ways)
    }

    fn sequence(&mut self) -> Result<Ways, String> {
        let mut ways: Ways = vec![Vec::new()];
        while let Some(c) = self.peek() {
            if c == '|' || c == ')' {
                break;
            }
            let atom = self.atom()?;
            let atom = self.quantified(atom)?;
            ways = product(&ways, &atom)?;
        }
        Ok(ways)
    }

    fn atom(&mut self) -> Result<Ways, String> {
        let one = |piece| Ok(vec![vec![piece]]);
        match self.next() {
            Some('(') => {
                if self.eat('?') && !self.eat(':') {
                    return Err("it looks around, or changes how it matches".into());
                }
                let ways = self.alternatives()?;
                if self.eat(')') { Ok(ways) } else { Err("a parenthesis is not closed".into()) }
            }
            Some('[') => self.class(),
            Some('.') => {
                // `.*` is exact; alone it could be a slash as well.
                if self.peek() != Some('*') && self.peek() != Some('+') {
                    self.roughly("a `.` is any character but a slash here; write `\\.` for a dot");
                }
                one(Piece::One("?".into()))
            }
            Some('$') => one(Piece::End),
            Some('^') => Err("it has a `^` inside".into()),
            Some('\\') => {
                let piece = self.escaped()?;
                one(piece)
            }
            Some(c @ ('*' | '+' | '?')) => Err(format!("there is nothing before a {c:?}")),
            Some(c) => one(Piece::Char(c)),
            None => Err("it ends too early".into()),
        }
    }

    fn escaped(&mut self) -> Result<Piece, String> {
        match self.next() {
            Some('d') => Ok(Piece::One("[0-9]".into())),
            Some('w') => Ok(Piece::One("[0-9A-Za-z_]".into())),
            Some(c) if c.is_ascii_alphanumeric() => Err(format!("no pattern says \\{c}")),
            Some(c) => Ok(Piece::Char(c)),
            None => Err("it ends with a backslash".into()),
        }
    }

    /// After the bracket. Of a negated class the pattern never matches a slash.
    fn class(&mut self) -> Result<Ways, String> {
        let negated = self.eat('^');
        let mut inner = String::new();
        let mut slash = false;
        let mut first = true;
        loop {
            match self.next().ok_or("a bracket is not closed")? {
                ']' if !first => break,
                '[' if self.peek() == Some(':') => {
                    let rest: String = self.rest[self.at..].iter().collect();
                    let name = rest.split_once(":]").map(|(name, _)| name.trim_start_matches(':').to_owned());
                    let name = name.ok_or("a class is not closed")?;
                    self.at += name.chars().count() + 3;
                    inner.push_str(posix(&name)?);
                }
                '\\' => match self.next().ok_or("a bracket is not closed")? {
                    'd' => inner.push_str("0-9"),
                    'w' => inner.push_str("0-9A-Za-z_"),
                    c if c.is_ascii_alphanumeric() => return Err(format!("no pattern says \\{c}")),
                    c => push(&mut inner, c),
                },
                '/' => slash = true,
                '-' => inner.push('-'),
                c => push(&mut inner, c),
            }
            first = false;
        }
        let one = |text: String| vec![Piece::One(text)];
        Ok(match (negated, slash) {
            (true, true) if inner.is_empty() => vec![one("?".into())],
            (true, _) => {
                if !slash {
                    self.roughly("a class like [^x] does not match a slash here");
                }
                vec![one(format!("[!{inner}]"))]
            }
            (false, true) if inner.is_empty() => vec![vec![Piece::Char('/')]],
            (false, true) => vec![one(format!("[{inner}]")), vec![Piece::Char('/')]],
            (false, false) => vec![one(format!("[{inner}]"))],
        })
    }

    fn quantified(&mut self, atom: Ways) -> Result<Ways, String> {
        let (least, most) = match self.peek() {
            Some('?') => (0, Some(1)),
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('{') => match self.counted() {
                Some(counts) => counts,
                None => return Ok(atom),
            },
            _ => return Ok(atom),
        };
        self.at += 1;
        // Lazy or possessive: what matches stays the same for our purpose.
        if matches!(self.peek(), Some('?' | '+')) {
            self.at += 1;
        }
        let mut once: Ways = vec![Vec::new()];
        for _ in 0..least {
            once = product(&once, &atom)?;
        }
        let Some(most) = most else { return product(&once, &self.any_number(&atom)?) };
        let mut ways = once.clone();
        for _ in least..most {
            once = product(&once, &atom)?;
            ways.extend(once.iter().cloned());
            if ways.len() > MOST {
                return Err(too_many());
            }
        }
        Ok(ways)
    }

    /// `{2}`, `{2,}`, `{2,5}`; stays before the closing brace.
    fn counted(&mut self) -> Option<(usize, Option<usize>)> {
        let rest: String = self.rest[self.at + 1..].iter().collect();
        let (inner, _) = rest.split_once('}')?;
        let counts = match inner.split_once(',') {
            None => inner.parse().ok().map(|n| (n, Some(n)))?,
            Some((least, "")) => (least.parse().ok()?, None),
            Some((least, most)) => (least.parse().ok()?, Some(most.parse().ok()?)),
        };
        self.at += inner.chars().count() + 1;
        Some(counts)
    }

    fn any_number(&mut self, atom: &Ways) -> Result<Ways, String> {
        if let [way] = atom.as_slice()
            && let [Piece::One(one)] = way.as_slice()
            && one == "?"
        {
            // `.` or `[^/]`: the character before the quantifier tells.
            let deep = self.rest.get(self.at.wrapping_sub(2)) == Some(&'.')
                || (matches!(self.rest.get(self.at.wrapping_sub(2)), Some('*' | '+'))
                    && self.rest.get(self.at.wrapping_sub(3)) == Some(&'.'));
            return Ok(vec![vec![if deep { Piece::Deep } else { Piece::Star }]]);
        }
        let slash = |way: &Vec<Piece>| way.as_slice() == [Piece::Char('/')];
        if atom.iter().any(slash) && atom.iter().all(|way| way.len() == 1) {
            self.roughly("`**` stands for repeated characters, so other paths match as well");
            return Ok(vec![vec![Piece::Deep]]);
        }
        if atom.iter().flatten().any(|piece| matches!(piece, Piece::Char('/') | Piece::Deep | Piece::End)) {
            return Err("it repeats folders".into());
        }
        self.roughly("`*` stands for repeated characters, so other names match as well");
        Ok(vec![vec![Piece::Star]])
    }
}

fn push(class: &mut String, c: char) {
    if matches!(c, '[' | ']' | '\\' | '!' | '^') {
        class.push('\\');
    }
    class.push(c);
}

fn posix(name: &str) -> Result<&'static str, String> {
    Ok(match name {
        "alnum" => "0-9A-Za-z",
        "alpha" => "A-Za-z",
        "digit" => "0-9",
        "lower" => "a-z",
        "upper" => "A-Z",
        "xdigit" => "0-9A-Fa-f",
        other => return Err(format!("no pattern says [:{other}:]")),
    })
}

fn product(left: &Ways, right: &Ways) -> Result<Ways, String> {
    if left.len().saturating_mul(right.len()) > MOST {
        return Err(too_many());
    }
    Ok(left.iter().flat_map(|a| right.iter().map(|b| [a.as_slice(), b].concat())).collect())
}

/// The patterns of one way: several, where `.*` stands within a name.
fn globs(mut way: Vec<Piece>) -> Result<Vec<Glob>, String> {
    let mut open = way.last() != Some(&Piece::End);
    while way.last() == Some(&Piece::End) {
        way.pop();
    }
    if way.contains(&Piece::End) {
        return Err("it has a `$` inside".into());
    }
    // `/etc/.*` and `/etc/.*$` are `/etc/`.
    let mut begins = false;
    while way.last() == Some(&Piece::Deep) {
        way.pop();
        open = true;
        begins = way.last() != Some(&Piece::Char('/'));
    }
    let plain: Option<String> =
        way.iter().map(|piece| if let Piece::Char(c) = piece { Some(*c) } else { None }).collect();
    let mut texts = vec![String::new()];
    for (at, piece) in way.iter().enumerate() {
        let (before, after) = (at.checked_sub(1).map(|at| &way[at]), way.get(at + 1));
        let slash = |piece: Option<&Piece>| piece == Some(&Piece::Char('/'));
        let add = |texts: &mut Vec<String>, end: &str| texts.iter_mut().for_each(|text| text.push_str(end));
        match piece {
            Piece::Char(c) => add(&mut texts, &literal(&c.to_string())),
            Piece::One(one) => add(&mut texts, one),
            Piece::Star => add(&mut texts, "*"),
            Piece::Deep if slash(after) => add(&mut texts, "*/**"),
            Piece::Deep if slash(before) => add(&mut texts, "**/*"),
            Piece::Deep => {
                let other = texts.iter().map(|text| format!("{text}*/**/*")).collect::<Vec<_>>();
                add(&mut texts, "*");
                texts.extend(other);
            }
            Piece::End => {}
        }
    }
    Ok(texts.into_iter().map(|text| Glob { begins, ..glob(&text, open, plain.clone()) }).collect())
}

fn glob(text: &str, open: bool, path: Option<String>) -> Glob {
    let mut text = text.to_owned();
    if open && text.ends_with('/') {
        text.push_str("**");
    } else if open && !text.ends_with('*') {
        text.push('*');
    }
    let parts: Vec<String> = text.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let plain = parts.iter().map(|part| !part.contains(['*', '?', '[', '\\'])).collect();
    Glob { parts, plain, open, path, begins: false }
}
