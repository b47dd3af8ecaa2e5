//! The approved version is put back now, whatever the policy of the watch.

use crate::control::{AbsPath, Answer, Outcome};
use crate::core::change::compare;
use crate::core::entry::FileType;
use crate::core::event::{Response, rfc3339};
use crate::core::plan::plan;
use crate::core::policy::PathPolicy;
use crate::daemon::act::unable;
use crate::daemon::clock::realtime_ns;
use crate::store::{Approval, Baseline};

use super::place::locate;
use super::{Desk, Refused};

pub fn restore(desk: &mut Desk<'_>, asked: &AbsPath, said: &str) -> Result<Answer, Refused> {
    let (watch, path) = locate(desk.watches, &asked.0).map_err(Refused::One)?;
    let Some(approved) = desk.store.baseline_get(watch.path(), &path)? else {
        return Err(Refused::one(
            "no version of it is approved, so there is none to put back; remove it, or accept it with `fim accept`",
        ));
    };
    let now = desk.look(&watch, &path)?;
    let Some(change) = compare(&path, Some(&approved.entry), now.as_ref()) else {
        return Ok(Answer::Same { path: asked.clone() });
    };
    let in_vault = approved.entry.sha256.is_none_or(|digest| desk.vault.contains(&digest));
    let plan = plan(&change, &PathPolicy::restore_everything(), in_vault);
    if let Some(why) = plan.unable {
        return Err(Refused::one(unable(why)));
    }
    let mut event = desk.record_of(&watch, &change, said);
    event.response = Response::Restored;
    let performed = desk.perform(&watch, &path, &plan.steps, &mut event)?;
    event.time = rfc3339(realtime_ns());
    let directory = approved.entry.kind == FileType::Directory;
    let right = desk.look(&watch, &path).ok().flatten().is_some_and(|now| now.entry == approved.entry);
    if directory || !right {
        desk.looks.push((watch.id, path.clone(), directory));
    }
    let decided = Approval {
        watch: watch.path().to_path_buf(),
        path,
        baseline: Baseline::Keep,
        event,
        evidence: Vec::new(),
        closes: None,
        released: None,
    };
    let record = desk.record(&watch, decided, performed)?;
    let (path, outcome) = (asked.clone(), Outcome::Restored);
    let answer = Answer::Item { path, outcome, seq: record.seq, id: record.id.clone() };
    desk.records.push(record);
    Ok(answer)
}
