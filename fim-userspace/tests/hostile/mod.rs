//! Pairs of contents that are hard to compare by lines, at the size of the bounds; and what is said of them.

use fim::core::linediff::MOST_BYTES;

pub type Make = fn() -> (Vec<u8>, Vec<u8>);

const MOST: usize = MOST_BYTES as usize;

pub const CASES: [(&str, Make, &str); 14] = [
    ("one line of 50 MiB", || (Vec::new(), vec![b'a'; 50 << 20]), "too large"),
    ("one line as long as may be", || (vec![b'b'; MOST], vec![b'a'; MOST]), "lines"),
    ("no line in common", || (numbers(120_000, 32, 1, 1 << 40), numbers(120_000, 33, 2, 1 << 40)), "lines"),
    (
        "lines in another order",
        || (numbers(120_000, 32, 1, 90_000), numbers(120_000, 32, 2, 90_000)),
        "too large",
    ),
    (
        "in an order that is not too far",
        || (numbers(5_000, 9, 1, 900), numbers(5_000, 9, 2, 900)),
        "too large",
    ),
    ("the same two lines", || (numbers(120_000, 2, 1, 2), numbers(120_000, 2, 2, 2)), "too large"),
    ("backwards", || (counted(0..120_000), counted((0..120_000).rev())), "too large"),
    ("empty lines", || (vec![b'\n'; MOST], vec![b'\n'; MOST - 1]), "lines"),
    ("ten million empty lines and none", || (Vec::new(), vec![b'\n'; 10_000_000]), "too large"),
    ("NULs", || (vec![0; MOST], vec![0; MOST - 1]), "binary"),
    ("invalid UTF-8", || (vec![0xff; MOST], vec![0xfe; MOST]), "lines"),
    ("lines of it", || ([0xff, b'\n'].repeat(120_000), [0xfe, b'\n'].repeat(120_000)), "lines"),
    (
        "UTF-16",
        || (wide(text(numbers(60_000, 32, 1, 1 << 40))), wide(text(numbers(60_000, 32, 2, 1 << 40)))),
        "lines",
    ),
    (
        "UTF-16 of long characters",
        || (wide("\u{4e00}".repeat(MOST / 2 - 1)), wide("\u{4e01}".repeat(MOST / 2 - 1))),
        "lines",
    ),
];

/// Lines of `length` bytes with numbers below `below`, different for each seed.
fn numbers(lines: usize, length: usize, seed: u64, below: u64) -> Vec<u8> {
    let mut state = seed;
    let mut out = Vec::with_capacity(lines * length);
    for _ in 0..lines {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let text = format!("{:0>width$}", (state >> 20) % below, width = length - 1);
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    }
    out
}

fn counted(numbers: impl Iterator<Item = u32>) -> Vec<u8> {
    numbers.flat_map(|n| format!("{n}\n").into_bytes()).collect()
}

fn text(content: Vec<u8>) -> String {
    String::from_utf8_lossy(&content).into_owned()
}

fn wide(text: String) -> Vec<u8> {
    [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect()
}
