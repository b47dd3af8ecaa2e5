//! fim's own build, run and test commands: `cargo xtask --help`.
mod bench;
mod dist;
mod record;
mod run;
mod setup;
mod sh;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set up, run and test fim")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check and install what the build and the tests need
    Setup(setup::Options),
    /// Build fim and watch a demo tree (or PATH) in the foreground
    Run(run::Options),
    /// Run every check and every test there is
    Test(test::Options),
    /// Measure
    Bench(bench::Options),
    /// Build a .deb and an .rpm
    Dist(dist::Options),
    /// Make the recording anew that the README shows; needs node
    Record(record::Options),
    /// Run the end-to-end tests on real kernels, in virtual machines
    Vm(vm::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup(options) => setup::main(&options),
        Command::Run(options) => run::main(&options),
        Command::Test(options) => test::main(&options),
        Command::Bench(options) => bench::main(&options),
        Command::Dist(options) => dist::main(&options),
        Command::Record(options) => record::main(&options),
        Command::Vm(options) => vm::main(&options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
