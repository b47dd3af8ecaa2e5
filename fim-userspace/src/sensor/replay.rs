//! Recorded signals: one JSON object a line, written by a recorder and sent again by a replay.

use std::io::{self, BufRead, Write};

use crossbeam_channel::Sender;

use crate::core::observation::Signal;

/// A recording cannot be sent again as it is.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("the recording cannot be read ({0}); check the file")]
    Read(#[source] io::Error),
    #[error("line {line} of the recording is no signal ({source}); record it again or remove the line")]
    Line { line: usize, source: serde_json::Error },
    #[error("line {line} of the recording has no receiver any more; the reconciler has ended")]
    Closed { line: usize },
}

/// Writes signals down.
pub struct Recorder<W>(W);

impl<W: Write> Recorder<W> {
    pub fn new(out: W) -> Self {
        Self(out)
    }

    pub fn record(&mut self, signal: &Signal) -> io::Result<()> {
        let mut line = serde_json::to_vec(signal)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }

    pub fn into_inner(self) -> W {
        self.0
    }
}

/// Sends every recorded signal, in order, waiting for room; how many there were. Empty lines are passed over.
pub fn replay(recording: impl BufRead, out: &Sender<Signal>) -> Result<usize, ReplayError> {
    let mut sent = 0;
    for (index, bytes) in recording.split(b'\n').enumerate() {
        let (bytes, line) = (bytes.map_err(ReplayError::Read)?, index + 1);
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let signal = serde_json::from_slice(&bytes).map_err(|source| ReplayError::Line { line, source })?;
        out.send(signal).map_err(|_| ReplayError::Closed { line })?;
        sent += 1;
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::core::actor::{Actor, Confidence};
    use crate::core::observation::{Deed, Observation, Source, WatchId};
    use crate::core::path::RelPath;

    fn path() -> impl Strategy<Value = RelPath> {
        proptest::collection::vec(any::<u8>(), 0..12)
            .prop_filter_map("components hold no slash, NUL or dots alone", RelPath::new)
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            Just(Deed::OpenedForWrite),
            Just(Deed::MappedForWrite),
            Just(Deed::Written),
            Just(Deed::Closed),
            Just(Deed::Created),
            Just(Deed::Deleted),
            Just(Deed::Attributes),
            proptest::option::of(path()).prop_map(|from| Deed::MovedHere { from }),
            Just(Deed::MovedAway),
            proptest::option::of(path()).prop_map(|to| Deed::Linked { to }),
            Just(Deed::MountedOver),
            Just(Deed::FoundDifferent),
        ]
    }

    fn source() -> impl Strategy<Value = Source> {
        prop_oneof![Just(Source::Fanotify), Just(Source::Ebpf), Just(Source::Scan)]
    }

    fn actor() -> impl Strategy<Value = Arc<Actor>> {
        (proptest::option::of(any::<u32>()), proptest::option::of(any::<u32>()), ".{0,8}").prop_map(
            |(pid, uid, comm)| {
                Arc::new(Actor {
                    pid,
                    uid,
                    comm: Some(comm),
                    confidence: Confidence::Several,
                    ..Actor::unknown()
                })
            },
        )
    }

    fn signal() -> impl Strategy<Value = Signal> {
        let observed = (
            source(),
            any::<u32>(),
            path(),
            deed(),
            any::<bool>(),
            proptest::option::of(actor()),
            any::<u64>(),
        )
            .prop_map(|(source, watch, path, deed, directory, actor, at_ns)| {
                let watch = WatchId(watch);
                Signal::Observed(Observation { source, watch, path, deed, directory, actor, at_ns })
            });
        let gap = (
            source(),
            proptest::option::of(any::<u32>().prop_map(WatchId)),
            proptest::option::of(any::<u64>()),
            ".*",
        )
            .prop_map(|(source, watch, lost, reason)| Signal::Gap { source, watch, lost, reason });
        let stopped = (source(), ".*").prop_map(|(source, reason)| Signal::Stopped { source, reason });
        prop_oneof![4 => observed, 1 => gap, 1 => stopped]
    }

    proptest! {
        #[test]
        fn what_was_recorded_is_sent_again(signals in proptest::collection::vec(signal(), 0..8)) {
            let mut recorder = Recorder::new(Vec::new());
            for signal in &signals {
                recorder.record(signal).expect("memory takes it");
            }
            let recording = recorder.into_inner();
            let (out, seen) = crossbeam_channel::unbounded();
            prop_assert_eq!(replay(&recording[..], &out).expect("reads back"), signals.len());
            prop_assert_eq!(seen.try_iter().collect::<Vec<_>>(), signals);
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        let (out, _seen) = crossbeam_channel::unbounded();
        let mut recorder = Recorder::new(Vec::new());
        let signal = Signal::Stopped { source: Source::Ebpf, reason: "tested".into() };
        recorder.record(&signal).expect("memory takes it");
        let mut recording = recorder.into_inner();
        recording.extend(b"\n{\"observed\":7}\n");
        let error = replay(&recording[..], &out).expect_err("no signal");
        assert!(error.to_string().starts_with("line 3 of the recording is no signal"), "{error}");
    }
}
