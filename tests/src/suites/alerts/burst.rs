//! Ten thousand changes are a handful of messages, and every one of them is in the ledger.

use std::collections::HashSet;

use serde_json::Value;

use super::{NUMBERS, Receivers, all_sent, facts, fim, ledger, text};
use crate::fim::{Policy, Setting};
use crate::report::Outcome;
use crate::state::count;
use crate::wait;

/// What goes at once, what has gathered meanwhile, critical records in a lane of their own, the end.
const HANDFUL: usize = 5;

pub fn burst(setting: &Setting, changes: u64) -> Outcome {
    let (fim, receivers) = (fim(setting, "burst", Policy::Alert)?, Receivers::start()?);
    let folders: Vec<_> = (0..20).map(|n| fim.watched.join(format!("d{n}"))).collect();
    folders.iter().try_for_each(std::fs::create_dir).map_err(text)?;
    // Short messages and mail gather as they do without a key.
    receivers.configure(&fim, "", ["group = \"1h\"", "", ""])?;
    fim.init()?;
    let head = fim.log_head()?;
    let daemon = fim.start()?;
    let paths: HashSet<String> = (0..changes)
        .map(|n| {
            let path = folders[n as usize % folders.len()].join(format!("new {n}"));
            std::fs::write(&path, "new").map(|()| path.display().to_string())
        })
        .collect::<Result<_, _>>()
        .map_err(text)?;
    let created = "SELECT count(*) FROM ledger WHERE kind = 'created'";
    wait::until(setting.patience * 3, || match count(&fim.state, created)? {
        all if all >= changes => fim.at_rest(),
        some => Err(format!("{some} of {changes} new files are in the ledger")),
    })?;
    // The end waits for no window.
    daemon.stop(setting.patience)?;
    all_sent(setting, &fim)?;
    let records = ledger(&fim, head)?;
    let recorded: HashSet<String> =
        records.iter().filter_map(|r| r["path"].as_str()).map(str::to_owned).collect();
    if let Some(path) = paths.iter().find(|path| !recorded.contains(*path)) {
        return Err(format!("the ledger does not know {path}"));
    }
    let hooks = receivers.hook.seen();
    let told = hooks.iter().map(|request| {
        let body: Value = serde_json::from_slice(&request.body).map_err(text)?;
        Ok(body["count"].as_u64().unwrap_or(1))
    });
    let told = told.sum::<Result<u64, String>>()?;
    let mails = receivers.mail.mails();
    let mailed = mails.iter().map(|mail| {
        let facts = facts(mail)?;
        facts.get("records").map_or(Ok(1), |count| count.replace(',', "").parse::<u64>().map_err(text))
    });
    let mailed = mailed.sum::<Result<u64, String>>()?;
    if (told, mailed) != (records.len() as u64, records.len() as u64) {
        return Err(format!("{told} records are told by webhook, {mailed} by mail, of {}", records.len()));
    }
    let forms = receivers.forms()?;
    let texts = NUMBERS.map(|to| forms.iter().filter(|form| form["To"] == to).count());
    let sizes = [hooks.len(), mails.len(), texts[0], texts[1]];
    if sizes.iter().any(|size| !(2..=HANDFUL).contains(size)) {
        return Err(format!("a handful of messages each: {sizes:?}"));
    }
    fim.remove();
    Ok(format!("({} records in {sizes:?} messages)", records.len()))
}
