//! `cargo xtask bench ledger`: runs `fim-userspace/examples/ledger_bench.rs` in release.
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::sh;

#[derive(Args)]
pub struct Options {
    /// Where the ledgers are made; needs about 1 KB for each row
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Records that are appended, as a flood of changes makes them
    #[arg(long, default_value_t = 1_000_000)]
    append: u64,
    /// Records of the ledger that is searched
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// Records of a ledger in which no path comes twice
    #[arg(long, default_value_t = 1_000_000)]
    paths: u64,
    /// Leave the ledger that is searched, and use it again next time
    #[arg(long)]
    keep: bool,
}

pub fn main(options: &Options) -> Result<ExitCode> {
    let dir = options.dir.clone().unwrap_or_else(|| sh::target_dir().join("bench-ledger"));
    let mut command = sh::cargo();
    command.args(["run", "--release", "-p", "fim-userspace", "--example", "ledger_bench", "--"]);
    command.arg(&dir).args([options.append, options.rows, options.paths].map(|n| n.to_string()));
    if options.keep {
        command.arg("keep");
    }
    sh::run(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
