//! What the run prints: a line a case, and a last line that counts them.

use std::io::Write;
use std::time::{Duration, Instant};

pub type Outcome = Result<String, String>;

#[derive(Default)]
pub struct Report {
    passed: usize,
    failed: usize,
    pattern: Option<String>,
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
        say(format!("{word} {name} ({} ms) {remark}", took.as_millis()).trim_end());
    }

    /// Prints the closing line; whether nothing failed.
    pub fn close(&self) -> bool {
        if self.passed + self.failed == 0 {
            say("no case has that name");
        }
        say(&format!("{} passed, {} failed", self.passed, self.failed));
        self.failed == 0 && self.passed > 0
    }
}

/// One line, out at once: the reader of a serial console must see how far it came.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A closed stdout leaves nobody to tell.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
