//! Everything, beside fim's peers: `fim-measure` writes the table, and it is put into docs/performance.md.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::{setup, sh};

const BEGIN: &str = "<!-- made by `cargo xtask bench`: begin -->\n";
const END: &str = "<!-- made by `cargo xtask bench`: end -->\n";

#[derive(Args)]
pub struct Options {
    /// A tenth or less of everything, to see that it runs; the document is left alone
    #[arg(long)]
    quick: bool,
    /// Rounds of each measurement
    #[arg(long)]
    rounds: Option<usize>,
    /// The large real tree; it is only read
    #[arg(long, default_value = "/usr")]
    tree: PathBuf,
    /// Where to work; needs room for a million small files
    #[arg(long)]
    work: Option<PathBuf>,
    /// Only these: baseline, large, latency, burst, foreground; the document is left alone
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

pub fn main(options: &Options) -> Result<ExitCode> {
    setup::setup(false)?;
    setup::peers();
    let packages =
        ["--package", "fim-userspace", "--package", "fim-tests", "--bin", "fim", "--bin", "fim-measure"];
    sh::run(sh::cargo().args(["build", "--release"]).args(packages))?;
    let work = options.work.clone().unwrap_or_else(|| sh::target_dir().join("bench"));
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let release = sh::target_dir().join("release");
    let made = sh::target_dir().join("performance.md");
    let mut command = sh::as_root(release.join("fim-measure"));
    command.arg("--fim").arg(release.join("fim")).arg("--work").arg(&work);
    command.arg("--tree").arg(&options.tree).arg("--markdown").arg(&made);
    if options.quick {
        command.arg("--quick");
    }
    if let Some(rounds) = options.rounds {
        command.args(["--rounds", &rounds.to_string()]);
    }
    if !options.only.is_empty() {
        command.args(["--only", &options.only.join(",")]);
    }
    sh::run(&mut command)?;
    if !options.quick && options.only.is_empty() {
        put(&sh::workspace().join("docs/performance.md"), &made)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Replaces what stands between the two markers; what people wrote around it stays.
fn put(document: &Path, made: &Path) -> Result<()> {
    let read =
        |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let (text, table) = (read(document)?, read(made)?);
    let lost = || format!("{} has lost its markers; put them back: {BEGIN}{END}", document.display());
    let (before, rest) = text.split_once(BEGIN).with_context(lost)?;
    let (_, after) = rest.split_once(END).with_context(lost)?;
    let text = format!("{before}{BEGIN}\n{table}\n{END}{after}");
    fs::write(document, text).with_context(|| format!("cannot write {}", document.display()))?;
    println!("the table is in {}", document.display());
    Ok(())
}
