//! What is counted as it happens: atomics, so that a reader never holds up the writer.

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts};

use super::page::Page;
use super::table::{self, Metric};
use crate::core::event::{Event, EventKind, Response, Verdict};

/// Seconds: a file that is right again takes about a millisecond, and a minute is a machine in trouble.
const BUCKETS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

const VERDICTS: [Option<Verdict>; 3] = [Some(Verdict::Authorised), Some(Verdict::Unauthorised), None];
const OUTCOMES: [Response; 5] =
    [Response::Restored, Response::Quarantined, Response::Deleted, Response::Failed, Response::Pending];

pub struct Counts {
    events: IntCounterVec,
    responses: IntCounterVec,
    gaps: IntCounter,
    detection: Histogram,
    restore: Histogram,
    record: Histogram,
}

impl Counts {
    /// Changes are there from the start, with 0: what appears with 1 is no increase to Prometheus.
    pub fn new() -> prometheus::Result<Self> {
        let counts = Self {
            events: counters(&table::EVENTS)?,
            responses: counters(&table::RESPONSES)?,
            gaps: IntCounter::with_opts(opts(&table::GAPS))?,
            detection: histogram(&table::DETECTION)?,
            restore: histogram(&table::RESTORE)?,
            record: histogram(&table::RECORD)?,
        };
        for kind in EventKind::ALL {
            let verdicts = if kind.is_change() { &VERDICTS[..2] } else { &VERDICTS[2..] };
            for verdict in verdicts {
                counts.events.with_label_values(&[kind.as_str(), shown(*verdict)]);
            }
            for outcome in OUTCOMES.iter().filter(|_| kind.is_change()) {
                counts.responses.with_label_values(&[kind.as_str(), outcome.as_str()]);
            }
        }
        Ok(counts)
    }

    pub fn count(&self, event: &Event, now_ns: u64) {
        let kind = event.kind.as_str();
        self.events.with_label_values(&[kind, shown(event.verdict)]).inc();
        if event.kind == EventKind::CoverageGap {
            self.gaps.inc();
        }
        if !event.kind.is_change() {
            return;
        }
        if event.response != Response::None {
            self.responses.with_label_values(&[kind, event.response.as_str()]).inc();
        }
        let latency = event.latency_us;
        if let Some(detected) = latency.detected {
            self.detection.observe(seconds(detected));
            if let Some(restored) = latency.restored {
                self.restore.observe(seconds(restored.saturating_sub(detected)));
            }
        }
        if let Some(done_ns) = latency.done_ns {
            self.record.observe(seconds(now_ns.saturating_sub(done_ns) / 1_000));
        }
    }

    pub fn put(&self, page: &mut Page) {
        page.counted(self.events.collect());
        page.counted(self.responses.collect());
        page.counted(self.gaps.collect());
        [&self.detection, &self.restore, &self.record].iter().for_each(|h| page.counted(h.collect()));
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn shown(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        Some(Verdict::Authorised) => "authorised",
        Some(Verdict::Unauthorised) => "unauthorised",
        None => "none",
    }
}

fn opts(metric: &Metric) -> Opts {
    Opts::new(metric.name, metric.help)
}

fn counters(metric: &Metric) -> prometheus::Result<IntCounterVec> {
    IntCounterVec::new(opts(metric), metric.labels)
}

fn histogram(metric: &Metric) -> prometheus::Result<Histogram> {
    Histogram::with_opts(HistogramOpts::from(opts(metric)).buckets(BUCKETS.to_vec()))
}
