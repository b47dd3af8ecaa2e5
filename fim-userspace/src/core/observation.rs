//! One report from a sensor. Observations say where to look and who was there, never what is true.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::actor::Actor;
use super::path::RelPath;

/// Index of a `[[watch]]` in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WatchId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Fanotify,
    Ebpf,
    Scan,
}

/// What the sensor saw being done to the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Opened so that it can be written; nothing is written yet (eBPF, before the operation).
    OpenedForWrite,
    /// Mapped shared and writable, or made so by mprotect; stores leave no further trace.
    MappedForWrite,
    /// Content was written or truncated.
    Written,
    /// A writable descriptor was closed.
    Closed,
    Created,
    Deleted,
    /// Mode, owner, times, xattrs, ACL, flags or link count.
    Attributes,
    /// `path` is the new name; `from` the old one when it lies in the same watch. `from` of `None`: came from outside.
    MovedHere {
        from: Option<RelPath>,
    },
    /// Left this name for a place that is not watched.
    MovedAway,
    /// A new hard link to the file was made; `to` when it lies in the same watch.
    Linked {
        to: Option<RelPath>,
    },
    /// Something was mounted over the path.
    MountedOver,
    /// The scan found it different from the baseline.
    FoundDifferent,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    pub source: Source,
    pub watch: WatchId,
    pub path: RelPath,
    pub deed: Deed,
    /// The object is a directory, as far as the sensor knows.
    pub directory: bool,
    pub actor: Option<Arc<Actor>>,
    /// When the sensor learnt of it: nanoseconds since boot (`CLOCK_BOOTTIME`); the kernel's own clock for eBPF.
    pub at_ns: u64,
}

/// What goes from the sensors to the reconciler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    Observed(Observation),
    /// A whole watch was compared with its baseline.
    Scanned {
        watch: WatchId,
        files: u64,
        different: u64,
        /// What could not be read, one sentence each.
        unreadable: Vec<String>,
        /// How many directories and files the kernel would not report on, and why for the first.
        unmarked: u64,
        unmarked_why: Option<String>,
    },
    /// Something may have been missed: the watches (all when `None`) must be scanned again.
    Gap {
        source: Source,
        watch: Option<WatchId>,
        /// How many reports were lost, where the sensor knows.
        lost: Option<u64>,
        reason: String,
    },
    /// A scan could not be made; it is tried again.
    ScanFailed {
        watch: WatchId,
        reason: String,
    },
    /// Something is to be recorded as trouble of fim's own, in a sentence: a receiver of alerts that refuses for good, a
    /// configuration that is refused.
    Trouble(String),
    /// Nothing more will come from this sensor.
    Stopped {
        source: Source,
        reason: String,
    },
}
