//! How far a long command has come, with rate and time left: on standard error, and only where that is a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Between two drawings.
const PERIOD: Duration = Duration::from_millis(100);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Records,
}

/// How much is done of how much; no total while that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At {
    pub done: u64,
    pub total: Option<u64>,
}

/// Whether standard error is a terminal that can draw over what it has drawn.
pub fn wanted() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
    std::io::stderr().is_terminal() && !dumb
}

/// Does `work`, and shows meanwhile what `at` says. Nothing is left of it on the terminal afterwards.
pub fn shown<T>(what: &'static str, unit: Unit, at: &(dyn Fn() -> At + Sync), work: impl FnOnce() -> T) -> T {
    if !wanted() {
        return work();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_message(what);
    // Dropped when the work is done, or ends in a panic.
    let (working, ended) = bounded::<()>(0);
    std::thread::scope(|scope| {
        let drawing = &bar;
        scope.spawn(move || {
            let mut known = None;
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(PERIOD) {
                let At { done, total } = at();
                if known != Some(total) {
                    drawing.set_style(style(unit, total.is_some()));
                    known = Some(total);
                }
                // What grew since it was counted is no reason to stand at more than all.
                drawing.set_length(total.unwrap_or(done).max(done));
                drawing.set_position(done);
                drawing.tick();
            }
            drawing.finish_and_clear();
        });
        let out = work();
        drop(working);
        out
    })
}

fn style(unit: Unit, with_total: bool) -> ProgressStyle {
    let template = match (unit, with_total) {
        (Unit::Bytes, true) => {
            "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left"
        }
        (Unit::Bytes, false) => "{msg} {spinner} {binary_bytes}, {binary_bytes_per_sec}, {elapsed}",
        (Unit::Records, true) => "{msg} [{bar:30}] {pos} of {len}, {per_sec}, {eta} left",
        (Unit::Records, false) => "{msg} {spinner} {pos}, {per_sec}, {elapsed}",
    };
    // The templates are tested.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_sound() {
        for unit in [Unit::Bytes, Unit::Records] {
            for with_total in [true, false] {
                let bar = ProgressBar::hidden();
                bar.set_style(style(unit, with_total));
            }
        }
        // Not a terminal: the work is done and nothing else.
        assert_eq!(shown("reading", Unit::Bytes, &|| unreachable!("nobody asks"), || 7), 7);
    }
}
