use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

/// Nothing is ever delivered through it; it counts its pulses.
#[derive(Clone, Default)]
struct Quiet {
    pulses: Arc<AtomicUsize>,
    broken: Arc<AtomicBool>,
}

impl Sink for Quiet {
    fn name(&self) -> &str {
        "quiet"
    }

    async fn deliver(&mut self, records: &[Record]) -> Result<Delivered, SinkError> {
        Ok(Delivered::all(records))
    }

    fn pulse_period(&self) -> Option<Duration> {
        Some(Duration::from_millis(2))
    }

    async fn pulse(&mut self) -> Result<(), SinkError> {
        self.pulses.fetch_add(1, Ordering::SeqCst);
        match self.broken.load(Ordering::SeqCst) {
            true => Err(SinkError::Failed { reason: "nobody there".into(), retry_after: None }),
            false => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_sink_with_nothing_to_deliver_shows_that_it_is_there() {
    let dir = state();
    let store = Store::open(dir.path()).expect("a store");
    let quiet = Quiet::default();
    let sink = run(quiet.clone(), dir.path());
    let pulses = || quiet.pulses.load(Ordering::SeqCst);
    until(|| pulses() > 3, || format!("{} pulses", pulses())).await;
    quiet.broken.store(true, Ordering::SeqCst);
    until(|| sink_state(&store, "quiet").error.is_some(), || "a failure".into()).await;
    assert_eq!(sink_state(&store, "quiet").error.as_deref(), Some("nobody there"));
    quiet.broken.store(false, Ordering::SeqCst);
    until(|| sink_state(&store, "quiet").error.is_none(), || "a recovery".into()).await;
    sink.finish().await;
}
