//! Secrets in command lines, which every user of a host can read for as long as the process lives, and nobody afterwards.

use regex::{Captures, Regex};

use super::actor::Actor;

/// What stands in a secret's place.
const MASK: &str = "***";

/// Regular expressions over the arguments, joined by a NUL. What a group matches is the secret.
const USUAL: [&str; 8] = [
    // --password=SECRET, --db-password SECRET, -token SECRET
    r"(?i)(?:^|[\x00\s])--?[a-z0-9_-]*(?:pass(?:word|wd|phrase|code)?|secret|token|api[_-]?key|access[_-]?key|private[_-]?key)[=\x00\s]+([^\x00\s]+)",
    // PGPASSWORD=SECRET, MYSQL_PWD=SECRET, also inside of `sh -c TEXT`
    r#"(?i)(?:^|[\x00\s"';&])[a-z0-9_]*(?:password|passwd|passphrase|_pwd|secret|token|api_?key|access_?key)=["']?([^\x00\s"';&]+)"#,
    // mysql -pSECRET; sshpass -pSECRET, -p SECRET
    r"\b(?:mysql|mariadb)[a-z_-]*(?:[\x00\s]+[^\x00\s]+)*?[\x00\s]+-p([^\x00\s]+)",
    r"\bsshpass[\x00\s]+-p[\x00\s]?([^\x00\s]+)",
    // curl -u USER:SECRET
    r"\b(?:curl|wget)(?:[\x00\s]+[^\x00\s]+)*?[\x00\s]+(?:-u|--user|--proxy-user)[=\x00\s]?[^:\x00\s]+:([^\x00\s]+)",
    // scheme://USER:SECRET@host, scheme://SECRET@host, ?token=SECRET
    r"(?i)\b[a-z][a-z0-9+.-]*://(?:[^/@:\x00\s]*:([^@/\x00\s]+)|([^@/:\x00\s]{20,}))@",
    r"(?i)[?&][a-z0-9_.-]*(?:token|key|secret|password|passwd|signature|sig|auth)=([^&#\x00\s]+)",
    // Authorization: Bearer SECRET; X-Api-Key: SECRET; tokens that are known by their beginning
    r#"(?i)\b(?:(?:proxy-)?authorization|x-[a-z-]*(?:token|key))\s*:\s*(?:(?:bearer|basic|token)\s+)?([^\x00"']+)|\b(gh[pousr]_[a-z0-9]{20,}|github_pat_[a-z0-9_]{20,}|glpat-[a-z0-9_-]{16,}|xox[abprs]-[a-z0-9-]{10,})"#,
];

/// Which parts of command lines are secret.
pub struct Masks(Vec<Regex>);

impl std::fmt::Debug for Masks {
    /// What somebody added may quote a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Masks({})", self.0.len())
    }
}

impl Default for Masks {
    /// The usual ones alone.
    fn default() -> Self {
        // One that does not compile fails the test below.
        Self(USUAL.iter().filter_map(|text| Regex::new(text).ok()).collect())
    }
}

impl Masks {
    /// The usual ones and `more`.
    ///
    /// # Errors
    /// Which of `more` is no regular expression, counted from 0, and why, in one line.
    pub fn with(more: &[String]) -> Result<Self, (usize, String)> {
        let mut masks = Self::default();
        for (at, text) in more.iter().enumerate() {
            let compiled = Regex::new(text).map_err(|error| {
                let reason = error.to_string();
                (at, reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned())
            })?;
            masks.0.push(compiled);
        }
        Ok(masks)
    }

