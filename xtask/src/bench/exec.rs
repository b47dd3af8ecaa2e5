//! What an exec costs with the daemon beside it.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::sh;

#[derive(Args)]
pub struct Options {
    /// Length of each storm, seconds
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Storms without the daemon, and as many with it
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Highest tier of the daemon
    #[arg(long, default_value = "auto")]
    tier: String,
}

pub fn main(options: &Options) -> Result<ExitCode> {
    crate::setup::setup(false)?;
    let packages = ["build", "--release", "--package", "fim-userspace", "--package", "fim-tests"];
    sh::run(sh::cargo().args(packages).args(["--bin", "fim", "--bin", "fim-storm"]))?;
    let work = sh::target_dir().join("bench");
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let release = sh::target_dir().join("release");
    let mut command = sh::as_root(release.join("fim-storm"));
    command.arg("--fim").arg(release.join("fim")).arg("--work").arg(&work);
    command.args(["--tier", &options.tier]);
    command.arg("--seconds").arg(options.seconds.to_string());
    command.arg("--rounds").arg(options.rounds.to_string());
    match command.status().context("cannot start fim-storm")?.code() {
        Some(0) => Ok(ExitCode::SUCCESS),
        Some(1) => Ok(ExitCode::FAILURE),
        other => anyhow::bail!("fim-storm ended with {other:?}"),
    }
}
