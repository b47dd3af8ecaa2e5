//! Giving an order: to the daemon that runs, or carried out here where none does.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde::Serialize;

use super::FAILED;
use crate::config::Config;
use crate::control::{Act, Answer, REQUEST_LIMIT, Request};
use crate::core::path::{display, escape};
use crate::daemon::control::Client;
use crate::daemon::hands::{self, Alone, Person};
use crate::store::{EvidenceRow, Lock};

/// Items of one request: the daemon restores nothing while it carries one out.
const AT_ONCE: usize = 64;
/// Bytes of a request besides its items and its reason.
const ENVELOPE: usize = 512;

/// What became of all of it.
#[derive(Default)]
struct Tally {
    refused: bool,
    failed: Option<String>,
}

impl Tally {
    fn hear(&mut self, answer: &Answer, as_json: bool) {
        if as_json && let Ok(text) = serde_json::to_string(answer) {
            println!("{text}");
        }
        match answer {
            Answer::Item { path, outcome, seq, .. } if !as_json => {
                println!("{} {} (event {seq})", outcome.as_str(), escape(&path.0));
            }
            Answer::Window { sentence, .. } if !as_json => {
                println!("{}", crate::sink::line::printable(sentence))
            }
            Answer::Same { path } if !as_json => println!("{}: nothing differs", escape(&path.0)),
            Answer::Refused { path, sentence } => {
                self.refused = true;
                match path.0.is_empty() {
                    true => eprintln!("fim: {}", crate::sink::line::printable(sentence)),
                    false => {
                        eprintln!("fim: {}: {}", escape(&path.0), crate::sink::line::printable(sentence))
                    }
                }
            }
            Answer::Failed { sentence } => self.failed = Some(sentence.clone()),
            _ => {}
        }
    }
}

/// The same in requests that a daemon takes: none of too many items, and none too long.
fn requests(act: Act) -> Vec<Act> {
    match act {
        Act::Approve { items, way, reason } => {
            let act = |items| Act::Approve { items, way, reason: reason.clone() };
            chunks(items, &reason).into_iter().map(act).collect()
        }
        Act::Restore { paths, reason } => {
            let act = |paths| Act::Restore { paths, reason: reason.clone() };
            chunks(paths, &reason).into_iter().map(act).collect()
        }
        Act::Purge { evidence, reason } => {
            let act = |evidence| Act::Purge { evidence, reason: reason.clone() };
            chunks(evidence, &reason).into_iter().map(act).collect()
        }
        short @ (Act::Prune { .. } | Act::Maintain(_)) => vec![short],
    }
}

fn chunks<T: Serialize>(items: Vec<T>, reason: &Option<String>) -> Vec<Vec<T>> {
    let room = REQUEST_LIMIT.saturating_sub(ENVELOPE + length(reason));
    let (mut chunks, mut last, mut filled) = (Vec::new(), Vec::new(), 0);
    for item in items {
        // A comma follows.
        let length = length(&item) + 1;
        if !last.is_empty() && (last.len() == AT_ONCE || filled + length > room) {
            chunks.push(std::mem::take(&mut last));
            filled = 0;
        }
        filled += length;
        last.push(item);
    }
    chunks.extend(Some(last).filter(|last| !last.is_empty()));
    chunks
}

/// Bytes of `value` in a request.
fn length(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |text| text.len())
}

/// Carries the orders out one after the other. Exit codes: 0 all done, 2 something was refused.
pub fn give(config: &Config, acts: Vec<Act>, as_json: bool) -> anyhow::Result<ExitCode> {
    let mut tally = Tally::default();
    let mut acts = acts.into_iter().flat_map(requests);
    let mut next = acts.next();
    while let Some(act) = next.take() {
        let Some(client) = Client::connect(&config.state.dir)? else {
            alone(config, std::iter::once(act).chain(acts.by_ref()), as_json, &mut tally)?;
            break;
        };
        client.ask(Request::Act(act), &mut |answer| tally.hear(&answer, as_json))?;
        if tally.failed.is_some() {
            break;
        }
        next = acts.next();
    }
    match tally {
        Tally { failed: Some(sentence), .. } => bail!(sentence),
        Tally { refused: true, .. } => Ok(ExitCode::from(FAILED)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn alone(
    config: &Config,
    acts: impl Iterator<Item = Act>,
    as_json: bool,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let lock = Lock::acquire(&config.state.dir)
        .context("no daemon answers on the control socket, and the work cannot be done without it")?;
    let mut alone = Alone::open(config, lock)?;
    let person = Person::behind(std::process::id(), nix::unistd::getuid().as_raw());
    for act in acts {
        let mut desk = alone.desk();
        hands::carry_out(&mut desk, &act, &person, &mut |answer| tally.hear(&answer, as_json));
        desk.unrecorded.iter().flat_map(|entry| &entry.evidence).for_each(unrecorded);
        if tally.failed.is_some() {
            break;
        }
    }
    Ok(())
}

/// The next start takes up what still stands beside its place; until then nothing else tells of it.
fn unrecorded(row: &EvidenceRow) {
    let path = display(&row.path.below(&row.watch));
    let kept = row.digest.map_or_else(String::new, |digest| format!(" and is in the vault as {digest}"));
    eprintln!(
        "fim: what stood at {path} was taken away{kept}, which could not be recorded; start fim once the database works"
    );
}

/// Asks on the terminal; without one, or in scripts, `--yes` is needed.
pub fn confirm(question: &str, yes: bool) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        bail!("nobody can be asked, since standard input is no terminal; add --yes if this is what you want");
    }
    let mut out = std::io::stderr().lock();
    write!(out, "{question} [y/N] ").and_then(|()| out.flush()).context("the terminal cannot be written")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("the terminal cannot be read")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{AbsPath, Approve, Envelope, PROTOCOL, Version, Way};

    #[test]
    fn no_request_is_longer_than_the_daemon_takes() {
        let item = |n: i64| Approve {
            path: AbsPath([n.to_string().as_bytes(), &[0xff; 4_000]].concat()),
            version: Version::Evidence(n),
            recursive: true,
        };
        let items: Vec<Approve> = (0..200).map(item).collect();
        let short: Vec<i64> = (0..200).collect();
        let reason = Some("\u{1}".repeat(60_000));
        let long = Act::Approve { items: items.clone(), way: Way::Accept, reason: reason.clone() };
        let mut seen = Vec::new();
        for act in requests(long) {
            let envelope = Envelope { protocol: PROTOCOL, request: Request::Act(act.clone()) };
            assert!(length(&envelope) < REQUEST_LIMIT, "{} bytes", length(&envelope));
            let Act::Approve { items, .. } = act else { unreachable!("another order") };
            seen.extend(items);
        }
        assert_eq!(seen, items, "all of them, in their order");
        let sizes = |act| -> Vec<usize> {
            let count = |act: Act| if let Act::Purge { evidence, .. } = act { evidence.len() } else { 0 };
            requests(act).into_iter().map(count).collect()
        };
        assert_eq!(sizes(Act::Purge { evidence: short, reason }), [64, 64, 64, 8]);
        assert_eq!(sizes(Act::Purge { evidence: Vec::new(), reason: None }), [0; 0]);
    }
}
