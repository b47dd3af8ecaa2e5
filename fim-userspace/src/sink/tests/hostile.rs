//! Names that attackers have tried, for every output.

use proptest::prelude::*;

use super::attributed;
use crate::core::entry::FileType;
use crate::core::event::{Record, State};

/// What attackers have tried, and random bytes, up to the 255 of a name.
pub fn names() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "a\r\nBcc: all@example.org\r\n\r\nbody",
        "\n.\r\nMAIL FROM:<x@y>",
        "</td><script>alert(1)</script><img src=x onerror=y>",
        "<!channel> <https://evil.example|click> *bold* _it_ `code` ~no~",
        "@everyone @here <@1234> **b** [x](https://evil.example) ||spoiler|| https://evil.example",
        "\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m",
        "\u{202e}gpj.exe\u{2066}\u{200f}\u{061c}",
        "a\u{2028}b\u{2029}c\u{85}d\u{feff}\u{ad}\u{e0041}\u{fff9}",
        "\"}],\"text\":\"<!everyone>\"}",
        "&To=%2B19005550000&Body=x",
        "=?utf-8?B?QmNjOiB4?=",
    ]);
    let known = known.prop_map(|name| name.as_bytes().to_vec());
    let random = prop::collection::vec(any::<u8>(), 1..255);
    let text = "\\PC{1,80}".prop_map(String::into_bytes);
    prop_oneof![known.clone(), random, text, (known.clone(), known).prop_map(|(a, b)| [a, b].concat())]
        .prop_map(|mut name| {
            name.truncate(255);
            name
        })
}

/// Characters that end a line, move a cursor, turn the direction, or cannot be seen.
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{61c}' | '\u{ad}')
        || ('\u{200b}'..='\u{200f}').contains(&c)
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2060}'..='\u{206f}').contains(&c)
        || ('\u{fff9}'..='\u{fffb}').contains(&c)
        || ('\u{e0000}'..='\u{e007f}').contains(&c)
}

/// Characters that end a line, move a cursor or turn the direction of writing.
pub fn is_breaking(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}')
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

/// A record that says this name wherever others choose what stands there, in the form in which records hold it.
pub fn named(name: &[u8]) -> Record {
    let text = crate::core::path::escape(name);
    let mut record = attributed();
    let event = &mut record.event;
    event.set_path(&[b"/etc/", name].concat());
    (event.old_path, event.watch) = (Some(text.clone()), Some(text.clone()));
    (event.error, event.host, event.authorised_by) = (Some(text.clone()), text.clone(), Some(text.clone()));
    event.message = Some(text.clone());
    for state in [&mut event.before, &mut event.after] {
        let target = Some(text.clone());
        *state = Some(State {
            kind: FileType::Symlink,
            sha256: None,
            size: 5,
            mode: "0777".into(),
            uid: 6,
            gid: 7,
            mtime: None,
            target,
            flags: None,
        });
    }
    if let Some(actor) = &mut event.actor {
        for field in [&mut actor.exe, &mut actor.comm, &mut actor.cwd, &mut actor.tty, &mut actor.container] {
            *field = Some(text.clone());
        }
        actor.cmdline = vec![text.clone(), text];
    }
    record
}
