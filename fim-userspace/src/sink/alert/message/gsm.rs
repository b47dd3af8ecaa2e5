//! How large a short message is: characters, encodings, segments (3GPP TS 23.038).

/// One septet each.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// An escape and one septet each.
const EXTENDED: &str = "\u{c}^{}\\[~]|€";

/// Of one message, and of each part of a longer one.
const GSM: (usize, usize) = (160, 153);
/// UTF-16 units.
const UCS2: (usize, usize) = (70, 67);

/// How many septets a character takes; `None` when it needs the other encoding.
pub fn septets(c: char) -> Option<usize> {
    if BASIC.contains(c) {
        Some(1)
    } else if EXTENDED.contains(c) {
        Some(2)
    } else {
        None
    }
}

/// How many messages the network makes of this text.
pub fn segments(text: &str) -> usize {
    let as_gsm: Option<Vec<usize>> = text.chars().map(septets).collect();
    match as_gsm {
        Some(sizes) => parts(&sizes, GSM),
        None => parts(&text.chars().map(char::len_utf16).collect::<Vec<_>>(), UCS2),
    }
}

/// No character is divided between two parts.
fn parts(sizes: &[usize], (alone, each): (usize, usize)) -> usize {
    if sizes.iter().sum::<usize>() <= alone {
        return 1;
    }
    let (mut count, mut used) = (1, 0);
    for size in sizes {
        if used + size > each {
            count += 1;
            used = 0;
        }
        used += size;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_the_standards() {
        assert_eq!(BASIC.chars().count(), 127, "all but the escape");
        assert_eq!(EXTENDED.chars().count(), 10);
        assert_eq!(
            (septets('a'), septets('é'), septets('\\'), septets('`'), septets('ж')),
            (Some(1), Some(1), Some(2), None, None)
        );
    }

    #[test]
    fn segments_are_counted_as_the_network_does() {
        let cases = [
            ("a".repeat(160), 1),
            ("a".repeat(161), 2),
            ("a".repeat(306), 2),
            ("a".repeat(307), 3),
            ("{".repeat(80), 1),
            ("{".repeat(81), 2),
            // 76 pairs fill 152 of 153 septets; the next one does not fit into the last.
            ("{".repeat(153), 3),
            ("ж".repeat(70), 1),
            ("ж".repeat(71), 2),
            (format!("{}ж", "a".repeat(69)), 1),
            ("😀".repeat(35), 1),
            // 33 pairs fill 66 of 67 units.
            ("😀".repeat(67), 3),
            (String::new(), 1),
        ];
        for (text, expected) in cases {
            assert_eq!(segments(&text), expected, "{} of {:?}", text.chars().count(), text.chars().next());
        }
    }
}
