//! What the kernel lets fim use.

use std::fmt;

/// How changes are seen and attributed, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// BPF programs as a security module: every operation at the moment it is made.
    Lsm,
    /// The same programs as probes on the kernel's security functions.
    Fentry,
    /// fanotify, with the kernel's own table of processes.
    Tracepoint,
    /// fanotify, with /proc.
    Fanotify,
    /// Nothing live: what scans find.
    Scan,
}

impl Tier {
    pub const ALL: [Tier; 5] = [Tier::Lsm, Tier::Fentry, Tier::Tracepoint, Tier::Fanotify, Tier::Scan];

    pub const fn as_str(self) -> &'static str {
        match self {
            Tier::Lsm => "lsm",
            Tier::Fentry => "fentry",
            Tier::Tracepoint => "tracepoint",
            Tier::Fanotify => "fanotify",
            Tier::Scan => "scan",
        }
    }

    /// The tier of this name; `None` for any other text.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.as_str() == name)
    }

    /// Whether eBPF programs report operations on files in this tier.
    pub const fn hooks_files(self) -> bool {
        matches!(self, Tier::Lsm | Tier::Fentry)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
