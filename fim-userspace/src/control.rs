//! What the commands say to a running daemon over `<state.dir>/control`, and what it answers: JSON, one object a line.
//!
//! The client sends one [`Envelope`]. The daemon answers with any number of [`Answer::Item`] and [`Answer::Refused`] and
//! closes with [`Answer::Done`] or [`Answer::Failed`]. The same requests are carried out without a daemon, see
//! [`daemon::hands`](crate::daemon::hands).

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::core::entry::{Digest, Entry};
use crate::core::path::escaped;

/// Raised when an older daemon could take a request for something else.
pub const PROTOCOL: u32 = 1;
/// Bytes of a request, newline included.
pub const REQUEST_LIMIT: usize = 1 << 20;
/// The socket's name in the state directory.
pub const SOCKET: &str = "control";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    pub protocol: u32,
    pub request: Request,
}

/// Apart, since some may read who may not act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Read(Read),
    Act(Act),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Read {
    /// Which daemon is it?
    Hello,
    /// A command that only reads, its words as on the command line; answered with [`Answer::Text`] and [`Answer::Ended`].
    Command { words: Vec<Word> },
    /// What is counted and measured, for Prometheus or as JSON; answered with [`Answer::Text`] and [`Answer::Ended`].
    Metrics { json: bool },
}

/// A word of a command line, as bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Word(#[serde(with = "escaped")] pub Vec<u8>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Make versions the approved ones, and put those there that are not.
    Approve { items: Vec<Approve>, way: Way, reason: Option<String> },
    /// Put the approved versions back.
    Restore { paths: Vec<AbsPath>, reason: Option<String> },
    /// Remove evidence for good; row ids.
    Purge { evidence: Vec<i64>, reason: Option<String> },
    /// Bring the vault within these limits: seconds, and bytes of all objects together.
    Prune { max_age: Option<u64>, max_size: Option<u64> },
    /// Open or close a maintenance window.
    Maintain(Maintain),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maintain {
    /// For so many seconds, in these watches as they are shown; none: in all.
    Start {
        seconds: u64,
        reason: String,
        watches: Vec<String>,
    },
    Stop {
        reason: Option<String>,
    },
}

/// By which command something is approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    Accept,
    Restore,
    /// Only where nothing is.
    Release,
}

impl Way {
    pub fn command(self) -> &'static str {
        match self {
            Self::Accept => "fim accept",
            Self::Restore => "fim restore",
            Self::Release => "fim quarantine release",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approve {
    pub path: AbsPath,
    pub version: Version,
    /// What is below it is decided about as well, each path by an item of its own.
    #[serde(default)]
    pub recursive: bool,
}

/// An absolute path, as bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AbsPath(#[serde(with = "escaped")] pub Vec<u8>);

/// Which state of a path is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// What is there now, and is still what the person was shown; see [`Version::present`].
    Present(Digest),
    /// Nothing is there now, and nothing is to be.
    Absent,
    /// Nothing is to be there, as the event with this number saw it; what is there is taken away.
    Gone(u64),
    /// A row of `evidence`.
    Evidence(i64),
    /// A row of `former`.
    Former(i64),
}

impl Version {
    /// The version that a path has now. A digest of all that was shown stands for it: attributes can be of any length.
    pub fn present(entry: &Entry) -> Self {
        // Nothing in an entry cannot be serialised.
        let shown = serde_json::to_vec(entry).unwrap_or_default();
        Self::Present(Digest(Sha256::digest(&shown).into()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    Hello {
        protocol: u32,
        version: String,
        pid: u32,
    },
    /// Done, and recorded under this number.
    Item {
        path: AbsPath,
        outcome: Outcome,
        seq: u64,
        id: String,
    },
    /// Already as it was to be: nothing done, nothing recorded.
    Same {
        path: AbsPath,
    },
    /// Not done, for this reason. The others go on.
    Refused {
        path: AbsPath,
        sentence: String,
    },
    /// The vault after a [`Act::Prune`]; sizes in bytes.
    Pruned(Pruned),
    /// A maintenance window was opened until then (RFC 3339), or closed.
    Window {
        id: u64,
        ends: Option<String>,
        sentence: String,
    },
    /// A piece of what a reading command prints.
    Text {
        text: String,
    },
    /// Its exit code, and what it says on standard error.
    Ended {
        code: u8,
        problem: Option<String>,
    },
    Done {
        done: u64,
        refused: u64,
    },
    /// Nothing was done at all, or nothing from here on.
    Failed {
        sentence: String,
    },
}

/// What left the vault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Objects that went; how many of all that were to go, for their age.
    pub removed: u64,
    pub by_age: u64,
    pub freed: u64,
    pub left: u64,
    /// What the present baseline needs.
    pub baseline: u64,
    /// What is above `max_size` and cannot go.
    pub over: u64,
    /// A sentence for each object that would not go.
    pub failed: Vec<String>,
    /// The number of the record; none where nothing had to go.
    pub seq: Option<u64>,
    /// All of it in one sentence.
    pub sentence: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Accepted,
    Restored,
    Released,
    Purged,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Restored => "restored",
            Self::Released => "released",
            Self::Purged => "purged",
        }
    }
}

impl Answer {
    pub fn is_last(&self) -> bool {
        matches!(
            self,
            Self::Hello { .. }
                | Self::Pruned(_)
                | Self::Window { .. }
                | Self::Ended { .. }
                | Self::Done { .. }
                | Self::Failed { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_survives_the_way_and_stays_on_one_line() {
        let path = AbsPath(b"/w/new\nline\xff\\".to_vec());
        let act = Act::Approve {
            items: vec![Approve { path, version: Version::Evidence(7), recursive: true }],
            way: Way::Accept,
            reason: Some("because\nof".into()),
        };
        let envelope = Envelope { protocol: PROTOCOL, request: Request::Act(act) };
        let text = serde_json::to_string(&envelope).expect("serialises");
        assert!(!text.contains('\n'));
        assert_eq!(serde_json::from_str::<Envelope>(&text).expect("reads back"), envelope);
    }

    #[test]
    fn only_the_closing_answers_close() {
        let path = AbsPath(b"/w/f".to_vec());
        assert!(!Answer::Refused { path: path.clone(), sentence: String::new() }.is_last());
        assert!(!Answer::Same { path }.is_last());
        assert!(Answer::Done { done: 1, refused: 2 }.is_last());
    }
}
