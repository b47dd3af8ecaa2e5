//! Drives one lane: one receiver, one cursor. Everything pending goes as one message, when the route lets it.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use tokio::sync::watch;
use tokio::time::Instant;

use super::lines::{Known, lines};
use super::message::escape::Plain;
use super::message::{Content, Message, Names};
use super::plan::LanePlan;
use super::{Fault, Report, Transport};
use crate::core::digest::Digest;
use crate::core::event::Record;
use crate::core::policy::Secrets;
use crate::core::route::{Hold, Moment, Share};
use crate::sink::cursor::Cursor;
use crate::sink::{Backoff, now};
use crate::store::{Store, StoreError};

/// Records read from the ledger at once.
const BATCH: usize = 256;
/// The longest sleep before the clock is asked again: it may have been set, or the machine have slept.
const GLANCE: Duration = Duration::from_secs(60);
/// How long a mail waits for the comparison of lines.
const COMPARING: Duration = Duration::from_secs(2);
/// Nothing got through for so long: others must know, though it is tried on.
const UNHEARD: Duration = Duration::from_secs(15 * 60);
/// An attempt ends, whatever the receiver does.
const ATTEMPT: Duration = Duration::from_secs(180);

pub struct Lane<T> {
    plan: LanePlan,
    transport: T,
    cursor: Cursor,
    zone: TimeZone,
    host: String,
    secrets: Secrets,
    report: Report,
    /// The last record that was looked at.
    read: u64,
    /// Read from the ledger and not yet looked at.
    ahead: VecDeque<Record>,
    /// What was read and is not delivered.
    pending: Option<Digest>,
    /// On its way: it stays the same until the receiver has it, so that a repetition can be told as one.
    message: Option<Message>,
    /// The standing refusal, or the long silence, was reported.
    reported: bool,
    /// Since when every attempt has failed.
    failing: Option<Instant>,
    unheard: Duration,
    /// When silence would last too long.
    beat: Option<Instant>,
}

enum Next {
    Go,
    /// Wait until the ledger grows.
    Rest,
    /// Wait until then, whatever comes.
    Pause(Duration),
}

