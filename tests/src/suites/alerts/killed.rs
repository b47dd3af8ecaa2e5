//! kill -9 at random moments while alerts flow: every record reaches each receiver, in the ledger's order, and what comes
//! twice can be told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::{KEY, NUMBERS, Receivers, all_sent, facts, fim, ledger, text};
use crate::actor::Random;
use crate::fim::{Fim, Policy, Setting};
use crate::report::Outcome;
use crate::wait;

/// Changes of the last one are critical.
const FILES: u64 = 20;

pub fn killed(setting: &Setting, kills: u32, seed: u64) -> Outcome {
    let (fim, receivers) = (fim(setting, "alerts", Policy::Restore)?, Receivers::start()?);
    for n in 0..FILES {
        std::fs::write(fim.watched.join(format!("file{n}")), "approved").map_err(text)?;
    }
    // Nothing is muted, however often it is changed.
    let watch =
        format!("repeat_limit = 0\n[[watch.rule]]\npaths = [\"file{}\"]\nseverity = \"critical\"", FILES - 1);
    receivers.configure(&fim, &watch, ["group = \"0s\"", "group = \"0s\"", "group = \"1s\""])?;
    fim.init()?;
    let head = fim.log_head()?;
    let mut random = Random::new(seed);
    let mut daemon = fim.start()?;
    let writer = Writer::start(&fim.watched, random.below(u64::MAX));
    for round in 0..kills {
        let told =
            |e| format!("kill {round}, seed {seed}: {e}; everything is kept in {}", fim.home.display());
        if round % 5 == 4 {
            daemon.kill().map_err(told)?;
            daemon = fim.spawn(fim.command(&["run"])).map_err(told)?;
            moment(&mut random, 150_000);
        } else {
            let before = receivers.hook.seen().len();
            wait::until(setting.patience, || match receivers.hook.seen().len() > before {
                true => Ok(()),
                false => Err("nothing arrives any more".into()),
            })
            .map_err(told)?;
            moment(&mut random, 60_000);
        }
        daemon.kill().map_err(told)?;
        daemon = match (round + 1) % 5 {
            // The next one is killed before it is ready, too.
            4 => fim.spawn(fim.command(&["run"])).map_err(told)?,
            _ => fim.start().map_err(told)?,
        };
    }
    drop(daemon);
    let daemon = fim.start()?;
    writer.stop()?;
    wait::until(setting.patience, || fim.at_rest())?;
    all_sent(setting, &fim)?;
    daemon.stop(setting.patience)?;
    all_sent(setting, &fim)?;
    let remark = whole(&fim, &receivers, head)
        .map_err(|e| format!("seed {seed}: {e}; everything is kept in {}", fim.home.display()))?;
    fim.remove();
    Ok(remark)
}

/// The random moment is what is being tested; nothing waits for anything here.
fn moment(random: &mut Random, most_us: u64) {
    std::thread::sleep(Duration::from_micros(random.below(most_us)));
}

