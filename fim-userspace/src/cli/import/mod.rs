//! `fim import`: the configuration of another tool as one of fim.

mod aide;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use super::REPORT;
use super::output::{Output, Taken};
use crate::config::Config;
use crate::core::path::display;
use aide::{Import, Outcome};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Translate an aide.conf, with what it includes; says of each line what became of it; 1 when not all could be carried over
    Aide(Args),
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The aide.conf
    #[arg(value_name = "AIDE.CONF", default_value = "/etc/aide/aide.conf")]
    file: PathBuf,
    /// Write the configuration to FILE instead of printing it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Run the programs that @@x_include names, as AIDE does, and take what they print
    #[arg(long)]
    execute: bool,
    /// Replace FILE
    #[arg(long, requires = "output")]
    force: bool,
}

pub fn run(command: &Command, as_json: bool) -> anyhow::Result<ExitCode> {
    let Command::Aide(args) = command;
    let file = display(&args.file);
    let import = Import::read(&args.file, args.execute)
        .with_context(|| format!("{file} cannot be read; name the aide.conf"))?;
    let text = aide::write(&import, &file);
    // Whatever was in the source, what is written is a configuration.
    if !import.watches.is_empty() {
        Config::parse(&args.file, &text).with_context(|| {
            format!("what was made of {file} is no sound configuration; report this with that file")
        })?;
    }
    let mut out = io::stdout().lock();
    if let Some(to) = &args.output {
        let taken = if args.force { Taken::File } else { Taken::Nothing };
        let mut output = Output::beside(to, taken)?;
        let failed = || format!("{} cannot be written", display(to));
        output.file.write_all(text.as_bytes()).with_context(failed)?;
        output.finish().with_context(failed)?;
    } else if !as_json {
        out.write_all(text.as_bytes())?;
    }
    if as_json {
        for line in &import.lines {
            writeln!(out, "{}", serde_json::to_string(line)?)?;
        }
    }
    out.flush()?;
    let count = |outcome| import.lines.iter().filter(|line| line.outcome == outcome).count();
    if import.is_whole() && !import.watches.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let (changed, lost) = (count(Outcome::Changed), count(Outcome::Lost));
    eprintln!(
        "fim: of {} lines {changed} mean something else now, {lost} are lost; the end of the configuration names them",
        import.lines.len()
    );
    if import.watches.is_empty() {
        eprintln!("fim: nothing that is left could be watched on this host, so this is no configuration yet");
    }
    Ok(ExitCode::from(REPORT))
}
