//! Man pages: one for `fim`, one for each command. Section 8, as for all that is for administrators.

use std::io;

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::Cli;
use crate::cli::exits;
use crate::config::DEFAULT_FILE;
use crate::config::keys::TABLES;

const SECTION: &str = "8";

/// Each page's file name and its text.
pub fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add(&command, "", &mut pages)?;
    pages.push(("fim.toml.5".into(), configuration()?));
    Ok(pages)
}

/// Every key of the configuration.
fn configuration() -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let mut roff = Roff::new();
    let source = format!("fim {}", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["fim.toml", "5", "", source.as_str(), "fim, file integrity monitor"]);
    roff.control("SH", ["NAME"]).text([roman("fim.toml - configuration of fim(8)")]);
    roff.control("SH", ["DESCRIPTION"]).text([roman(
        "TOML. At least one [[watch]] with a path is needed; unknown keys are refused with their line. \
         `fim config show` prints what is in force, `fim explain PATH` what holds for a path.",
    )]);
    for table in TABLES {
        roff.control("SH", [table.heading.to_uppercase().as_str()]).text([roman(plain(table.about))]);
        for key in table.keys.iter().flat_map(|keys| keys.0) {
            let text = format!("{} Default: {}.", ended(key.about), plain(key.default));
            roff.control("TP", []).text([bold(key.name)]).text([roman(text)]);
        }
    }
    roff.to_writer(&mut page)?;
    Ok(page)
}

/// Without the marks of Markdown.
fn plain(text: &str) -> String {
    text.replace('`', "")
}

fn ended(text: &str) -> String {
    let text = plain(text);
    if text.ends_with('.') { text } else { format!("{text}.") }
}

fn add(command: &clap::Command, path: &str, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let below: Vec<&clap::Command> = command.get_subcommands().filter(|sub| !sub.is_hide_set()).collect();
    for sub in &below {
        add(sub, format!("{path} {}", sub.get_name()).trim(), pages)?;
    }
    let man = Man::new(command.clone())
        .section(SECTION)
        .source(format!("fim {}", env!("CARGO_PKG_VERSION")))
        .manual("fim, file integrity monitor");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if !below.is_empty() {
        man.render_subcommands_section(&mut page)?;
    }
    ending(path, &below).to_writer(&mut page)?;
    pages.push((man.get_filename(), page));
    Ok(())
}

/// What clap does not know: exit status, files, and where to read on.
fn ending(path: &str, below: &[&clap::Command]) -> Roff {
    let mut roff = Roff::new();
    let codes = if path.is_empty() { Some(exits::CONTRACT.to_vec()) } else { exits::of(path) };
    if let Some(codes) = codes {
        roff.control("SH", ["EXIT STATUS"]);
        for (code, means) in codes {
            roff.control("TP", []).text([bold(code.to_string())]).text([roman(means)]);
        }
    }
    if path.is_empty() {
        roff.control("SH", ["FILES"]);
        for (file, what) in [
            (DEFAULT_FILE, "the configuration"),
            ("/var/lib/fim", "baseline, ledger and vault, where [state] dir names no other folder"),
        ] {
            roff.control("TP", []).text([bold(file)]).text([roman(what)]);
        }
    }
    let above = match path.rsplit_once(' ') {
        Some((above, _)) => Some(format!("fim-{}", above.replace(' ', "-"))),
        None if path.is_empty() => None,
        None => Some("fim".to_owned()),
    };
    let own = if path.is_empty() { "fim".to_owned() } else { format!("fim-{}", path.replace(' ', "-")) };
    let others = above.into_iter().chain(below.iter().map(|sub| format!("{own}-{}", sub.get_name())));
    let mut named: Vec<Inline> = Vec::new();
    for other in others {
        if !named.is_empty() {
            named.push(roman(", "));
        }
        named.extend([bold(other), roman(format!("({SECTION})"))]);
    }
    if path.is_empty() {
        named.extend([roman(", "), bold("fim.toml"), roman("(5)")]);
    }
    if !named.is_empty() {
        roff.control("SH", ["SEE ALSO"]).text(named);
    }
    roff
}
