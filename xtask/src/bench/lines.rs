//! `cargo xtask bench lines`: runs `fim-userspace/examples/lines_bench.rs` in release.
use std::process::ExitCode;

use anyhow::Result;

use crate::sh;

pub fn main() -> Result<ExitCode> {
    let args = ["run", "--release", "-p", "fim-userspace", "--example", "lines_bench"];
    Ok(if sh::cargo().args(args).status()?.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
