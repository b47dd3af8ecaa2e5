//! What a refusal has to look like.

use std::process::Output;

/// What only programmers want to see.
const NOISE: &[&str] = &["panicked", "backtrace", "RUST_", "unwrap", "Some(", "Error {", "Caused by"];

/// Exit code 2, and one sentence that has all of `words`. Gives the sentence.
pub fn refused(output: Output, words: &[&str]) -> Result<String, String> {
    let said = one_sentence(&String::from_utf8_lossy(&output.stderr), words)?;
    match output.status.code() {
        Some(2) => Ok(format!("\"{said}\"")),
        _ => Err(format!("ended with {}, not with exit code 2: {said}", output.status)),
    }
}

/// Exactly one line that tells people something.
pub fn one_sentence(stderr: &str, words: &[&str]) -> Result<String, String> {
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let [line] = lines[..] else {
        return Err(format!("{} lines on stderr instead of one: {}", lines.len(), lines.join(" | ")));
    };
    if let Some(noise) = NOISE.iter().find(|n| line.contains(**n)) {
        return Err(format!("`{noise}` is nothing for people: {line}"));
    }
    match words.iter().find(|w| !line.contains(**w)) {
        Some(word) => Err(format!("`{word}` is not in the answer: {line}")),
        None if line.split_whitespace().count() < 4 => Err(format!("not a sentence: {line}")),
        None => Ok(line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_and_missing_words_are_refused() {
        let good = "fim: /x is not there; make it or take it out of the configuration\n";
        assert!(one_sentence(good, &["/x"]).is_ok());
        for (bad, words) in [
            (good, &["/y"][..]),
            ("", &[]),
            ("one line of words\nand a second one\n", &[]),
            ("thread 'main' panicked at src/main.rs:1\n", &[]),
            ("too short\n", &[]),
        ] {
            assert!(one_sentence(bad, words).is_err(), "{bad}");
        }
    }
}