/// Somebody who changes files all the time, whether a daemon runs or not.
struct Writer {
    end: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Writer {
    fn start(watched: &Path, seed: u64) -> Self {
        let (end, watched) = (Arc::new(AtomicBool::new(false)), watched.to_owned());
        let ended = end.clone();
        let thread = std::thread::spawn(move || {
            let (mut random, mut files) = (Random::new(seed), 0..u64::MAX);
            while let (false, Some(n)) = (ended.load(Ordering::Relaxed), files.next()) {
                let path: PathBuf = watched.join(format!("file{}", random.below(FILES)));
                std::fs::write(path, format!("evil {n}"))?;
                moment(&mut random, 30_000);
            }
            Ok(())
        });
        Self { end, thread }
    }

    fn stop(self) -> Result<(), String> {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the writer failed")?.map_err(text)
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// Holds what everybody got against the ledger.
fn whole(fim: &Fim, receivers: &Receivers, head: u64) -> Result<String, String> {
    let records = ledger(fim, head)?;
    let hooks = webhook(receivers, &records)?;
    let texts = short_messages(receivers, &records)?;
    let mails = mail(receivers, &records)?;
    Ok(format!(
        "({} records, of them told twice: {hooks} by webhook, {texts} in short messages; {mails})",
        records.len()
    ))
}

/// Each record is there as the ledger has it, signed. How many came more than once.
fn webhook(receivers: &Receivers, records: &[Value]) -> Result<usize, String> {
    let seen = receivers.hook.seen();
    let (mut firsts, mut known) = (Vec::new(), HashSet::new());
    for request in &seen {
        let body: Value = serde_json::from_slice(&request.body).map_err(text)?;
        let id = request.header("x-fim-event-id").ok_or("a message without an id")?;
        if body["id"] != id || request.header("x-fim-signature") != Some(&signature(&request.body)) {
            return Err(format!("neither id nor signature may differ: {:?} {body}", request.headers));
        }
        if known.insert(id.to_owned()) {
            firsts.push(body);
        }
    }
    if let Some((got, due)) = firsts.iter().zip(records).find(|(got, due)| got != due) {
        return Err(format!("the webhook got {got} where the ledger has {due}"));
    }
    match firsts.len() == records.len() {
        true => Ok(seen.len() - firsts.len()),
        false => Err(format!("{} of {} records came to the webhook", firsts.len(), records.len())),
    }
}

fn signature(body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()) else { return String::new() };
    mac.update(body);
    mac.finalize().into_bytes().iter().fold("sha256=".to_owned(), |text, b| format!("{text}{b:02x}"))
}

/// Each number gets each record: its id's beginning and its number stand at the end of the text.
fn short_messages(receivers: &Receivers, records: &[Value]) -> Result<usize, String> {
    let forms = receivers.forms()?;
    let ids: HashMap<u64, &str> =
        records.iter().map(|r| (number(&r["seq"]), r["id"].as_str().unwrap_or_default())).collect();
    let mut twice = 0;
    for to in NUMBERS {
        let mut told = Vec::new();
        for form in forms.iter().filter(|form| form["To"] == to) {
            let body = form["Body"].as_str().unwrap_or_default();
            let (before, seq) =
                body.rsplit_once(" fim show ").ok_or_else(|| format!("no number in {body}"))?;
            let seq: u64 = seq.parse().map_err(|_| format!("no number in {body}"))?;
            let id =
                ids.get(&seq).ok_or_else(|| format!("{to} was told of what is not in the ledger: {body}"))?;
            if !before.ends_with(&id[..8]) {
                return Err(format!("record {seq} has the id {id}, not that of {body}"));
            }
            match told.contains(&seq) {
                true => twice += 1,
                false => told.push(seq),
            }
        }
        if !told.iter().eq(records.iter().map(|r| &r["seq"]).map(number).collect::<Vec<_>>().iter()) {
            return Err(format!(
                "{to} was told of {} records of {}, or in another order",
                told.len(),
                records.len()
            ));
        }
    }
    Ok(twice)
}

/// Mails tell of many records at once: what they cover has no gap, critical ones and others each for themselves.
fn mail(receivers: &Receivers, records: &[Value]) -> Result<String, String> {
    let (mut covered, mut ids) = (BTreeMap::<bool, u64>::new(), HashMap::new());
    let mails = receivers.mail.mails();
    for mail in &mails {
        let facts = facts(mail)?;
        let fact = |name: &str| facts.get(name).ok_or_else(|| format!("no {name} in {mail}"));
        let parse =
            |text: &str| text.replace(',', "").parse::<u64>().map_err(|_| format!("{text} is no number"));
        let (first, last, count) = match facts.get("ledger").and_then(|span| span.split_once(" to ")) {
            Some((first, last)) => (parse(first)?, parse(last)?, parse(fact("records")?)?),
            None => (parse(fact("record")?)?, parse(fact("record")?)?, 1),
        };
        let share = fact("severity")?.contains("critical");
        let own = |record: &&Value| (record["severity"] == "critical") == share;
        let within = |r: &&Value| (first..=last).contains(&number(&r["seq"]));
        let due = records.iter().filter(own).filter(within).count() as u64;
        let at = covered.entry(share).or_default();
        let missed =
            records.iter().filter(own).map(|r| number(&r["seq"])).find(|seq| *at < *seq && *seq < first);
        if due != count || missed.is_some() {
            return Err(format!(
                "a mail of {count} records from {first} to {last}; there are {due}, missed {missed:?}"
            ));
        }
        *at = last.max(*at);
        // The same records are the same message.
        let id = fact("Message-ID")?.clone();
        if ids.insert((share, first, last), id.clone()).is_some_and(|known| known != id) {
            return Err(format!("another id for the records from {first} to {last}: {id}"));
        }
    }
    for share in [false, true] {
        let last = records.iter().rev().find(|r| (r["severity"] == "critical") == share);
        let (due, at) = (last.map(|r| number(&r["seq"])), covered.get(&share).copied());
        if due != at {
            return Err(format!(
                "mails about critical records ({share}) end with {at:?}, the ledger with {due:?}"
            ));
        }
    }
    Ok(format!("{} mails, {} of them a second time", mails.len(), mails.len() - ids.len()))
}
