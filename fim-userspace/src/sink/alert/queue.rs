//! What waits in the ledger for each lane, and why.

use jiff::Zoned;
use serde::Serialize;

use super::plan::{LanePlan, lanes};
use crate::config::Config;
use crate::core::digest::Mark;
use crate::core::route::{Hold, Moment};
use crate::store::{SinkState, Store, StoreError};

/// Records read from the ledger at once.
const PAGE: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    pub lane: String,
    /// Records that are to be sent.
    pub pending: u64,
    /// The first of them.
    pub oldest: Option<Mark>,
    /// One sentence; nothing where nothing waits.
    pub why: Option<String>,
    /// Refused for good, ever since the lane began.
    pub parked: u64,
    /// Why the last of those was.
    pub parked_reason: Option<String>,
}

/// Every lane of the configured alerts, in their order.
pub fn queue(config: &Config, store: &Store, now: &Zoned) -> Result<Vec<Waiting>, StoreError> {
    let states = store.sink_states()?;
    let known = |name: &str| states.iter().any(|state| state.name == name);
    let plans = config.alerts.iter().flat_map(|alert| lanes(alert, &known));
    plans
        .map(|plan| match states.iter().find(|state| state.name == plan.name) {
            Some(state) => waiting(&plan, state, store, now),
            None => Ok(Waiting {
                lane: plan.name,
                pending: 0,
                oldest: None,
                why: Some("it begins with the next start of fim".into()),
                parked: 0,
                parked_reason: None,
            }),
        })
        .collect()
}

fn waiting(plan: &LanePlan, state: &SinkState, store: &Store, now: &Zoned) -> Result<Waiting, StoreError> {
    let (mut seq, mut pending, mut oldest) = (state.cursor, 0, None);
    loop {
        let records = store.ledger_after(seq, PAGE)?;
        let Some(last) = records.last() else { break };
        seq = last.seq;
        let own = |event: &crate::core::event::Event| {
            plan.share.has(event.severity) && plan.route.takes(event, now.time_zone())
        };
        for record in records.iter().filter(|record| own(&record.event)) {
            pending += 1;
            oldest.get_or_insert_with(|| Mark {
                seq: record.seq,
                id: record.id.clone(),
                time: record.event.time.clone(),
            });
        }
    }
    let why = (pending > 0).then(|| reason(plan, state, now));
    let (parked, parked_reason) = (state.parked, state.parked_reason.clone());
    Ok(Waiting { lane: plan.name.clone(), pending, oldest, why, parked, parked_reason })
}

fn reason(plan: &LanePlan, state: &SinkState, now: &Zoned) -> String {
    if let Some(error) = &state.error {
        let since = state.error_at.as_deref().unwrap_or("an unknown time");
        return format!("failing since {since}, tried again: {error}");
    }
    let last = state.last_success.as_deref().and_then(|time| time.parse().ok());
    match plan.route.moment(plan.share, now, last) {
        Moment::Held(until, hold) => {
            let until = until.to_zoned(now.time_zone().clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
            match hold {
                Hold::QuietHours => format!("quiet hours until {until}"),
                Hold::Window => format!("gathered until {until}"),
            }
        }
        Moment::Now => "on its way".into(),
    }
}
