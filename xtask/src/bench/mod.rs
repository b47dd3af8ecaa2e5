//! `cargo xtask bench`: how fast fim is, on this machine, with programs built for release. Without a further word: all of it
//! beside fim's peers and the machine's limits, as a table for docs/performance.md.
mod exec;
mod ledger;
mod lines;
mod restore;
mod table;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    table: table::Options,
}

#[derive(Subcommand)]
enum What {
    /// From the close of a writer to the file being right again, on this disk and on tmpfs
    Restore(restore::Options),
    /// What an exec costs with the daemon beside it, and what the daemon does in a storm of them
    Exec(exec::Options),
    /// How fast the ledger takes records, and answers when it is large
    Ledger(ledger::Options),
    /// How long a comparison by lines takes at worst
    Lines,
}

pub fn main(options: &Options) -> Result<ExitCode> {
    let Some(what) = &options.what else { return table::main(&options.table) };
    match what {
        What::Restore(options) => restore::main(options),
        What::Exec(options) => exec::main(options),
        What::Ledger(options) => ledger::main(options),
        What::Lines => lines::main(),
    }
}
