//! Measures fim beside its peers and beside what the machine can do, in one run, and prints a table for people
//! (docs/performance.md). Each number is the median of several rounds in which all take their turn.

mod baseline;
mod burst;
mod foreground;
mod large;
mod latency;
mod limits;
mod machine;
mod peers;
mod process;
mod rounds;
mod setting;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use setting::{Scale, Setting};
use table::Table;

#[derive(Debug, Parser)]
#[command(about)]
struct Args {
    /// The daemon's program, built for release.
    #[arg(long)]
    fim: PathBuf,
    /// A folder to work in; all that is made in it is removed again.
    #[arg(long)]
    work: PathBuf,
    /// The large real tree; it is only read.
    #[arg(long, default_value = "/usr")]
    tree: PathBuf,
    /// Highest tier of the daemon.
    #[arg(long, default_value = "auto")]
    tier: String,
    /// Rounds of each measurement; by default 3, or 1 with --quick.
    #[arg(long)]
    rounds: Option<usize>,
    /// A tenth or less of everything: to see that it runs.
    #[arg(long)]
    quick: bool,
    /// Only these, by the name of the module: baseline, large, latency, burst, foreground.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the table goes, besides the terminal.
    #[arg(long)]
    markdown: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fim-measure: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let scale = if args.quick { Scale::quick() } else { Scale::full() };
    let real = |path: &PathBuf| path.canonicalize().map_err(|e| format!("{}: {e}", path.display()));
    let setting = Setting {
        fim: real(&args.fim)?,
        work: real(&args.work)?.join(format!("fim-measure-{}", std::process::id())),
        tree: real(&args.tree)?,
        tier: args.tier.clone(),
        rounds: args.rounds.unwrap_or(if args.quick { 1 } else { 3 }),
        scale,
    };
    std::fs::create_dir_all(&setting.work).map_err(|e| format!("{}: {e}", setting.work.display()))?;
    let mut table = Table::default();
    let outcome = all(&setting, &args.only, &mut table);
    // What cannot be removed is in the way of nobody but the disk.
    let _ = std::fs::remove_dir_all(&setting.work);
    let text = format!("{}\n{}", machine::describe(&setting), table.markdown());
    println!("\n{text}");
    if let Some(path) = &args.markdown {
        std::fs::write(path, &text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    outcome
}

/// A part that cannot be measured leaves a row that says why; the others go on.
fn all(setting: &Setting, only: &[String], table: &mut Table) -> Result<(), String> {
    type Part = fn(&Setting, &mut Table) -> Result<(), String>;
    let parts: [(&str, Part); 5] = [
        ("baseline", baseline::measure),
        ("large", large::measure),
        ("latency", latency::measure),
        ("burst", burst::measure),
        ("foreground", foreground::measure),
    ];
    let mut failed = Vec::new();
    for (name, part) in parts {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
            continue;
        }
        println!("== {name}");
        if let Err(error) = part(setting, table) {
            println!("{name}: {error}");
            table.failed(name, &error);
            failed.push(name);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("not measured to the end: {}", failed.join(", "))) }
}
