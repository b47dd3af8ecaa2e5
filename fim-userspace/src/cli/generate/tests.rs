use std::collections::BTreeSet;
use std::process::Command as Process;

use super::*;

#[test]
fn pages_and_completions_are_there_for_every_visible_command_and_for_no_hidden_one() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    write(dir.path()).expect("written");
    write(dir.path()).expect("and again");
    let names: BTreeSet<String> = fs::read_dir(dir.path().join("man"))
        .expect("a folder")
        .map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    for name in ["fim.8", "fim-check.8", "fim-log-verify.8", "fim-quarantine-release.8"] {
        assert!(names.contains(name), "{name} in {names:?}");
    }
    assert!(!names.contains("fim-canary.8") && !names.contains("fim-generate.8"), "{names:?}");
    let page = fs::read_to_string(dir.path().join("man/fim-check.8")).expect("a page");
    for words in [".TH fim-check 8", ".SH \"EXIT STATUS\"", "nothing differs from the baseline"] {
        assert!(page.contains(words), "{words} in {page}");
    }
    for name in ["fim.bash", "_fim", "fim.fish"] {
        let text = fs::read_to_string(dir.path().join("completions").join(name)).expect("a file");
        assert!(text.contains("quarantine") && text.contains("release"), "{name}");
        assert!(!text.contains("canary") && !text.contains("generate"), "{name}");
    }
}

#[test]
fn bash_takes_its_completions() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    write(dir.path()).expect("written");
    let script = r#"source "$1" && COMP_WORDS=(fim quarantine re) COMP_CWORD=2 && _fim fim re quarantine && echo "${COMPREPLY[*]}""#;
    let file = dir.path().join("completions/fim.bash");
    let out = Process::new("bash").args(["-c", script, "bash"]).arg(file).output().expect("bash runs");
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "release", "{out:?}");
}

fn docs() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

#[test]
fn the_reference_is_what_the_program_says() {
    let written = fs::read_to_string(docs().join("reference.md")).expect("docs/reference.md");
    assert!(
        written == reference::text(),
        "docs/reference.md is out of date: run `cargo run -p fim-userspace -- generate target/pages` and copy \
         target/pages/reference.md there"
    );
}

/// What stands in the docs as a command line of fim: `fim COMMAND …`, in code.
fn mentioned(text: &str) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            lines.extend(line.split(['#', ';', '|']).map(str::to_owned));
        } else {
            lines.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    let words = |line: String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    // `fim web1: …` is the beginning of a message.
    let message = |words: &Vec<String>| words.get(1).is_some_and(|word| word.ends_with(':'));
    let fim = |words: Vec<String>| match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fim", ..] => Some(words[1..].to_vec()),
        ["sudo", "fim", ..] => Some(words[2..].to_vec()),
        _ => None,
    };
    lines.into_iter().map(words).filter(|words| !message(words)).filter_map(fim).collect()
}

/// What is wrong with a command line: no such command, or no such flag of it.
fn wrong(words: &[String]) -> Option<String> {
    let root = Cli::command();
    let mut at = &root;
    let mut words = words.iter().map(|word| word.trim_matches(['[', ']', ',', '.', '"', '\'']));
    let mut flags: Vec<&str> = Vec::new();
    for word in &mut words {
        if word.starts_with('-') {
            flags.push(word);
        } else if let Some(sub) = at.find_subcommand(word) {
            at = sub;
        } else if std::ptr::eq(at, &root) && word.chars().all(|c| c.is_ascii_lowercase()) && flags.is_empty()
        {
            return Some(format!("there is no command {word}"));
        }
    }
    let known = |flag: &str| {
        let name = flag.trim_start_matches('-').split(['=', '|', '\\']).next().unwrap_or_default();
        let long = |command: &clap::Command| {
            command.get_arguments().any(|arg| {
                arg.get_long() == Some(name)
                    || arg.get_visible_aliases().unwrap_or_default().contains(&name)
                    || (!flag.starts_with("--") && arg.get_short().is_some_and(|c| name.starts_with(c)))
            })
        };
        matches!(name, "" | "help" | "version" | "V" | "h") || long(at) || long(&root)
    };
    flags.into_iter().find(|flag| !known(flag)).map(|flag| format!("{} has no {flag}", at.get_name()))
}

#[test]
fn every_command_line_in_the_docs_can_be_given() {
    let pages = fs::read_dir(docs()).expect("docs").map(|entry| entry.expect("an entry").path());
    let pages = pages.filter(|path| path.extension().is_some_and(|end| end == "md"));
    let (mut seen, mut faults) = (0, Vec::new());
    for page in pages.chain([docs().join("../README.md")]) {
        for words in mentioned(&fs::read_to_string(&page).expect("text")) {
            seen += 1;
            if let Some(why) = wrong(&words) {
                faults.push(format!("{}: `fim {}`: {why}", page.display(), words.join(" ")));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(seen > 80, "{seen}");
    let line = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert!(wrong(&line("chek --quick")).is_some() && wrong(&line("check --fast")).is_some());
}

#[test]
fn every_key_is_explained_in_the_docs() {
    let pages = ["config.md", "central.md"];
    let text: String =
        pages.iter().map(|page| fs::read_to_string(docs().join(page)).expect("text")).collect();
    for key in crate::config::keys::TABLES.iter().flat_map(|table| table.keys).flat_map(|keys| keys.0) {
        // The three ways to give a secret are explained together.
        let stem = ["_file", "_credential", "_env"].iter().find_map(|end| key.name.strip_suffix(end));
        let whole = text.contains(&format!("`{}`", key.name));
        let secret = stem.is_some_and(|stem| text.contains(&format!("`{stem}_…`")));
        let common = key.name.starts_with("repeat_");
        assert!(whole || secret || common || key.name == "rule", "{} is in none of {pages:?}", key.name);
    }
}
