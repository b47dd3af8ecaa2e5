//! What each command's exit codes mean: one table for the code, `--help`, the man pages and `docs/reference.md`.

use clap::CommandFactory;

use super::Cli;

/// Something to report: a difference, a problem, or an answer of "no".
pub const REPORT: u8 = 1;
/// The work could not be done, or not all of it.
pub const FAILED: u8 = 2;

/// What holds for every command.
pub const CONTRACT: [(u8, &str); 3] = [
    (0, "done, and nothing to report"),
    (REPORT, "done, and there is something to report: a change, a problem, or you answered no"),
    (FAILED, "the work could not be done, or not all of it; standard error says why"),
];

/// What 0 and 1 mean for a command; `None` where it never ends with 1.
struct Exits {
    command: &'static str,
    zero: &'static str,
    one: Option<&'static str>,
}

const fn exits(command: &'static str, zero: &'static str, one: &'static str) -> Exits {
    Exits { command, zero, one: Some(one) }
}

const fn always(command: &'static str, zero: &'static str) -> Exits {
    Exits { command, zero, one: None }
}

const TABLE: &[Exits] = &[
    exits("init", "everything watched is approved", "something could not be read and is not in the baseline"),
    always("run", "ended by SIGINT or SIGTERM"),
    exits("check", "nothing differs from the baseline", "something differs"),
    exits("diff", "nothing differs", "something differs"),
    always("show", "shown"),
    always("blame", "shown"),
    exits("accept", "approved, or there was nothing to approve", "you answered no; nothing was approved"),
    always("restore", "put back, or already as approved"),
    always("quarantine list", "listed"),
    always("quarantine show", "shown"),
    always("quarantine release", "released"),
    exits("quarantine purge", "removed", "you answered no; nothing was removed"),
    always("maintenance start", "the window is open"),
    always("maintenance stop", "the window is closed"),
    always("maintenance status", "shown"),
    exits("status", "fim watches and nothing is wrong", "something is wrong, or fim does not run"),
    always("metrics", "printed"),
    exits("explain", "every path is watched", "a path is not watched"),
    exits("log", "shown", "there is no record with this number or id"),
    exits("log verify", "nothing was changed", "a record was changed, removed or added"),
    always("seal setup", "sealing is set up"),
    always("report", "written"),
    exits("vault verify", "every object is whole", "an object is damaged or missing"),
    always("vault list", "listed"),
    exits("vault versions", "listed", "there is no copy of this path"),
    always("vault export", "written"),
    exits("vault prune", "the vault is within its limits", "something is above the limits and cannot go"),
    always("config show", "shown"),
    exits("config check", "sound", "there is a mistake in it"),
    exits(
        "import aide",
        "all was carried over",
        "something could not be carried over, or means something else here",
    ),
    exits("alert test", "every receiver took the message", "one did not"),
    always("alert queue", "shown"),
    exits(
        "doctor",
        "everything was looked at, and nothing is wrong",
        "there are problems; each is one sentence",
    ),
];

/// Every command that does something, named without `fim`.
#[cfg(test)]
pub fn commands() -> Vec<&'static str> {
    TABLE.iter().map(|row| row.command).collect()
}

/// What each code means for one command, named without `fim`; none for a group of commands.
pub fn of(command: &str) -> Option<Vec<(u8, &'static str)>> {
    let row = TABLE.iter().find(|row| row.command == command)?;
    let one = row.one.map(|one| (REPORT, one));
    Some([(0, row.zero)].into_iter().chain(one).chain([CONTRACT[2]]).collect())
}

/// The command line, with the exit codes in each command's `--help`.
pub fn command() -> clap::Command {
    with_codes(Cli::command().after_long_help(section(&CONTRACT)), "")
}

fn with_codes(mut command: clap::Command, above: &str) -> clap::Command {
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    for name in names {
        let path = if above.is_empty() { name.clone() } else { format!("{above} {name}") };
        command = command.mut_subcommand(&name, |sub| {
            let sub = with_codes(sub, &path);
            match of(&path) {
                Some(codes) => sub.after_long_help(section(&codes)),
                None => sub,
            }
        });
    }
    command
}

fn section(codes: &[(u8, &str)]) -> String {
    let lines: Vec<String> = codes.iter().map(|(code, means)| format!("  {code}  {means}")).collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command that does something, hidden ones left out.
    fn commands(command: &clap::Command, above: &str, out: &mut Vec<String>) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let path = format!("{above} {}", sub.get_name()).trim().to_owned();
            if !sub.is_subcommand_required_set() {
                out.push(path.clone());
            }
            commands(sub, &path, out);
        }
    }

    #[test]
    fn every_command_has_its_codes_and_no_code_is_of_a_command_that_is_gone() {
        let mut known = Vec::new();
        commands(&Cli::command(), "", &mut known);
        let mut listed: Vec<String> = TABLE.iter().map(|row| row.command.to_owned()).collect();
        known.sort();
        listed.sort();
        assert_eq!(known, listed);
    }

    #[test]
    fn help_says_the_codes() {
        let mut command = command();
        let help = command.find_subcommand_mut("check").expect("check").render_long_help().to_string();
        assert!(
            help.contains(
                "Exit codes:\n  0  nothing differs from the baseline\n  1  something differs\n  2  "
            ),
            "{help}"
        );
    }
}
