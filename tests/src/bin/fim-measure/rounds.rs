//! Several candidates measured in turn, so that what the machine does meanwhile meets all of them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A name, and what gives the seconds of one round.
pub type Candidate<'a> = (&'static str, Box<dyn FnMut() -> Result<f64, String> + 'a>);

/// Medians by candidate.
pub struct Medians(Vec<(&'static str, f64)>);

impl Medians {
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, median)| *median)
    }

    pub fn of(&self, name: &str) -> Result<f64, String> {
        self.get(name).ok_or_else(|| format!("{name} was not measured"))
    }
}

/// Whoever fails is left out, with a line that says why.
pub fn in_turn(rounds: usize, mut candidates: Vec<Candidate<'_>>) -> Medians {
    let mut times: Vec<Vec<f64>> = candidates.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for ((name, measure), times) in candidates.iter_mut().zip(&mut times) {
            match measure() {
                Ok(seconds) => {
                    println!("   {name}: {seconds:.4}");
                    times.push(seconds);
                }
                Err(error) => println!("   {name}: {error}"),
            }
        }
    }
    let named = candidates.iter().zip(times).filter(|(_, times)| !times.is_empty());
    Medians(named.map(|((name, _), times)| (*name, median(times))).collect())
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value below which this part of them lies.
pub fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = ((values.len() as f64 - 1.0) * part).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

pub fn timed<T>(work: impl FnOnce() -> Result<T, String>) -> Result<f64, String> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Seconds that a command takes; `accepted` are the exit codes that are no failure.
pub fn time_command(command: &mut Command, accepted: &[i32]) -> Result<f64, String> {
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let took = begun.elapsed();
    let output = output.map_err(|e| format!("{} cannot be run ({e})", command.get_program().display()))?;
    match output.status.code() {
        Some(code) if accepted.contains(&code) => Ok(took.as_secs_f64()),
        _ => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last = errors.lines().last().unwrap_or_default();
            Err(format!("{} ended with {}: {last}", command.get_program().display(), output.status))
        }
    }
}

pub fn shell(script: &str) -> Result<f64, String> {
    time_command(Command::new("sh").args(["-ec", script]), &[0])
}

pub fn wait_for(what: &str, limit: Duration, mut met: impl FnMut() -> bool) -> Result<(), String> {
    let begun = Instant::now();
    while !met() {
        if begun.elapsed() > limit {
            return Err(format!("{what}: not within {} s", limit.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
