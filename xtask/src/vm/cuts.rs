//! Power cuts: one machine booted again and again on the same disks, each time killed at a random moment of heavy work.
//!
//! Killing QEMU loses what the guest had not handed to its disks yet, as a power cut does. What it had handed over stays,
//! also where it had not asked for a flush: a disk with a cache that loses finished writes is not shown by this.
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde_json::json;

use super::boot::{Boot, Limits, Outcome};
use super::kernels::Kernel;
use super::{Lane, disks};

/// In `cargo xtask test`.
pub const USUAL: u32 = 3;

/// After the daemons have begun to respond, the cut comes within this time.
const LONGEST: u64 = 3000;

const FILE_SYSTEMS: [&str; 3] = ["/fs/ext4", "/fs/xfs", "/fs/btrfs"];

#[derive(Clone)]
pub struct Cuts {
    pub kernel: Kernel,
    pub number: u32,
    pub seed: u64,
}

impl Cuts {
    pub fn new(kernel: Kernel, number: u32, seed: Option<u64>) -> Self {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
        Self { kernel, number, seed: seed.unwrap_or(clock) }
    }

    pub fn name(&self) -> String {
        format!("{} power cuts", self.kernel.name)
    }

    fn boot(&self, last: bool, seed: u64) -> Boot {
        let seed = seed.to_string();
        let mut argv = vec!["/usr/bin/fim-e2e", "--fim", "/usr/bin/fim", "--actor", "/usr/bin/fim-actor"];
        argv.extend(["--tier", "fanotify", "--expect-tier", "fanotify", "--suite", "powercut"]);
        FILE_SYSTEMS.iter().for_each(|work| argv.extend(["--work", work]));
        argv.extend(["--patience", "120", "--seed", &seed]);
        if last {
            argv.push("--last-look");
        }
        let run = json!({ "name": "powercut", "argv": argv, "timeout_s": 600 });
        Boot {
            name: self.name(),
            kernel: self.kernel.clone(),
            bpf_lsm: false,
            config: json!({ "bpf_lsm": false, "runs": [run] }).to_string(),
        }
    }
}

impl Lane {
    /// All cuts and the look at what the last one left. The disks are kept where something was wrong.
    pub fn cuts(&self, cuts: &Cuts) -> Result<Outcome> {
        println!("[{}] seed {}", cuts.name(), cuts.seed);
        let mut random = cuts.seed.max(1);
        let dir = self.folder(&cuts.boot(false, 1))?;
        let disks = disks::make(&dir)?;
        let mut total = Outcome::default();
        for number in 0..=cuts.number {
            let last = number == cuts.number;
            let boot = cuts.boot(last, next(&mut random));
            let initrd = self.initrd(&boot, &dir)?;
            let moment = (!last).then(|| Duration::from_millis(next(&mut random) % LONGEST));
            let limits = Limits { silence: Duration::from_secs(300), overall: Duration::from_secs(600) };
            let one =
                boot.run_until(&initrd, &disks, dir.join(format!("console-{number}.log")), &limits, moment)?;
            let good = one.failed == 0;
            add(&mut total, one);
            if !good {
                total.problems.push(format!(
                    "after {number} cuts, seed {}: the disks are kept in {}",
                    cuts.seed,
                    dir.display()
                ));
                return Ok(total);
            }
            if !last {
                println!("[{}] cut {} of {}", cuts.name(), number + 1, cuts.number);
            }
            remove(&initrd)?;
        }
        disks.iter().try_for_each(|disk| remove(disk))?;
        total.runs.push(format!("{} power cuts on {}", cuts.number, FILE_SYSTEMS.join(", ")));
        Ok(total)
    }
}

fn add(total: &mut Outcome, one: Outcome) {
    total.passed += one.passed;
    total.failed += one.failed;
    total.problems.extend(one.problems);
    total.took += one.took;
    total.log = one.log;
}

fn remove(file: &Path) -> Result<()> {
    Ok(std::fs::remove_file(file)?)
}

/// xorshift64: the same moments for the same seed, as far as a machine repeats itself.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 8
}
