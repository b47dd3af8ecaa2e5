use proptest::prelude::*;

use super::*;

fn lines(old: &[u8], new: &[u8]) -> Lines {
    match compare(old.into(), new.into()) {
        Comparison::Lines(lines) => lines,
        other => panic!("{other:?}"),
    }
}

fn shown(old: &str, new: &str) -> String {
    let sign = |kind| match kind {
        LineKind::Hunk | LineKind::NoNewline => "",
        LineKind::Context => " ",
        LineKind::Removed => "-",
        LineKind::Added => "+",
    };
    let line = |l: Line| format!("{}{}\n", sign(l.kind), l.text);
    lines(old.as_bytes(), new.as_bytes()).unified().into_iter().map(line).collect()
}

#[test]
fn looks_as_diff_u_does() {
    let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n";
    let new = "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\nelf\n12";
    let expected = "@@ -1,3 +1,4 @@\n+0\n 1\n 2\n 3\n@@ -8,5 +9,5 @@\n 8\n 9\n 10\n-11\n-12\n+elf\n+12\n\\ No newline at end of file\n";
    assert_eq!(shown(old, new), expected);
    assert_eq!(shown("", "a\n"), "@@ -0,0 +1 @@\n+a\n");
    assert_eq!(shown("a\n", ""), "@@ -1 +0,0 @@\n-a\n");
    assert_eq!(shown("a\n", "a\n"), "");
    let middle = shown(&"x\n".repeat(1000), &format!("{}y\n{}", "x\n".repeat(500), "x\n".repeat(500)));
    assert_eq!(middle, "@@ -498,6 +498,7 @@\n x\n x\n x\n+y\n x\n x\n x\n");
}

#[test]
fn rows_tell_inserted_updated_and_deleted_lines() {
    let expected = [
        Row { kind: RowKind::Update, old: 1..2, new: 1..2 },
        Row { kind: RowKind::Insert, old: 4..4, new: 4..5 },
    ];
    let told = lines(b"a\nb\nc\nd\n", b"a\nB\nc\nd\ne\n");
    assert_eq!(told.rows, expected);
    assert_eq!((told.old.lines(&(1..2)), told.new.lines(&(1..2))), ("b\n".into(), "B\n".into()));
    let told = lines(b"a\nb\n", b"b\n");
    assert_eq!(told.rows, [Row { kind: RowKind::Delete, old: 0..1, new: 0..0 }]);
    let told = lines(b"a\nb", b"a\nb\n");
    assert_eq!(told.rows, [Row { kind: RowKind::Update, old: 1..2, new: 1..2 }]);
}

#[test]
fn a_change_in_a_long_text_is_found_and_has_its_number() {
    let line = |n: usize| format!("line {n}\n");
    let old: String = (0..200_000).map(line).collect();
    let new: String = (0..200_000).map(|n| if n == 150_000 { "other\n".into() } else { line(n) }).collect();
    let told = lines(old.as_bytes(), new.as_bytes());
    assert_eq!(told.rows, [Row { kind: RowKind::Update, old: 150_000..150_001, new: 150_000..150_001 }]);
    assert_eq!(told.old.lines(&told.rows[0].old), "line 150000\n");
}

#[test]
fn beyond_the_bounds_it_says_so() {
    let too_large = |old: &[u8], new: &[u8]| matches!(compare(old.into(), new.into()), Comparison::TooLarge);
    assert!(too_large(b"", &vec![b'a'; MOST_BYTES as usize + 1]));
    assert!(!too_large(b"", &vec![b'a'; MOST_BYTES as usize]));
    let empty = |lines: usize| vec![b'\n'; lines];
    assert!(!too_large(&empty(MOST_BYTES as usize - 1), &empty(MOST_BYTES as usize)));
    assert!(too_large(&[b"a", &empty(MOST_LINES + 1)[..], b"b"].concat(), b"c"));
    let other = |word: &str| (0..=MOST_ROWS).map(|n| format!("{n}\n{word}{n}\n")).collect::<String>();
    assert!(too_large(other("a").as_bytes(), other("b").as_bytes()));
    assert!(matches!(compare(b"a\n".into(), b"a\0\n".into()), Comparison::Binary));
}

fn apply(old: &[u8], new: &[u8], rows: &[Row]) -> Vec<u8> {
    let cut = |content: &'_ [u8]| -> Vec<Vec<u8>> {
        content.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
    };
    let (old, new) = (cut(old), cut(new));
    let (mut out, mut at) = (Vec::new(), 0);
    for row in rows {
        out.extend_from_slice(&old[at..row.old.start].concat());
        out.extend_from_slice(&new[row.new.clone()].concat());
        at = row.old.end;
    }
    out.extend_from_slice(&old[at..].concat());
    out
}

proptest! {
    #[test]
    fn the_rows_turn_old_into_new(old in "[ab\n]{0,60}", new in "[ab\n]{0,60}") {
        let told = lines(old.as_bytes(), new.as_bytes());
        prop_assert_eq!(apply(old.as_bytes(), new.as_bytes(), &told.rows), new.as_bytes());
        prop_assert_eq!(told.rows.is_empty(), old == new);
        for row in &told.rows {
            let kind = match (row.old.len(), row.new.len()) {
                (0, _) => RowKind::Insert,
                (_, 0) => RowKind::Delete,
                _ => RowKind::Update,
            };
            prop_assert_eq!(row.kind, kind);
        }
    }

    #[test]
    fn no_content_is_too_strange(old in proptest::collection::vec(any::<u8>(), 0..200),
                                 new in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Comparison::Lines(lines) = compare(old, new) {
            lines.unified();
        }
    }
}
