//! How long files stay wrong.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::sh;

#[derive(Args)]
pub struct Options {
    /// Measure on the file system of this folder instead
    #[arg(long)]
    work: Option<PathBuf>,
    /// Highest tier of the daemon
    #[arg(long, default_value = "auto")]
    tier: String,
    /// Files that are altered one by one
    #[arg(long, default_value_t = 300)]
    gentle: u32,
    /// Files that are altered at once
    #[arg(long, default_value_t = 10_000)]
    burst: u32,
}

pub fn main(options: &Options) -> Result<ExitCode> {
    crate::setup::setup(false)?;
    sh::run(sh::cargo().args([
        "build",
        "--release",
        "--package",
        "fim-userspace",
        "--package",
        "fim-tests",
        "--bin",
        "fim",
        "--bin",
        "fim-bench",
    ]))?;
    let places = match &options.work {
        Some(work) => vec![work.clone()],
        None => vec![sh::target_dir().join("bench"), PathBuf::from("/dev/shm")],
    };
    let mut met = true;
    for place in places {
        fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
        met &= measure(options, &place)?;
    }
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the targets were met; the program prints the numbers.
fn measure(options: &Options, place: &Path) -> Result<bool> {
    let release = sh::target_dir().join("release");
    println!();
    let mut command = sh::as_root(release.join("fim-bench"));
    command.arg("--fim").arg(release.join("fim")).arg("--work").arg(place);
    command.args(["--tier", &options.tier]);
    command.arg("--gentle").arg(options.gentle.to_string());
    command.arg("--burst").arg(options.burst.to_string());
    let status = command.status().context("cannot start fim-bench")?;
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => anyhow::bail!("fim-bench ended with {status}"),
    }
}