    pub fn apply(&self, actor: &mut Actor) {
        if actor.cmdline.is_empty() {
            return;
        }
        let joined = actor.cmdline.join("\0");
        let mut masked = joined.clone();
        for mask in &self.0 {
            masked = mask.replace_all(&masked, |found: &Captures<'_>| hidden(found)).into_owned();
        }
        if masked != joined {
            actor.cmdline = masked.split('\0').map(str::to_owned).collect();
        }
    }
}

/// The match with its groups masked, or all of it where there is no group. A NUL stays, so that the words stay apart.
fn hidden(found: &Captures<'_>) -> String {
    let Some(whole) = found.get(0) else { return String::new() };
    let mut groups: Vec<_> = found.iter().skip(1).flatten().collect();
    if groups.is_empty() {
        groups.push(whole);
    }
    groups.sort_by_key(|group| group.start());
    let text = whole.as_str();
    let (mut out, mut at) = (String::new(), 0);
    for group in groups {
        let (start, end) = (group.start() - whole.start(), group.end() - whole.start());
        // A group within another is hidden with it.
        if start < at {
            continue;
        }
        out.push_str(&text[at..start]);
        let words: Vec<&str> = text[start..end].split('\0').map(|_| MASK).collect();
        out.push_str(&words.join("\0"));
        at = end;
    }
    out.push_str(&text[at..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(masks: &Masks, line: &str) -> String {
        let mut actor = Actor::unknown();
        actor.cmdline = line.split('|').map(str::to_owned).collect();
        masks.apply(&mut actor);
        actor.cmdline.join("|")
    }

    #[test]
    fn the_usual_secrets_are_hidden_and_nothing_else() {
        let masks = Masks::default();
        assert_eq!(masks.0.len(), USUAL.len(), "each of them is a regular expression");
        for (line, expected) in [
            ("x|--password=hunter2|y", "x|--password=***|y"),
            ("x|--db-password|hunter2|y", "x|--db-password|***|y"),
            ("x|--token-file=/etc/t|--password-stdin|y", "x|--token-file=/etc/t|--password-stdin|y"),
            ("mysql|-u|root|-phunter2|db", "mysql|-u|root|-p***|db"),
            ("/usr/bin/mysqldump|-phunter2", "/usr/bin/mysqldump|-p***"),
            ("cp|-preserve|a", "cp|-preserve|a"),
            ("sshpass|-p|hunter2|ssh|h", "sshpass|-p|***|ssh|h"),
            ("env|PGPASSWORD=hunter2|psql", "env|PGPASSWORD=***|psql"),
            ("sh|-c|MYSQL_PWD=hunter2 mysql; true", "sh|-c|MYSQL_PWD=*** mysql; true"),
            ("sh|-c|mysql -phunter2 db", "sh|-c|mysql -p*** db"),
            ("curl|-s|-u|ann:hunter2|https://h", "curl|-s|-u|ann:***|https://h"),
            ("git|clone|https://ann:hunter2@h/r", "git|clone|https://ann:***@h/r"),
            ("curl|https://h/p?id=7&api_key=hunter2#x", "curl|https://h/p?id=7&api_key=***"),
            ("curl|-H|Authorization: Bearer hunter2", "curl|-H|Authorization: Bearer ***"),
            ("x|ghp_0123456789abcdefghijABCDEFGHIJ", "x|***"),
            ("ssh|ann@host|ls", "ssh|ann@host|ls"),
            ("rsync|https://h:8080/x", "rsync|https://h:8080/x"),
        ] {
            assert_eq!(masked(&masks, line), expected, "{line}");
        }
    }

    #[test]
    fn ones_own_masks_hide_their_groups_or_all_of_it() {
        let masks = Masks::with(&["--pin (\\d+)".replace(' ', "\0"), "hunter\\d".into()]).expect("sound");
        assert_eq!(masked(&masks, "x|--pin|1234|hunter2"), "x|--pin|***|***");
        assert_eq!(masked(&Masks::with(&["a\0b".into()]).expect("sound"), "a|b|c"), "***|***|c");
        let refused = Masks::with(&["(".into()]).expect_err("no expression");
        assert_eq!(refused, (0, "unclosed group".to_owned()));
    }
}
