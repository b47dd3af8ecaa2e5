//! Arguments, printing, exit codes; [`exits`] says what each code means for each command.

mod accept;
mod alert;
mod ask;
mod blame;
mod check;
mod config;
mod diff;
mod doctor;
mod exits;
mod explain;
mod generate;
mod import;
mod init;
pub mod json;
mod log;
mod maintenance;
mod metrics;
mod order;
mod output;
mod progress;
mod quarantine;
mod render;
mod report;
mod restore;
mod run;
mod seal;
mod show;
mod status;
#[cfg(test)]
mod tests;
mod vault;
mod versions;
mod view;
mod when;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{FromArgMatches, Parser, Subcommand};

use crate::config::{Config, DEFAULT_FILE};
use crate::sink::line::printable;

/// Knows what every watched file must be, who changed it, and puts it back.
#[derive(Debug, Parser)]
#[command(name = "fim", version, max_term_width = 100)]
struct Cli {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take the baseline: the present state of every watched file becomes the approved one
    Init {
        /// Replace the baseline that is there
        #[arg(long)]
        replace: bool,
        /// Approve only the watches that have no baseline yet, if there are any
        #[arg(long, conflicts_with = "replace")]
        missing: bool,
    },
    /// Watch in the foreground and put right what changes; prints `ready` once nothing can slip through
    Run {
        /// Carry nothing out: record what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Compare every watched file with the baseline, once; 1 when something differs
    Check(check::Args),
    /// Show what is approved against what is there, line by line; 1 when something differs
    Diff(diff::Args),
    /// Show one event in full: who, what, what was done, and which lines changed
    Show(show::Args),
    /// Show who last changed each line of a file, when and by which event
    Blame(blame::Args),
    /// Approve what is there now, or the version that an event saw; shows it and asks first
    Accept(accept::Args),
    /// Put the approved version back now, or make another one the approved one
    Restore(restore::Args),
    /// What was taken out of its place: look at it, put it back, remove it for good
    #[command(subcommand)]
    Quarantine(quarantine::Command),
    /// Open a time in which changes are meant to be, close it, see whether one is open
    #[command(subcommand)]
    Maintenance(maintenance::Command),
    /// Show whether fim watches, with what means, and what is wrong
    Status,
    /// Print what the running daemon counts and measures, in the text format of Prometheus
    Metrics,
    /// Show what holds for a path, and which line of the configuration says so; 1 when it is not watched
    Explain(explain::Args),
    /// Show what was recorded, or verify that it is untouched
    Log(Box<log::Args>),
    /// Set up the keys that prove the ledger
    Seal {
        #[command(subcommand)]
        action: seal::Action,
    },
    /// Tell an auditor of a period: what was watched, what changed, by whom, and whether the record is whole
    Report(report::Args),
    /// Look at, check and prune the kept copies: approved versions and evidence
    Vault(vault::Args),
    /// Show the configuration that is in force, or check one
    #[command(subcommand)]
    Config(config::Command),
    /// Translate the configuration of another tool
    #[command(subcommand)]
    Import(import::Command),
    /// Try the alerts, and see what waits to be sent
    #[command(subcommand)]
    Alert(alert::Command),
    /// Show what this kernel and these file systems let fim see, and what would let it see more
    Doctor,
    /// Make the change of the self-test; the daemon starts this
    #[command(hide = true)]
    Canary,
    /// Write the man pages and shell completions below a folder, for packages
    #[command(hide = true)]
    Generate {
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

use exits::{FAILED, REPORT};

pub fn main() -> ExitCode {
    // Wrong arguments end here, with a sentence and code 2; --help and --version with 0.
    let matches = exits::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    match dispatch(&cli) {
        Ok(code) => code,
        // `fim log | head` has printed all that was wanted.
        Err(e) if is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("fim: {}", sentence(&e));
            ExitCode::from(FAILED)
        }
    }
}

fn dispatch(cli: &Cli) -> anyhow::Result<ExitCode> {
    // Without a configuration.
    match &cli.command {
        Command::Canary => {
            crate::daemon::act_as_canary()?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Generate { dir } => {
            generate::write(dir)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Import(command) => return import::run(command, cli.json),
        // What is wrong with it is the answer.
        Command::Config(config::Command::Check) => return config::check(&cli.config, cli.json),
        // Perhaps with the configuration of another system.
        Command::Check(args) => return check::run(&cli.config, args, cli.json),
        // What is wrong with the configuration is one of its findings.
        Command::Doctor => return doctor::run(&cli.config, cli.json),
        _ => {}
    }
    if let Some(answered) = ask::instead(cli) {
        return answered;
    }
    let config = Config::load(&cli.config)?;
    match &cli.command {
        Command::Init { replace, missing } => init::run(&config, (*replace, *missing), cli.json),
        Command::Run { dry_run } => run::run(&config, *dry_run, cli.json),
        Command::Diff(args) => diff::run(&config, args, cli.json),
        Command::Show(args) => show::run(&config, args, cli.json),
        Command::Blame(args) => blame::run(&config, args, cli.json),
        Command::Accept(args) => accept::run(&config, args, cli.json),
        Command::Restore(args) => restore::run(&config, args, cli.json),
        Command::Quarantine(command) => quarantine::run(&config, command, cli.json),
        Command::Maintenance(command) => maintenance::run(&config, command, cli.json),
        Command::Status => status::run(&config, cli.json),
        Command::Metrics => metrics::run(&config, cli.json),
        Command::Explain(args) => explain::run(&config, args, cli.json),
        Command::Log(args) => log::run(&config, args, cli.json),
        Command::Report(args) => report::run(&config, args, cli.json),
        Command::Vault(args) => vault::run(&config, args, cli.json),
        Command::Seal { action } => seal::run(&config, action, cli.json),
        Command::Alert(command) => alert::run(&config, command, cli.json),
        Command::Config(command) => config::run(&config, command, cli.json),
        Command::Canary
        | Command::Generate { .. }
        | Command::Check(_)
        | Command::Doctor
        | Command::Import(_) => Ok(ExitCode::SUCCESS),
    }
}

/// The error and its causes, without those that are already part of what was said.
fn sentence(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.is_empty() {
            said = cause;
        } else if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    printable(&said)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |e: &(dyn std::error::Error + 'static)| e.downcast_ref::<io::Error>().map(io::Error::kind);
    error.chain().any(|e| kind(e) == Some(io::ErrorKind::BrokenPipe))
}
