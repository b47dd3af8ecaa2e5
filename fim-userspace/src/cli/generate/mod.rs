//! `fim generate DIR`: man pages, shell completions and the reference, from the definitions that read the arguments.

mod man;
mod reference;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use crate::core::path::display;

/// Writes `DIR/reference.md`, `DIR/man/*.8`, `DIR/man/fim.toml.5` and `DIR/completions/fim.bash`, `_fim` and `fim.fish`; what has these names is replaced.
pub fn write(dir: &Path) -> anyhow::Result<()> {
    let what = || format!("the pages cannot be written to {}", display(dir));
    let pages = dir.join("man");
    fs::create_dir_all(&pages).with_context(what)?;
    for (name, page) in man::pages().with_context(what)? {
        fs::write(pages.join(name), page).with_context(what)?;
    }
    fs::write(dir.join("reference.md"), reference::text()).with_context(what)?;
    completions(&dir.join("completions")).with_context(what)
}

fn completions(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut visible(&Cli::command()), "fim", dir)?;
    }
    Ok(())
}

/// Without the commands that are for fim itself and for packages, which completions would offer.
fn visible(all: &clap::Command) -> clap::Command {
    clap::Command::new("fim")
        .version(env!("CARGO_PKG_VERSION"))
        .about(all.get_about().cloned().unwrap_or_default())
        .subcommand_required(true)
        .args(all.get_arguments().cloned())
        .subcommands(all.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned())
}
