//! A line of the source, and what became of it.

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It means the same here.
    Carried,
    /// fim has its own way for it.
    Needless,
    /// It is there, and means something else.
    Changed,
    /// It is not there.
    Lost,
}

/// One line that says something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    pub file: String,
    pub line: usize,
    pub text: String,
    pub outcome: Outcome,
    /// What was written for it, where that is short.
    pub became: Vec<String>,
    /// What is different, or why it is not there.
    pub why: Vec<String>,
}

impl Line {
    pub fn note(&mut self, outcome: Outcome, why: impl Into<String>) {
        self.outcome = self.outcome.max(outcome);
        let why = why.into();
        if !self.why.contains(&why) {
            self.why.push(why);
        }
    }

    pub fn became(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.became.contains(&what) {
            self.became.push(what);
        }
    }

    /// `aide.conf:12: /etc$ Full`
    pub fn named(&self) -> String {
        let text = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{}:{}: {text}", self.file, self.line)
    }
}
