//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// Asks `probe` until it answers `Ok`; after `patience`, its last complaint is the error.
pub fn until<T>(patience: Duration, mut probe: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let complaint = match probe() {
            Ok(value) => return Ok(value),
            Err(complaint) => complaint,
        };
        if start.elapsed() >= patience {
            return Err(format!("after {} s: {complaint}", patience.as_secs()));
        }
        // Only how often the condition is looked at; nothing depends on the length.
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_complaint_is_told_and_success_ends_it_at_once() {
        let mut calls = 0;
        let answer = until(Duration::from_secs(30), || {
            calls += 1;
            if calls < 4 { Err(calls.to_string()) } else { Ok(calls) }
        });
        assert_eq!(answer, Ok(4));
        let answer: Result<(), _> = until(Duration::ZERO, || Err("not there".into()));
        assert_eq!(answer, Err("after 0 s: not there".into()));
    }
}
