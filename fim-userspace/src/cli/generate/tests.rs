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
