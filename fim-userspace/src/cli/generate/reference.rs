//! `docs/reference.md`: every command, flag, key and exit code, from what the program itself goes by.

use std::fmt::Write as _;

use clap::{ArgAction, CommandFactory};

use super::Cli;
use crate::cli::{exits, json};
use crate::config::keys::{Key, TABLES};

const TOP: &str = "# Reference\n\n\
    Written by `fim generate` from the program itself; a test fails when the two differ. What the keys mean at length:\n\
    [config.md](config.md).\n";

pub fn text() -> String {
    let mut out = TOP.to_owned();
    // Writing to a String cannot fail.
    let _ = write(&mut out);
    out
}

fn write(out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "\n## Exit codes\n\nThe same for every command; what 0 and 1 mean for one stands with it.\n"
    )?;
    codes(out, &exits::CONTRACT)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    writeln!(out, "\n## Every command\n")?;
    arguments(out, &command, true)?;
    writeln!(
        out,
        "\nWith `--json` standard output carries objects only, one a line; keys are added, never renamed, and what is not known\n\
         is `null`. Only `fim run` says `ready` and `reloaded` among them. What goes wrong is told on standard error in a sentence.\n\
         Colour and progress are for terminals: neither goes into a pipe or to a terminal that is `dumb`, and there is no colour\n\
         where `NO_COLOR` is set."
    )?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        commands(out, sub, sub.get_name())?;
    }
    writeln!(out, "\n## Configuration")?;
    for table in TABLES {
        writeln!(out, "\n### `{}`\n\n{}\n\n| key | default | |\n|---|---|---|", table.heading, table.about)?;
        for Key { name, default, about } in table.keys.iter().flat_map(|keys| keys.0) {
            writeln!(out, "| `{name}` | {default} | {about} |")?;
        }
    }
    Ok(())
}

fn commands(out: &mut String, command: &clap::Command, path: &str) -> std::fmt::Result {
    if let Some(exits) = exits::of(path) {
        let usage = command.clone().render_usage().to_string();
        let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        writeln!(
            out,
            "\n## `fim {path}`\n\n{}.\n\n```\n{}\n```\n",
            about.trim_end_matches('.'),
            first(&usage)
        )?;
        arguments(out, command, false)?;
        shapes(out, path)?;
        codes(out, &exits)?;
    }
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        commands(out, sub, &format!("{path} {}", sub.get_name()))?;
    }
    Ok(())
}

/// What it prints with `--json`.
fn shapes(out: &mut String, path: &str) -> std::fmt::Result {
    let shapes = json::of(path).unwrap_or_default();
    if shapes.is_empty() {
        return Ok(());
    }
    writeln!(out, "| with `--json`, an object for | keys |\n|---|---|")?;
    let quoted = |keys: &[&str]| keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    for json::Shape { what, keys, more } in shapes {
        let more = if more.is_empty() { String::new() } else { format!("; not always: {}", quoted(more)) };
        writeln!(out, "| {what} | {}{more} |", quoted(keys))?;
    }
    writeln!(out)
}

fn first(usage: &str) -> &str {
    usage.lines().next().unwrap_or_default()
}

/// `global`: those of every command, and no others.
fn arguments(out: &mut String, command: &clap::Command, global: bool) -> std::fmt::Result {
    let of_clap = |arg: &&clap::Arg| {
        matches!(
            arg.get_action(),
            ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
        )
    };
    let args: Vec<&clap::Arg> = command
        .get_arguments()
        .filter(|arg| arg.is_global_set() == global && !arg.is_hide_set() && !of_clap(arg))
        .collect();
    if args.is_empty() {
        return Ok(());
    }
    writeln!(out, "| argument | |\n|---|---|")?;
    for arg in args {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let default = arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
        let default = default.filter(|_| !matches!(arg.get_action(), ArgAction::SetTrue));
        let default = default.map_or(String::new(), |value| format!(" (`{value}` unless given)"));
        writeln!(out, "| `{}` | {}{default} |", spelled(arg).replace('|', "\\|"), help.replace('|', "\\|"))?;
    }
    writeln!(out)
}

/// `-n, --lines <N>`.
fn spelled(arg: &clap::Arg) -> String {
    let short = arg.get_short().map(|c| format!("-{c}"));
    let long = arg.get_long().map(|name| format!("--{name}"));
    let aliases = arg.get_visible_aliases().unwrap_or_default().into_iter().map(|name| format!("--{name}"));
    let names: Vec<String> = short.into_iter().chain(long).chain(aliases).collect();
    let values: Vec<String> =
        arg.get_value_names().unwrap_or_default().iter().map(|name| format!("<{name}>")).collect();
    let values = if arg.get_action().takes_values() { values.join(" ") } else { String::new() };
    [names.join(", "), values].iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" ")
}

fn codes(out: &mut String, codes: &[(u8, &str)]) -> std::fmt::Result {
    writeln!(out, "| exit code | |\n|---|---|")?;
    codes.iter().try_for_each(|(code, means)| writeln!(out, "| {code} | {means} |"))
}
