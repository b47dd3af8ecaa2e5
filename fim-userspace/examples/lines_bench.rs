//! How long a comparison by lines takes at worst: `cargo xtask bench lines`. Ends with 1 when one takes over 100 ms.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use fim::core::linediff::{Comparison, compare};

#[path = "../tests/hostile/mod.rs"]
mod hostile;

const TARGET: Duration = Duration::from_millis(100);
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    let mut met = true;
    for (name, make, _) in hostile::CASES {
        let (mut worst, mut told) = (Duration::ZERO, "");
        for _ in 0..ROUNDS {
            let (old, new) = make();
            let begin = Instant::now();
            told = match compare(old, new) {
                Comparison::Lines(lines) => {
                    lines.unified();
                    "lines"
                }
                Comparison::Binary => "binary",
                Comparison::TooLarge => "too large",
            };
            worst = worst.max(begin.elapsed());
        }
        met &= worst < TARGET;
        println!("{name:<34} {told:<10} {:>7.1} ms at most in {ROUNDS} rounds", worst.as_secs_f64() * 1e3);
    }
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
