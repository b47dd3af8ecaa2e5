//! Answers systemd's watchdog for as long as every loop of the daemon turns, and not a moment longer.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::pulse::{self, Pulse};

use super::notice::{Notice, Tell};

/// Looks within the time that systemd allows: the last answer and the one that is missing fit in as well.
const LOOKS: u32 = 4;

pub struct Watchdog {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Answers within `period`; without one nobody asks.
    pub fn start(period: Option<Duration>, tell: &Tell) -> anyhow::Result<Self> {
        let Some(period) = period else { return Ok(Self { stop: None, thread: None }) };
        let (stop, stopped) = bounded::<()>(0);
        let tell = tell.clone();
        let thread = std::thread::Builder::new()
            .name("fim-watchdog".into())
            .spawn(move || {
                let mut looks = Looks::default();
                while stopped.recv_timeout(period / LOOKS) == Err(RecvTimeoutError::Timeout) {
                    match looks.still(&pulse::all()) {
                        None => tell(Notice::Alive),
                        Some(name) => tracing::error!(
                            "the loop {name} stands still; systemd ends fim and starts it again if it stays so"
                        ),
                    }
                }
            })
            .context("the watchdog cannot be answered; raise the limits on processes and memory")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the watchdog's thread had failed; please report this");
        }
    }
}

/// What the loops had done when they were last looked at.
#[derive(Default)]
struct Looks(HashMap<*const Pulse, u64>);

impl Looks {
    /// A loop that has done nothing since the last look, if there is one.
    fn still(&mut self, pulses: &[Arc<Pulse>]) -> Option<&'static str> {
        let before = std::mem::take(&mut self.0);
        self.0 = pulses.iter().map(|pulse| (Arc::as_ptr(pulse), pulse.beats())).collect();
        let same = |pulse: &&Arc<Pulse>| before.get(&Arc::as_ptr(pulse)) == Some(&pulse.beats());
        pulses.iter().find(same).map(|pulse| pulse.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_moved_since_the_last_look_stands_still() {
        let _living = pulse::begin("test-watchdog");
        let own = || vec![pulse::own().expect("begun")];
        let mut looks = Looks::default();
        assert_eq!(looks.still(&own()), None, "seen for the first time");
        assert_eq!(looks.still(&own()), Some("test-watchdog"));
        pulse::beat();
        assert_eq!(looks.still(&own()), None);
    }
}
