//! What an exec costs with the daemon beside it, and what the daemon does meanwhile.
//!
//! Storms without and with the daemon take turns. The kernel itself counts the time in each of the daemon's programs
//! (`kernel.bpf_stats_enabled`, bpf(2)); it does so in storms of their own, since counting costs time too.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use fim_tests::fim::{Daemon, Fim, Policy, Setting};
use fim_tests::storm::{Blown, Storm};

const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";
const PATIENCE: Duration = Duration::from_secs(60);
/// Of a core, in percent.
const TARGET: f64 = 1.0;
/// `USER_HZ`: the unit of times in /proc/PID/stat.
const TICKS: f64 = 100.0;

#[derive(Debug, Parser)]
#[command(about)]
struct Args {
    /// The daemon's program, built for release.
    #[arg(long)]
    fim: PathBuf,
    /// A directory to work in.
    #[arg(long)]
    work: PathBuf,
    /// Length of each storm.
    #[arg(long, default_value = "20")]
    seconds: u64,
    /// Storms without the daemon, and as many with it.
    #[arg(long, default_value = "3")]
    rounds: u32,
    #[arg(long, default_value = "auto")]
    tier: String,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("fim-storm: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether the daemon stayed below its target.
fn run(args: &Args) -> Result<bool, String> {
    let setting = Setting {
        fim: args.fim.clone(),
        actor: PathBuf::new(),
        works: vec![args.work.clone()],
        tier: args.tier.clone(),
        expect_tier: String::new(),
        full: false,
        patience: PATIENCE,
    };
    let fim = Fim::new(&setting, &args.work, "storm", Policy::Alert)?;
    fs::write(fim.watched.join("quiet"), "quiet").map_err(|e| e.to_string())?;
    fim.init()?;
    let length = Duration::from_secs(args.seconds);
    let (mut without, mut with, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        without.push(blow(length)?.rate());
        let daemon = fim.start()?;
        let before = cpu_seconds(&daemon)?;
        let blown = blow(length)?;
        cpu.push((cpu_seconds(&daemon)? - before) / blown.time.as_secs_f64() * 100.0);
        with.push(blown.rate());
        daemon.stop(PATIENCE)?;
    }
    let daemon = fim.start()?;
    let tier = fim.status()?["tier"].as_str().unwrap_or("none").to_owned();
    let programs = counted(&daemon, length)?;
    daemon.stop(PATIENCE)?;
    fim.remove();

    let (without, with, cpu) = (median(without), median(with), median(cpu));
    println!("exec storm, {} rounds of {} s, tier {tier}", args.rounds, args.seconds);
    println!("  without the daemon  {without:8.0} execs a second");
    println!("  with the daemon     {with:8.0} execs a second, ratio {:.3}", with / without);
    println!("  programs in the kernel, for each exec: {programs:.0} ns (fork, exec and exit together)");
    let verdict = if cpu < TARGET { "met" } else { "MISSED" };
    println!("  the daemon's own processor time: {cpu:.2} % of a core (target: below {TARGET} %: {verdict})");
    Ok(cpu < TARGET)
}

fn blow(length: Duration) -> Result<Blown, String> {
    let storm = Storm::begin()?;
    std::thread::sleep(length);
    storm.end()
}

/// Nanoseconds that the daemon's programs ran for each exec.
fn counted(daemon: &Daemon, length: Duration) -> Result<f64, String> {
    let former = fs::read_to_string(STATS).map_err(|e| format!("{STATS} cannot be read: {e}"))?;
    fs::write(STATS, "1").map_err(|e| format!("{STATS} cannot be written: {e}"))?;
    let counted = run_time(daemon).and_then(|before| {
        let blown = blow(length)?;
        Ok((run_time(daemon)? - before) as f64 / blown.execs as f64)
    });
    fs::write(STATS, former).map_err(|e| format!("{STATS} cannot be put back: {e}"))?;
    counted
}

/// Nanoseconds that all programs the daemon holds have run, by /proc/PID/fdinfo (kernel/bpf/syscall.c,
/// `bpf_prog_show_fdinfo`).
fn run_time(daemon: &Daemon) -> Result<u64, String> {
    let folder = format!("/proc/{}/fdinfo", daemon.pid());
    let mut sum = 0;
    let mut counted = std::collections::HashSet::new();
    for entry in fs::read_dir(&folder).map_err(|e| format!("{folder}: {e}"))?.filter_map(Result::ok) {
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|value| value.trim().parse::<u64>().ok())
        };
        // A link to a program has its id too, but no time.
        if let (Some(id), Some(time)) = (field("prog_id"), field("run_time_ns"))
            && counted.insert(id)
        {
            sum += time;
        }
    }
    Ok(sum)
}

/// User and system time of all its threads.
fn cpu_seconds(daemon: &Daemon) -> Result<f64, String> {
    let path = format!("/proc/{}/stat", daemon.pid());
    let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    // The name may hold anything; it ends with the last parenthesis. Fields 14 and 15 of proc_pid_stat(5).
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 = rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
