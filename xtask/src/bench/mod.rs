//! `cargo xtask bench`: how fast fim is, on this machine, with programs built for release.
mod ledger;
mod lines;
mod restore;

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
    /// From the close of a writer to the file being right again, on this disk and on tmpfs
    Restore(restore::Options),
    /// How fast the ledger takes records, and answers when it is large
    Ledger(ledger::Options),
    /// How long a comparison by lines takes at worst
    Lines,
}

pub fn main(options: &Options) -> Result<ExitCode> {
    match &options.what {
        What::Restore(options) => restore::main(options),
        What::Ledger(options) => ledger::main(options),
        What::Lines => lines::main(),
    }
}
