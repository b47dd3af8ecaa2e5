//! The script that an interpreter runs, read from its arguments.

/// Programs that take a script as their first argument that is no option, and the letters of the options after which
/// the program follows as text, as a module or from standard input.
const INTERPRETERS: [(&str, &str); 17] = [
    ("sh", "cs"),
    ("dash", "cs"),
    ("bash", "cs"),
    ("zsh", "cs"),
    ("ksh", "cs"),
    ("mksh", "cs"),
    ("ash", "cs"),
    ("busybox", "cs"),
    ("fish", "c"),
    ("python", "cm"),
    ("perl", "eE"),
    ("ruby", "e"),
    ("node", "ep"),
    ("php", "rB"),
    ("lua", "e"),
    ("tclsh", ""),
    ("awk", ""),
];

/// The script's path as it was called, where `exe` is an interpreter and its arguments name one.
///
/// The kernel runs `#!INTERPRETER ARGUMENT` as `INTERPRETER ARGUMENT SCRIPT …`: execve(2).
pub fn script(exe: &str, cmdline: &[String]) -> Option<String> {
    let name = exe.rsplit('/').next()?.trim_end_matches(" (deleted)");
    // python3.11, perl5.36, lua5.4
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    let awk = name.ends_with("awk");
    let stem = if awk { "awk" } else { stem };
    let (_, text) = INTERPRETERS.iter().find(|(known, _)| *known == stem)?;
    let mut rest = cmdline.iter().skip(1);
    // `busybox sh SCRIPT`
    if name == "busybox" && cmdline.first().is_some_and(|first| first.ends_with("busybox")) {
        rest.next();
    }
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-f" if awk => return rest.next().cloned(),
            "--" => return rest.next().cloned(),
            "-" => return None,
            // Options of one letter each, as in `sh -ec TEXT` and `perl -ne TEXT`.
            option if takes_text(option, text) => return None,
            option if option.starts_with('-') || option.starts_with('+') => {}
            _ if awk => return None,
            script => return Some(script.to_owned()),
        }
    }
    None
}

fn takes_text(option: &str, letters: &str) -> bool {
    let cluster = option.strip_prefix('-').filter(|rest| rest.bytes().all(|b| b.is_ascii_alphabetic()));
    match cluster {
        // A shell takes the text after all its options, whatever the order of the letters.
        Some(cluster) if letters == "cs" => cluster.contains(['c', 's']),
        Some(cluster) => cluster.ends_with(|last| letters.contains(last)),
        None => option == "--eval",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_and_their_scripts() {
        for (exe, line, expected) in [
            ("/usr/bin/dash", "/bin/sh /opt/job.sh x", Some("/opt/job.sh")),
            ("/usr/bin/dash", "/bin/sh -e /etc/cron.daily/x", Some("/etc/cron.daily/x")),
            ("/usr/bin/bash", "bash -eu ./deploy", Some("./deploy")),
            ("/usr/bin/python3.11", "python3 -u /srv/app.py --port 1", Some("/srv/app.py")),
            ("/usr/bin/perl", "perl -w -- -odd", Some("-odd")),
            ("/usr/bin/busybox", "busybox sh /x", Some("/x")),
            ("/usr/bin/mawk", "awk -f /x.awk data", Some("/x.awk")),
            ("/usr/bin/mawk", "awk {print} data", None),
            ("/usr/bin/dash", "sh -c /opt/job.sh", None),
            ("/usr/bin/dash", "sh -ec /opt/job.sh", None),
            ("/usr/bin/python3", "python3 -m http.server", None),
            ("/usr/bin/perl", "perl -ne print /etc/hosts", None),
            ("/usr/bin/bash", "-bash", None),
            ("/usr/bin/cat", "cat /opt/job.sh", None),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(script(exe, &words).as_deref(), expected, "{line}");
        }
    }
}
