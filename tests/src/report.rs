//! What the run prints: a line a case, and a last line that counts them.

use std::io::Write;
use std::time::{Duration, Instant};

/// Characters of a remark that are printed.
const LONGEST: usize = 1500;

pub type Outcome = Result<String, String>;

#[derive(Default)]
pub struct Report {
    passed: usize,
    failed: usize,
    pattern: Option<String>,
    /// Prints nothing.
    #[cfg(test)]
    silent: bool,
}

impl Report {
    /// Only cases whose full name (`suite/…/case`) contains `pattern` are run.
    pub fn new(pattern: Option<String>) -> Self {
        Self { pattern, ..Self::default() }
    }

    pub fn wants(&self, name: &str) -> bool {
        self.pattern.as_ref().is_none_or(|p| name.contains(p.as_str()))
    }

    /// Runs one case, unless it was not asked for.
    pub fn case(&mut self, name: &str, body: impl FnOnce() -> Outcome) {
        if self.wants(name) {
            let start = Instant::now();
            let outcome = body();
            self.outcome(name, start.elapsed(), outcome);
        }
    }

    /// Counts and prints a case that was run elsewhere. `Ok` may hold a remark.
    pub fn outcome(&mut self, name: &str, took: Duration, outcome: Outcome) {
        let (word, remark) = match outcome {
            Ok(remark) => {
                self.passed += 1;
                ("ok  ", remark)
            }
            Err(reason) => {
                self.failed += 1;
                ("FAIL", reason)
            }
        };
        self.say(format!("{word} {name} ({} ms) {}", took.as_millis(), one_line(&remark)).trim_end());
    }

    /// Prints the closing line; whether nothing failed.
    pub fn close(&self) -> bool {
        if self.passed + self.failed == 0 {
            self.say("no case has that name");
        }
        self.say(&format!("{} passed, {} failed", self.passed, self.failed));
        self.failed == 0 && self.passed > 0
    }

    fn say(&self, line: &str) {
        // Whoever reads the output of unit tests looks for cases that failed.
        #[cfg(test)]
        if self.silent {
            return;
        }
        say(line);
    }
}

/// A remark may quote what a program printed; a case stays one line all the same.
fn one_line(remark: &str) -> String {
    let line = remark.trim().replace('\n', " | ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

/// One line, out at once: the reader of a serial console must see how far it came.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A closed stdout leaves nobody to tell.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_one_line_and_a_run_without_cases_is_no_success() {
        assert_eq!(one_line("a\nb\n"), "a | b");
        assert_eq!(one_line(&"é".repeat(2000)).chars().count(), LONGEST + 2);
        let mut report = Report { silent: true, ..Report::new(Some("/there".into())) };
        report.case("suite/elsewhere", || Ok(String::new()));
        assert!(!report.close());
        report.case("suite/there", || Ok(String::new()));
        assert!(report.close());
        report.case("suite/there", || Err("no".into()));
        assert!(!report.close());
    }
}
