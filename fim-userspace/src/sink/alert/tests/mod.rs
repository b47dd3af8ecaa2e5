mod forms;
mod grouping;
mod hostile;
mod killed;
mod lines;
mod server;
mod smtp;
mod twilio;
mod webhook;

use std::sync::Mutex;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::*;
use crate::config::{Config, WebhookFormat};
use crate::core::event::{EventKind, Record};
use crate::core::policy::{Secrets, Severity};
use crate::core::route::{Route, Share};
use crate::sink::tests::{Running, events, ids, silent, sink_state, state, until};
use crate::sink::{Backoff, check, start};
use crate::store::Store;

/// A lane that is not yet at work.
struct Lane {
    plan: LanePlan,
    channel: Channel,
}

fn lane(name: &str, route: Route, channel: Channel) -> Lane {
    let share = Share::All;
    Lane {
        plan: LanePlan { name: name.into(), alert: name.into(), to: None, route, share, after: None },
        channel,
    }
}

fn webhook(server: &server::Server, format: WebhookFormat) -> Channel {
    let key = Some(Secret::new("key"));
    Channel::Webhook(Webhook::new(server.url.clone(), key, format).expect("a client"))
}

fn run(lane: Lane, dir: &Path) -> Running {
    run_telling(lane, dir, silent())
}

fn run_telling(lane: Lane, dir: &Path, report: Report) -> Running {
    let lane = super::Lane::new(lane.plan, lane.channel, secrets(), dir, report).expect("a lane");
    let lane = lane.with_backoff(Backoff::new(Duration::from_millis(2), Duration::from_millis(20)));
    Running::start(|grown, stop| tokio::spawn(lane.run(grown, stop)))
}

/// What every machine keeps to itself.
fn secrets() -> Secrets {
    Secrets::new(&[], std::iter::empty()).expect("patterns")
}

/// A report, and what it was told.
fn listener() -> (Report, Arc<Mutex<Vec<String>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let list = told.clone();
    let report: Report = Arc::new(move |sentence| {
        list.lock().expect("list").push(sentence);
        true
    });
    (report, told)
}
