//! `cargo xtask bench`: figures, measured on this machine.
mod ledger;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// How fast the ledger takes records, and answers when it is large
    Ledger(ledger::Options),
}

pub fn main(options: &Options) -> Result<ExitCode> {
    match &options.what {
        What::Ledger(options) => ledger::main(options),
    }
}