impl<T: Transport> Lane<T> {
    /// Finds the lane's cursor; a new one is put at the ledger's present end.
    pub fn new(
        plan: LanePlan,
        transport: T,
        secrets: Secrets,
        dir: &Path,
        report: Report,
    ) -> Result<Self, StoreError> {
        let cursor = Cursor::open(dir, &plan.name, plan.after.as_deref())?;
        let (read, zone) = (cursor.seq(), TimeZone::system());
        let beat = plan.heartbeat().map(|period| Instant::now() + period);
        let host = crate::sink::host();
        Ok(Self {
            secrets,
            plan,
            transport,
            cursor,
            zone,
            host,
            report,
            read,
            ahead: VecDeque::new(),
            pending: None,
            message: None,
            reported: false,
            failing: None,
            unheard: UNHEARD,
            beat,
        })
    }

    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.cursor = self.cursor.with_backoff(backoff);
        self
    }

    #[cfg(test)]
    pub fn with_unheard(mut self, unheard: Duration) -> Self {
        self.unheard = unheard;
        self
    }

    /// Works until `stop` turns true. Then what is pending still goes out, once, and without waiting for the window.
    pub async fn run(mut self, mut grown: watch::Receiver<u64>, mut stop: watch::Receiver<bool>) {
        loop {
            // Before the ledger is read: what is appended meanwhile wakes us again.
            grown.borrow_and_update();
            let stopping = *stop.borrow();
            let next = self.step(stopping).await;
            if matches!(next, Next::Go) {
                continue;
            }
            if stopping {
                return;
            }
            // What is on its way says as much as a heartbeat.
            let beat = self.beat.filter(|_| self.message.is_none());
            let woken = tokio::select! {
                told = async { stop.wait_for(|stop| *stop).await.is_ok() } => told,
                () = until(beat) => {
                    self.heartbeat().await;
                    true
                }
                woken = wait(&next, &mut grown) => woken,
            };
            if !woken {
                return;
            }
        }
    }

    async fn step(&mut self, stopping: bool) -> Next {
        if self.message.is_none() {
            if self.gather().await.is_none() {
                return Next::Pause(self.cursor.patience(None));
            }
            if self.pending.is_none() {
                if self.read > self.cursor.seq() {
                    self.cursor.pass(self.read).await;
                }
                return Next::Rest;
            }
            let now = Zoned::new(Timestamp::now(), self.zone.clone());
            match self.plan.route.moment(self.plan.share, &now, self.cursor.last_success()) {
                Moment::Held(_, Hold::Window) if stopping => {}
                Moment::Held(until, _) => {
                    let left = Duration::try_from(until.duration_since(now.timestamp())).unwrap_or_default();
                    return Next::Pause(left.min(GLANCE));
                }
                Moment::Now => {}
            }
            self.message = self.compose().await;
        }
        match self.message.take() {
            Some(message) => self.attempt(message).await,
            None => Next::Go,
        }
    }

    /// Reads on, up to the ledger's end, or to the first record where each is its own message.
    async fn gather(&mut self) -> Option<()> {
        loop {
            if self.plan.route.group.is_zero() && self.pending.is_some() {
                return Some(());
            }
            if self.ahead.is_empty() {
                self.ahead = self.cursor.read(self.read, BATCH).await?.into();
            }
            let Some(record) = self.ahead.pop_front() else { return Some(()) };
            self.read = record.seq;
            if self.takes(&record) {
                match &mut self.pending {
                    Some(digest) => digest.add(&record),
                    None => self.pending = Some(Digest::new(&record)),
                }
            }
        }
    }

    fn takes(&self, record: &Record) -> bool {
        self.plan.share.has(record.event.severity) && self.plan.route.takes(&record.event, &self.zone)
    }

    /// Names are looked up where a slow directory delays nobody else.
    async fn compose(&mut self) -> Option<Message> {
        let pending = self.pending.take()?;
        let route = self.plan.alert.clone();
        let named = tokio::task::spawn_blocking(move || {
            let names = Names::of(&pending);
            Message::pending(&route, pending, names)
        });
        match named.await {
            Ok(mut message) => {
                message.lines = self.lines(&message).await;
                Some(message)
            }
            Err(_) => {
                self.read = self.cursor.seq();
                self.ahead.clear();
                None
            }
        }
    }

    /// Those that compare have their own pace; a message waits for them a moment only.
    async fn lines(&self, message: &Message) -> Vec<Plain> {
        let Content::Record(record) = &message.content else { return Vec::new() };
        if !self.transport.shows_lines() || !record.event.kind.is_change() {
            return Vec::new();
        }
        let deadline = Instant::now() + COMPARING;
        loop {
            let (record, secrets) = (record.clone(), self.secrets.clone());
            let known = move |store: &mut Store| lines(store, record.seq, &record.event, &secrets);
            match self.cursor.with_store(known).await {
                Ok(Known::Lines(lines)) => return lines,
                Ok(Known::Soon) if Instant::now() < deadline => tokio::time::sleep(COMPARING / 40).await,
                Ok(Known::Soon) => return vec![Plain::new("the lines are not compared yet")],
                Err(why) => return vec![Plain::new(&format!("the lines cannot be read: {why}"))],
            }
        }
    }

    async fn attempt(&mut self, message: Message) -> Next {
        match self.send(&message).await {
            Ok(_) => {
                self.cursor.done(self.read, true, &[]).await;
                self.works();
                self.beat_again(self.plan.heartbeat());
                Next::Go
            }
            Err(Fault::Final { reason }) => {
                let reason = format!("message {} was refused: {reason}", message.id);
                self.cursor.refused(self.read, message.count(), reason.clone()).await;
                self.tell(&reason);
                Next::Go
            }
            Err(Fault::Passing { reason, retry_after }) => {
                self.message = Some(message);
                Next::Pause(self.failed(reason, retry_after).await)
            }
        }
    }

    async fn send(&mut self, message: &Message) -> Result<String, Fault> {
        let attempt = tokio::time::timeout(ATTEMPT, self.transport.send(message)).await;
        let endless = |_| Fault::Passing { reason: "the attempt took too long".into(), retry_after: None };
        attempt.map_err(endless)?
    }

    async fn heartbeat(&mut self) {
        let message = Message::heartbeat(&self.plan.alert, &self.host, now());
        let next = match self.send(&message).await {
            Ok(_) => {
                self.cursor.heard().await;
                self.works();
                self.plan.heartbeat()
            }
            Err(Fault::Final { reason }) => {
                let reason = format!("the heartbeat was refused: {reason}");
                self.cursor.fail(reason.clone(), false).await;
                self.tell(&reason);
                self.plan.heartbeat()
            }
            Err(Fault::Passing { reason, retry_after }) => Some(self.failed(reason, retry_after).await),
        };
        self.beat_again(next);
    }

    fn works(&mut self) {
        (self.reported, self.failing) = (false, None);
    }

    /// When to try again. Others are told before the silence has lasted too long, not after the next attempt.
    async fn failed(&mut self, reason: String, retry_after: Option<Duration>) -> Duration {
        let pause = self.cursor.patience(retry_after);
        let since = *self.failing.get_or_insert_with(Instant::now);
        if since.elapsed() + pause >= self.unheard {
            let minutes = self.unheard.as_secs().div_ceil(60);
            self.tell(&format!("nothing is taken for {minutes} min, and it is tried on: {reason}"));
        }
        self.cursor.fail(reason, false).await;
        pause
    }

    fn beat_again(&mut self, after: Option<Duration>) {
        self.beat = after.map(|period| Instant::now() + period);
    }

    /// Once until something gets through: two alerts that are both dead would tell of each other for ever.
    fn tell(&mut self, reason: &str) {
        if self.reported {
            return;
        }
        let name = &self.plan.name;
        self.reported = (self.report)(format!(
            "the alert {name:?} does not get through: {reason}; correct its receiver or its secret, then run `fim alert test`"
        ));
    }
}

impl LanePlan {
    /// Critical records come beside the others: one heartbeat is enough.
    fn heartbeat(&self) -> Option<Duration> {
        self.route.heartbeat.filter(|_| self.share != Share::Critical)
    }
}

/// False when nothing will ever come any more.
async fn wait(next: &Next, grown: &mut watch::Receiver<u64>) -> bool {
    match next {
        Next::Go => true,
        Next::Rest => grown.changed().await.is_ok(),
        Next::Pause(time) => {
            tokio::time::sleep(*time).await;
            true
        }
    }
}

/// Never, without a time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
