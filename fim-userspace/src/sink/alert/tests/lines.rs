//! What a mail shows of a file's lines.

use super::super::lines::{Known, lines};
use super::*;
use crate::core::entry::Digest;
use crate::sink::tests::attributed;
use crate::store::lines::{Difference, Finished, Outcome, Pair, Side, Since};

fn side(line: u64, text: &str) -> Side {
    Side { line, lines: text.lines().count() as u64, text: Some(text.into()), digest: None }
}

/// A store with one compared record.
fn compared(path: &str) -> (tempfile::TempDir, Store, Record) {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("a store");
    let mut event = attributed().event;
    event.set_path(path.as_bytes());
    let record = store.append(&[event], &[]).expect("appended").remove(0);
    let pair = Pair { path: path.into(), before: Some(Digest([1; 32])), after: Some(Digest([2; 32])) };
    let difference = Difference {
        operation: "update".into(),
        old: side(3, "a < b\n"),
        new: side(3, "c\u{1b}[2J\nd\u{202e}\n"),
        omitted: None,
    };
    let links = [(record.seq, Since::Approved, pair.clone())];
    let finished = Finished { pair, outcome: Outcome::Lines, encodings: None, differences: vec![difference] };
    store.compare_finish(&[finished], &links).expect("written");
    (dir, store, record)
}

fn shown(store: &Store, record: &Record, config: &Config) -> Option<Vec<String>> {
    match lines(store, record.seq, &record.event, &config.secrets).expect("read") {
        Known::Soon => None,
        Known::Lines(lines) => Some(lines.iter().map(ToString::to_string).collect()),
    }
}

fn config(text: &str) -> Config {
    Config::parse(Path::new("fim.toml"), &format!("[[watch]]\npath = \"/etc\"\n{text}")).expect("valid")
}

#[test]
fn lines_are_shown_harmless_and_secret_ones_never() {
    let (_dir, mut store, record) = compared("/etc/motd");
    let open = config("");
    let expected = ["@@ -3 +3,2 @@", "-a < b", "+c\\x1b[2J", "+d\\u{202e}"];
    assert_eq!(shown(&store, &record, &open).as_deref(), Some(&expected.map(str::to_owned)[..]));
    let (_dir, secret, hidden) = compared("/etc/shadow");
    let told = shown(&secret, &hidden, &open).expect("compared");
    assert_eq!(told, ["@@ -3 +3,2 @@", "-(1 lines, secret)", "+(2 lines, secret)"]);
    let mut renamed = record.clone();
    renamed.event.old_path = Some("/etc/shadow".into());
    assert!(shown(&store, &renamed, &open).expect("compared").iter().all(|line| !line.contains("a < b")));
    // The sink that compares is there and has not come so far.
    store.cursor_set(crate::config::DIFFERENCES, 0).expect("a cursor");
    assert_eq!(shown(&store, &record, &open), None);
}
