//! Where this machine's own apt gets Debian from.
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

#[derive(Debug, PartialEq)]
pub struct Mirror {
    archive: String,
    security: Option<String>,
    keyring: String,
}

/// One (URI, suite) pair of a source with a `main` component.
#[derive(Debug, PartialEq)]
struct Source {
    uri: String,
    suite: String,
}

impl Mirror {
    pub fn of_this_machine() -> Result<Mirror> {
        let keyring = [
            "/usr/share/keyrings/debian-archive-keyring.gpg",
            "/usr/share/keyrings/debian-archive-keyring.pgp",
        ]
        .into_iter()
        .find(|file| Path::new(file).exists())
        .context("Debian's archive keys are missing: install debian-archive-keyring")?;
        let mut files = vec![Path::new("/etc/apt/sources.list").to_path_buf()];
        if let Ok(dir) = fs::read_dir("/etc/apt/sources.list.d") {
            files.extend(dir.filter_map(|entry| Some(entry.ok()?.path())));
        }
        files.sort();
        let mut sources = Vec::new();
        for file in files {
            let text = fs::read_to_string(&file).unwrap_or_default();
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("list") => sources.extend(one_line_style(&text)),
                Some("sources") => sources.extend(deb822_style(&text)),
                _ => {}
            }
        }
        choose(&sources, keyring).context("this machine's apt has no Debian mirror in its sources")
    }

    /// A line for sources.list.
    pub fn source_line(&self, suite: &str) -> Result<String> {
        let uri = if suite.ends_with("-security") {
            match &self.security {
                Some(uri) => uri,
                None => bail!("this machine's apt has no Debian security archive in its sources"),
            }
        } else {
            &self.archive
        };
        Ok(format!("deb [arch=amd64 targets=Packages signed-by={}] {uri} {suite} main\n", self.keyring))
    }
}

fn choose(sources: &[Source], keyring: &str) -> Option<Mirror> {
    let debian = |source: &&Source| {
        let base = source.suite.trim_end_matches("-security").trim_end_matches("-updates");
        ["bullseye", "bookworm", "trixie", "forky", "sid", "stable", "oldstable", "testing", "unstable"]
            .contains(&base)
    };
    let (security, archive): (Vec<_>, Vec<_>) =
        sources.iter().filter(debian).partition(|source| source.suite.ends_with("-security"));
    // Others offer suites of the same names; Debian's own archive is called debian on every mirror.
    let best = |found: &[&Source], name: &str| {
        let named = found.iter().find(|source| source.uri.trim_end_matches('/').ends_with(name));
        named.or(found.first()).map(|source| source.uri.clone())
    };
    let archive = best(&archive, "/debian")?;
    let beside =
        archive.trim_end_matches('/').strip_suffix("/debian").map(|base| format!("{base}/debian-security"));
    Some(Mirror {
        security: best(&security, "/debian-security").or(beside),
        archive,
        keyring: keyring.to_owned(),
    })
}

fn one_line_style(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("deb ") else {
            continue;
        };
        let rest = rest.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']').map_or("", |(_, rest)| rest),
            None => rest,
        };
        let mut words = rest.split_whitespace();
        if let (Some(uri), Some(suite)) = (words.next(), words.next())
            && words.any(|component| component == "main")
        {
            sources.push(Source { uri: uri.to_owned(), suite: suite.to_owned() });
        }
    }
    sources
}

fn deb822_style(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let field = |name: &str| {
            let start = stanza.iter().position(|line| {
                line.split_once(':').is_some_and(|(key, _)| key.trim().eq_ignore_ascii_case(name))
            })?;
            let first = stanza[start].split_once(':').map(|(_, value)| value)?;
            let more = stanza[start + 1..].iter().take_while(|line| line.starts_with([' ', '\t']));
            Some(std::iter::once(first).chain(more.copied()).collect::<Vec<_>>().join(" "))
        };
        let words = |name: &str| -> Vec<String> {
            field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        };
        let off = field("Enabled").is_some_and(|value| ["no", "false", "0"].contains(&value.trim()));
        if off
            || !words("Types").contains(&"deb".to_owned())
            || !words("Components").contains(&"main".to_owned())
        {
            continue;
        }
        for uri in words("URIs") {
            sources.extend(words("Suites").into_iter().map(|suite| Source { uri: uri.clone(), suite }));
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = "/keys.gpg";

    #[test]
    fn reads_both_styles_of_sources() {
        let lists = one_line_style(
            "# deb http://off.test/debian bookworm main\n\
             deb [signed-by=/k arch=amd64] https://tools.test/linux bookworm stable\n\
             deb-src http://a.test/debian bookworm main\n\
             deb http://a.test/debian/ bookworm main contrib\n\
             deb http://s.test/debian-security bookworm-security main\n",
        );
        let sources = deb822_style(
            "Types: deb deb-src\nURIs: http://a.test/debian/\nSuites: bookworm bookworm-updates\n# why\n\
             Components: main\n\nTypes: deb\nURIs: http://s.test/debian-security\nSuites:\n bookworm-security\n\
             Components: main\n\nTypes: deb\nEnabled: no\nURIs: http://off.test/debian\nSuites: bookworm\nComponents: main\n",
        );
        let expected = Some(Mirror {
            archive: "http://a.test/debian/".into(),
            security: Some("http://s.test/debian-security".into()),
            keyring: KEYS.into(),
        });
        assert_eq!(choose(&lists, KEYS), expected);
        assert_eq!(choose(&sources, KEYS), expected);
    }

    #[test]
    fn guesses_the_security_archive_beside_the_archive() {
        let mirror = choose(&one_line_style("deb http://a.test/debian trixie main"), KEYS).expect("a mirror");
        assert_eq!(mirror.security.as_deref(), Some("http://a.test/debian-security"));
        let other = choose(&one_line_style("deb http://a.test/pool trixie main"), KEYS).expect("a mirror");
        assert!(other.source_line("trixie-security").is_err());
    }
}
