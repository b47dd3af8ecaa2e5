//! Arguments, printing, exit codes: 0 all is well, 1 there is something to report, 2 the work could not be done.

mod check;
mod doctor;
mod init;
mod log;
mod run;
mod seal;
mod status;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    },
    /// Watch in the foreground and put right what changes; prints `ready` once nothing can slip through
    Run,
    /// Compare every watched file with the baseline, once; 1 when something differs
    Check,
    /// Show whether fim watches, with what means, and what is wrong
    Status,
    /// Show what was recorded, or verify that it is untouched
    Log(Box<log::Args>),
    /// Set up the keys that prove the ledger
    Seal {
        #[command(subcommand)]
        action: seal::Action,
    },
    /// Show what this kernel and these file systems let fim see, and what would let it see more
    Doctor,
}

/// Something to report.
const REPORT: u8 = 1;
/// The work could not be done.
const FAILED: u8 = 2;

pub fn main() -> ExitCode {
    // Wrong arguments end here, with a sentence and code 2; --help and --version with 0.
    let cli = Cli::parse();
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
    let config = Config::load(&cli.config)?;
    match &cli.command {
        Command::Init { replace } => init::run(&config, *replace, cli.json),
        Command::Run => run::run(&config, cli.json),
        Command::Check => check::run(&config, cli.json),
        Command::Status => status::run(&config, cli.json),
        Command::Log(args) => log::run(&config, args, cli.json),
        Command::Seal { action } => seal::run(&config, action, cli.json),
        Command::Doctor => doctor::run(&config, cli.json),
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
