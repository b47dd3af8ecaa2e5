//! `cargo xtask vm`: the end-to-end tests on real kernels, under QEMU's software emulation.
mod boot;
mod cpio;
mod cuts;
mod disks;
mod initramfs;
mod kernels;
mod mirror;
mod modules;
mod systemd;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde_json::json;

use crate::sh;
use boot::{Boot, Limits, Outcome};
use cuts::Cuts;
use initramfs::{Base, Programs};
use kernels::Kernel;

const TIERS: [&str; 4] = ["lsm", "fentry", "tracepoint", "fanotify"];
const FILE_SYSTEMS: [&str; 5] = ["/fs/ext4", "/fs/xfs", "/fs/btrfs", "/fs/tmpfs", "/fs/overlay"];

#[derive(Args, Default)]
pub struct Options {
    /// Only these kernels, such as 6.1,6.12
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub kernel: Vec<String>,
    /// A folder of your own kernels: NAME/vmlinuz and NAME/modules/ for each
    #[arg(long, env = "FIM_KERNELS", value_name = "DIR")]
    pub kernels: Option<PathBuf>,
    /// Only these tiers: lsm, fentry, tracepoint, fanotify
    #[arg(long, value_delimiter = ',', value_name = "TIERS")]
    pub tier: Vec<String>,
    /// Only the cases whose name contains this
    #[arg(long, value_name = "PATTERN")]
    pub case: Option<String>,
    /// A shell in the machine instead of the tests (the first kernel only)
    #[arg(long)]
    pub shell: bool,
    /// Only the package on a Debian 12 with systemd, from its installation to its purge (kernels 6.1 and 6.12)
    #[arg(long)]
    pub systemd: bool,
    /// Only power cuts: so many, on three file systems at once (the first kernel only)
    #[arg(long, value_name = "N")]
    pub cuts: Option<u32>,
    /// Seed of the power cuts' moments
    #[arg(long)]
    pub seed: Option<u64>,
    /// Machines at the same time
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub jobs: usize,
}

