//! Runs the end-to-end suites against a built `fim`. Needs root, and nothing but /proc, /sys, /dev and its own arguments.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use fim_tests::fim::Setting;
use fim_tests::report::{Report, say};
use fim_tests::suites;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    Table,
    Flood,
    Crash,
    BadInput,
    Silent,
    Hands,
    Race,
    Powercut,
    Faults,
    Clock,
    Logs,
    Lines,
    Who,
    Alerts,
    Trust,
    Cost,
    Service,
    Metrics,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scale {
    Quick,
    Full,
}

#[derive(Debug, Parser)]
#[command(about)]
struct Args {
    /// The daemon's program.
    #[arg(long)]
    fim: PathBuf,
    /// The program that makes the changes.
    #[arg(long)]
    actor: PathBuf,
    /// A directory on a file system to test; may be given several times.
    #[arg(long, required = true)]
    work: Vec<PathBuf>,
    /// Highest tier the daemon may use.
    #[arg(long, default_value = "auto", value_parser = ["auto", "lsm", "fentry", "tracepoint", "fanotify", "scan"])]
    tier: String,
    /// The tier it must then be running.
    #[arg(long, value_parser = ["lsm", "fentry", "tracepoint", "fanotify", "scan"])]
    expect_tier: String,
    /// Run only cases whose name (`suite/…/case`) contains this.
    #[arg(long)]
    case: Option<String>,
    #[arg(long, value_enum, value_delimiter = ',', default_value = "table,flood,crash,bad-input,hands")]
    suite: Vec<Suite>,
    #[arg(long, value_enum, default_value = "quick")]
    scale: Scale,
    /// Seconds a condition may take to come true; more where the kernel is emulated.
    #[arg(long, default_value = "60")]
    patience: u64,
    /// Swaps of the race suite, instead of what its scale says.
    #[arg(long)]
    swaps: Option<u64>,
    /// Kills of the crash and alerts suites, instead of what their scale says.
    #[arg(long)]
    kills: Option<u32>,
    /// The powercut suite only looks at what the last cut left.
    #[arg(long)]
    last_look: bool,
    /// Seed of what happens at random moments.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut report = Report::new(args.case.clone());
    if let Err(e) = run(args, &mut report) {
        report.outcome("setting", Duration::ZERO, Err(e));
    }
    if report.close() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(args: Args, report: &mut Report) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("the end-to-end tests start the daemon and change ids: run them as root".into());
    }
    // What the tests mount goes when they go.
    fim_tests::actor::private_mounts().map_err(|e| format!("no mount namespace of our own: {e}"))?;
    let real = |path: PathBuf| path.canonicalize().map_err(|e| format!("{}: {e}", path.display()));
    let setting = Setting {
        fim: real(args.fim)?,
        actor: real(args.actor)?,
        works: args.work.into_iter().map(real).collect::<Result<_, _>>()?,
        tier: args.tier,
        expect_tier: args.expect_tier,
        full: args.scale == Scale::Full,
        patience: Duration::from_secs(args.patience),
    };
    let clock =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
    let seed = args.seed.unwrap_or(clock);
    for suite in args.suite {
        match suite {
            Suite::Table => suites::table::run(&setting, report),
            Suite::Flood => suites::flood::run(&setting, report),
            Suite::Crash => suites::crash::run(&setting, report, args.kills, seed),
            Suite::BadInput => suites::bad_input::run(&setting, report),
            Suite::Silent => suites::silent::run(&setting, report),
            Suite::Hands => suites::hands::run(&setting, report),
            Suite::Powercut => suites::powercut::run(&setting, report, args.last_look, seed),
            Suite::Faults => suites::faults::run(&setting, report),
            Suite::Clock => suites::faults::run_clock(&setting, report),
            Suite::Race => suites::race::run(&setting, report, args.swaps, seed),
            Suite::Logs => suites::logs::run(&setting, report),
            Suite::Alerts => suites::alerts::run(&setting, report, args.kills, seed),
            Suite::Lines => suites::lines::run(&setting, report),
            Suite::Who => suites::who::run(&setting, report),
            Suite::Cost => suites::cost::run(&setting, report),
            Suite::Service => suites::service::run(&setting, report),
            Suite::Metrics => suites::metrics::run(&setting, report),
            Suite::Trust => suites::trust::run(&setting, report),
        }
    }
    say("");
    Ok(())
}
