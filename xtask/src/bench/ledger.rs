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
}

pub fn main(options: &Options) -> Result<ExitCode> {
    let dir = options.dir.clone().unwrap_or_else(|| sh::target_dir().join("bench-ledger"));
    let mut command = sh::cargo();
    command.args(["run", "--release", "-p", "fim-userspace", "--example", "ledger_bench", "--"]);
    sh::run(command.arg(&dir).arg(options.append.to_string()).arg(options.rows.to_string()))?;
    Ok(ExitCode::SUCCESS)
}