pub fn main(options: &Options) -> Result<ExitCode> {
    crate::setup::setup(true)?;
    let (passed, failed) = run(options)?;
    if options.shell {
        return Ok(ExitCode::SUCCESS);
    }
    if passed + failed == 0 {
        bail!("no case has such a name in the suites that were run");
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// (passed, failed) over all kernels.
pub fn run(options: &Options) -> Result<(u64, u64)> {
    if let Some(tier) = options.tier.iter().find(|tier| !TIERS.contains(&tier.as_str())) {
        bail!("{tier} is no tier; there are {}", TIERS.join(", "));
    }
    if options.systemd {
        return installed(options);
    }
    let kernels = kernels::kernels(&options.kernel, options.kernels.as_deref())?;
    let base = Base::new(&build()?)?;
    let lane = Lane { base, dir: sh::target_dir().join("vm") };
    boot::prepare(&lane.dir)?;
    let _lock = lane.lock()?;
    if options.shell {
        let kernel = kernels.into_iter().next().context("no kernel")?;
        let config = json!({ "shell": true, "bpf_lsm": true, "runs": [] }).to_string();
        lane.shell(&Boot { name: kernel.name.clone(), kernel, bpf_lsm: true, config })?;
        return Ok((0, 0));
    }
    let started = Instant::now();
    let jobs = jobs(&kernels, options);
    let outcomes = lane.all(jobs, options.jobs.max(1))?;
    report(&outcomes, started.elapsed());
    Ok((outcomes.iter().map(|(_, o)| o.passed).sum(), outcomes.iter().map(|(_, o)| o.failed).sum()))
}

/// The package, installed.
fn installed(options: &Options) -> Result<(u64, u64)> {
    let kernels = systemd::kernels(options)?;
    let payload = Arc::new(systemd::payload()?);
    let lane = Lane { base: systemd::base()?, dir: sh::target_dir().join("vm") };
    boot::prepare(&lane.dir)?;
    let _lock = lane.lock()?;
    let started = Instant::now();
    let jobs = kernels.into_iter().map(|kernel| Job::Installed(kernel, payload.clone())).collect();
    let outcomes = lane.all(jobs, options.jobs.max(1))?;
    report(&outcomes, started.elapsed());
    Ok((outcomes.iter().map(|(_, o)| o.passed).sum(), outcomes.iter().map(|(_, o)| o.failed).sum()))
}

fn build() -> Result<Programs> {
    sh::run(sh::cargo().args(["build", "--package", "fim-userspace", "--package", "fim-tests", "--bins"]))?;
    let dir = sh::target_dir().join("debug");
    let others = ["fim", "fim-e2e", "fim-actor"].map(|name| dir.join(name));
    Ok(Programs {
        init: dir.join("fim-vm-init"),
        others: others.into_iter().filter(|path| path.exists()).collect(),
    })
}

/// What one machine does from its first boot to its last.
enum Job {
    Tests(Boot),
    Cuts(Cuts),
    /// With what is to be installed.
    Installed(Kernel, Arc<Vec<u8>>),
}

/// The tests, and some power cuts where everything was asked for.
fn jobs(kernels: &[Kernel], options: &Options) -> Vec<Job> {
    let stock = kernels.iter().find(|kernel| kernel.name == "6.1").or(kernels.first());
    let cuts = |number| stock.map(|kernel| Job::Cuts(Cuts::new(kernel.clone(), number, options.seed)));
    if let Some(number) = options.cuts {
        return cuts(number).into_iter().collect();
    }
    let all = options.case.is_none() && options.tier.is_empty();
    let cuts = all.then(|| cuts(cuts::USUAL)).flatten();
    plan(kernels, options).into_iter().map(Job::Tests).chain(cuts).collect()
}

/// One boot a kernel for all tiers, and one without the BPF LSM for the tier that a stock Debian gets.
fn plan(kernels: &[Kernel], options: &Options) -> Vec<Boot> {
    let wanted = |tier: &str| options.tier.is_empty() || options.tier.iter().any(|name| name == tier);
    let mut boots = Vec::new();
    for kernel in kernels {
        let tiers: Vec<&str> = TIERS.into_iter().filter(|tier| wanted(tier)).collect();
        let mut runs: Vec<_> = self_check(options).into_iter().collect();
        // Volume and crashes hardly depend on the kernel: the default one of Debian 12 stands for all.
        let suites = |tier: &str| match (tier, kernel.name.as_str()) {
            ("lsm", "6.1") => "table,who,flood,crash,bad-input,silent,race,clock",
            ("lsm", _) => "table,who,bad-input,silent,race,clock",
            ("fanotify", _) => "table",
            _ => "table,who",
        };
        runs.extend(tiers.iter().map(|tier| e2e(tier, tier, tier, suites(tier), options)));
        boots.push(Boot {
            name: kernel.name.clone(),
            kernel: kernel.clone(),
            bpf_lsm: true,
            config: json!({ "bpf_lsm": true, "runs": runs }).to_string(),
        });
    }
    let stock = kernels.iter().find(|kernel| kernel.name == "6.1").or(kernels.first());
    if let Some(kernel) = stock.filter(|_| wanted("fentry")) {
        let mut runs: Vec<_> = self_check(options).into_iter().collect();
        runs.push(e2e("auto", "auto", "fentry", "table", options));
        boots.push(Boot {
            name: format!("{} without BPF LSM", kernel.name),
            kernel: kernel.clone(),
            bpf_lsm: false,
            config: json!({ "bpf_lsm": false, "runs": runs }).to_string(),
        });
    }
    boots
}

/// Not where one case was asked for: it would hide that none has its name.
fn self_check(options: &Options) -> Option<serde_json::Value> {
    let run = json!({ "name": "machine", "argv": ["/init", "--self-check"], "timeout_s": 60 });
    options.case.is_none().then_some(run)
}

fn e2e(name: &str, tier: &str, expected: &str, suites: &str, options: &Options) -> serde_json::Value {
    let mut argv = vec!["/usr/bin/fim-e2e", "--fim", "/usr/bin/fim", "--actor", "/usr/bin/fim-actor"];
    argv.extend(["--tier", tier, "--expect-tier", expected]);
    // lsm and fentry share their hooks, tracepoint and fanotify their events: one of each pair sees every file system.
    let everywhere = ["lsm", "tracepoint"].contains(&name);
    let works: &[&str] = if everywhere { &FILE_SYSTEMS } else { &["/fs/ext4", "/fs/btrfs"] };
    works.iter().for_each(|work| argv.extend(["--work", work]));
    argv.extend(["--suite", suites]);
    argv.extend(["--patience", "45"]);
    if let Some(case) = &options.case {
        argv.extend(["--case", case]);
    }
    json!({ "name": name, "argv": argv, "timeout_s": 1200, "may_be_empty": options.case.is_some() })
}

struct Lane {
    base: Base,
    dir: PathBuf,
}

impl Lane {
    /// Two lanes in one checkout would write to each other's disks.
    fn lock(&self) -> Result<Flock<File>> {
        let path = self.dir.join("lock");
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(lock),
            Err((_, Errno::EWOULDBLOCK)) => {
                bail!("machines of this checkout are running already; wait for them to end")
            }
            Err((_, error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    fn shell(&self, boot: &Boot) -> Result<()> {
        let dir = self.folder(boot)?;
        let initrd = self.initrd(boot, &dir)?;
        boot.interactive(&initrd, &disks::make(&dir)?)
    }

    /// The jobs in order, `jobs` at a time.
    fn all(&self, work: Vec<Job>, jobs: usize) -> Result<Vec<(String, Outcome)>> {
        let queue = Mutex::new(work.into_iter().enumerate());
        let done = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().ok().and_then(|mut queue| queue.next());
                        let Some((number, job)) = next else { break };
                        let (name, outcome) = match job {
                            Job::Tests(boot) => (boot.name.clone(), self.one(&boot)),
                            Job::Installed(kernel, payload) => {
                                (systemd::boot(&kernel).name, self.installed(&kernel, &payload))
                            }
                            Job::Cuts(cuts) => (cuts.name(), self.cuts(&cuts)),
                        };
                        if let Ok(mut done) = done.lock() {
                            done.push((number, name, outcome));
                        }
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        done.sort_by_key(|(number, ..)| *number);
        done.into_iter().map(|(_, name, outcome)| Ok((name, outcome?))).collect()
    }

    fn one(&self, boot: &Boot) -> Result<Outcome> {
        let dir = self.folder(boot)?;
        let initrd = self.initrd(boot, &dir)?;
        let disks = disks::make(&dir)?;
        let limits = Limits { silence: Duration::from_secs(300), overall: Duration::from_secs(25 * 60) };
        let outcome = boot.run(&initrd, &disks, dir.join("console.log"), &limits);
        for file in disks.iter().chain([&initrd]) {
            fs::remove_file(file)?;
        }
        outcome
    }

    fn folder(&self, boot: &Boot) -> Result<PathBuf> {
        let dir = self.dir.join(boot.name.replace(' ', "-"));
        boot::prepare(&dir)?;
        Ok(dir)
    }

    fn initrd(&self, boot: &Boot, dir: &std::path::Path) -> Result<PathBuf> {
        let path = dir.join("initramfs.cpio");
        let image = self.base.with_kernel(&boot.kernel.modules, &boot.config)?;
        fs::write(&path, image).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

fn report(outcomes: &[(String, Outcome)], took: Duration) {
    println!();
    for (name, outcome) in outcomes {
        println!(
            "kernel {name}: {} passed, {} failed in {} s, console in {}",
            outcome.passed,
            outcome.failed,
            outcome.took.as_secs(),
            outcome.log.display()
        );
        for line in outcome.runs.iter().chain(&outcome.problems) {
            println!("    {line}");
        }
    }
    println!("all kernels in {} s", took.as_secs());
}
