//! Which records an alert is for, and when it may speak.

use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::event::{Event, EventKind, Verdict};
use super::policy::Severity;

/// The most that critical records wait for each other.
const CRITICAL_WINDOW: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Records below are not this alert's.
    pub min_severity: Severity,
    /// Roots of watches as records name them; empty: all.
    pub watches: Vec<String>,
    /// Empty: all.
    pub kinds: Vec<EventKind>,
    /// Where somebody judged, only this; `None`: what is not authorised, and what people decided.
    pub verdict: Option<Verdict>,
    /// What happens outside these hours is somebody else's.
    pub hours: Option<Hours>,
    /// Hours in which all but critical records are held.
    pub quiet: Option<Hours>,
    /// After one message everything is gathered for so long; zero: each record is its own message.
    pub group: Duration,
    /// Whether start, end and trouble of fim itself come through, whatever the other keys say.
    pub lifecycle: bool,
    /// The longest silence, so that one that lasts longer means something.
    pub heartbeat: Option<Duration>,
}

/// Which of a route's records one lane carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    All,
    Critical,
    /// All but the critical ones.
    Rest,
}

impl Share {
    pub fn has(self, severity: Severity) -> bool {
        match self {
            Self::All => true,
            Self::Critical => severity == Severity::Critical,
            Self::Rest => severity != Severity::Critical,
        }
    }
}

/// Whether what is pending may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Now,
    /// Not before.
    Held(Timestamp, Hold),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    QuietHours,
    Window,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            min_severity: Severity::Low,
            watches: Vec::new(),
            kinds: Vec::new(),
            verdict: None,
            hours: None,
            quiet: None,
            group: Duration::ZERO,
            lifecycle: true,
            heartbeat: None,
        }
    }
}

impl Route {
    /// Whether critical records need a lane of their own, so that they wait for no others.
    pub fn splits(&self) -> bool {
        self.quiet.is_some() || !self.group.is_zero()
    }

    pub fn takes(&self, event: &Event, zone: &TimeZone) -> bool {
        if event.muted || !self.hours.is_none_or(|hours| hours.contain(&event.time, zone)) {
            return false;
        }
        if self.lifecycle && tells_of_fim(event.kind) {
            return true;
        }
        event.severity >= self.min_severity
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && (self.watches.is_empty() || event.watch.as_ref().is_some_and(|w| self.watches.contains(w)))
            && match (self.verdict, event.verdict) {
                (_, None) => true,
                (None, Some(verdict)) => verdict == Verdict::Unauthorised || !event.kind.is_change(),
                (wanted, verdict) => wanted == verdict,
            }
    }

    /// When a lane with something pending may send; `last` is when it last got something through.
    pub fn moment(&self, share: Share, now: &Zoned, last: Option<Timestamp>) -> Moment {
        let quiet = self.quiet.filter(|hours| share != Share::Critical && hours.has(now.time()));
        if let Some(hours) = quiet {
            return Moment::Held(hours.end_after(now), Hold::QuietHours);
        }
        let window = if share == Share::Critical { self.group.min(CRITICAL_WINDOW) } else { self.group };
        match last.map(|last| (last, last.saturating_add(window).unwrap_or(Timestamp::MAX))) {
            // A clock that was set back must not silence anybody.
            Some((last, end)) if last <= now.timestamp() && now.timestamp() < end => {
                Moment::Held(end, Hold::Window)
            }
            _ => Moment::Now,
        }
    }
}

/// Whether it is about fim's own sight: those who rely on it must know.
pub fn tells_of_fim(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Started
            | EventKind::Stopped
            | EventKind::Reloaded
            | EventKind::CoverageGap
            | EventKind::Trouble
            | EventKind::MaintenanceStarted
            | EventKind::MaintenanceEnded
    )
}

/// A part of each day, local time, perhaps across midnight: from the first minute to before the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    from: Time,
    until: Time,
}

impl Hours {
    /// `22:00-06:00`; `None` when it is anything else, or no time at all.
    pub fn parse(text: &str) -> Option<Self> {
        let (from, until) = text.split_once('-')?;
        let (from, until) = (time_of_day(from)?, time_of_day(until)?);
        (from != until).then_some(Self { from, until })
    }

    pub fn has(self, time: Time) -> bool {
        match self.from < self.until {
            true => self.from <= time && time < self.until,
            false => self.from <= time || time < self.until,
        }
    }

    /// A record without a time that can be read belongs to every hour.
    fn contain(self, rfc3339: &str, zone: &TimeZone) -> bool {
        rfc3339.parse::<Timestamp>().map_or(true, |at| self.has(zone.to_datetime(at).time()))
    }

    /// When the part of the day that `now` lies in ends.
    fn end_after(self, now: &Zoned) -> Timestamp {
        let day = if now.time() < self.until { Ok(now.date()) } else { now.date().tomorrow() };
        let end = day.and_then(|day| now.time_zone().to_timestamp(day.to_datetime(self.until)));
        end.unwrap_or_else(|_| now.timestamp())
    }
}

fn time_of_day(text: &str) -> Option<Time> {
    let (hour, minute) = text.trim().split_once(':')?;
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return None;
    }
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, severity: Severity) -> Event {
        let mut event = Event::about_fim(kind, "h", "lsm", 0, "m".into());
        event.severity = severity;
        event
    }

    fn change(severity: Severity, verdict: Verdict) -> Event {
        let mut event = event(EventKind::Modified, severity);
        (event.watch, event.verdict) = (Some("/etc".into()), Some(verdict));
        event
    }

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone")
    }

    fn at(text: &str) -> Zoned {
        text.parse::<jiff::civil::DateTime>().expect("a time").to_zoned(berlin()).expect("exists")
    }

    #[test]
    fn every_key_passes_over_what_is_not_its_own() {
        let all = Route { lifecycle: false, ..Route::default() };
        let seen = change(Severity::Medium, Verdict::Unauthorised);
        let cases = [
            (all.clone(), true),
            (Route { min_severity: Severity::Medium, ..all.clone() }, true),
            (Route { min_severity: Severity::High, ..all.clone() }, false),
            (Route { watches: vec!["/srv".into(), "/etc".into()], ..all.clone() }, true),
            (Route { watches: vec!["/srv".into()], ..all.clone() }, false),
            (Route { kinds: vec![EventKind::Deleted, EventKind::Modified], ..all.clone() }, true),
            (Route { kinds: vec![EventKind::Deleted], ..all.clone() }, false),
            (Route { verdict: Some(Verdict::Unauthorised), ..all.clone() }, true),
            (Route { verdict: Some(Verdict::Authorised), ..all.clone() }, false),
            // 1970-01-01T00:00Z is one o'clock in Berlin.
            (Route { hours: Hours::parse("01:00-01:01"), ..all.clone() }, true),
            (Route { hours: Hours::parse("00:00-01:00"), ..all.clone() }, false),
        ];
        for (route, expected) in cases {
            assert_eq!(route.takes(&seen, &berlin()), expected, "{route:?}");
        }
        let muted = Event { muted: true, ..seen };
        assert!(!all.takes(&muted, &berlin()));
        // What a trusted updater does is asked for by name; what a person decided is news.
        let updated = change(Severity::Critical, Verdict::Authorised);
        let decided = Event { kind: EventKind::Accepted, ..updated.clone() };
        assert!(!all.takes(&updated, &berlin()) && all.takes(&decided, &berlin()));
        let asked = Route { verdict: Some(Verdict::Authorised), ..all };
        assert!(asked.takes(&updated, &berlin()) && asked.takes(&decided, &berlin()));
    }

    #[test]
    fn what_is_about_fim_itself_comes_through_unless_it_is_unwanted() {
        let strict = Route {
            min_severity: Severity::Critical,
            kinds: vec![EventKind::Deleted],
            watches: vec!["/etc".into()],
            ..Route::default()
        };
        for kind in EventKind::ALL {
            let told = strict.takes(&event(kind, Severity::Low), &berlin());
            assert_eq!(told, tells_of_fim(kind), "{kind:?}");
        }
        let deaf = Route { lifecycle: false, ..strict };
        assert!(!deaf.takes(&event(EventKind::Stopped, Severity::Low), &berlin()));
    }

    #[test]
    fn hours_may_cross_midnight() {
        let time = |text: &str| time_of_day(text).expect("a time");
        let night = Hours::parse("22:00-06:30").expect("hours");
        let within = ["22:00", "23:59", "00:00", "06:29"];
        assert!(within.iter().all(|t| night.has(time(t))));
        assert!(!night.has(time("06:30")) && !night.has(time("21:59")));
        for bad in
            ["", "22:00", "22-06", "24:00-06:00", "22:60-06:00", "8:00-9:00", "08:00-08:00", "+8:00-09:00"]
        {
            assert_eq!(Hours::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn quiet_hours_hold_all_but_what_is_critical() {
        let route = Route { quiet: Hours::parse("22:00-06:00"), ..Route::default() };
        let moment = |share, now| route.moment(share, &at(now), None);
        let morning = at("2026-11-23T06:00").timestamp();
        assert_eq!(moment(Share::Rest, "2026-11-22T23:00"), Moment::Held(morning, Hold::QuietHours));
        assert_eq!(moment(Share::Rest, "2026-11-23T02:00"), Moment::Held(morning, Hold::QuietHours));
        assert_eq!(moment(Share::Rest, "2026-11-23T06:00"), Moment::Now);
        assert_eq!(moment(Share::Critical, "2026-11-22T23:00"), Moment::Now);
        // The hour that daylight saving skips: until 02:30 is until 03:30 that day.
        let route = Route { quiet: Hours::parse("22:00-02:30"), ..Route::default() };
        let held = route.moment(Share::Rest, &at("2026-03-28T23:00"), None);
        assert_eq!(held, Moment::Held(at("2026-03-29T03:30").timestamp(), Hold::QuietHours));
    }

    #[test]
    fn the_first_message_goes_at_once_and_the_next_after_the_window() {
        let route = Route { group: Duration::from_secs(900), ..Route::default() };
        let last = at("2026-11-22T12:00").timestamp();
        let moment = |share, now, last| route.moment(share, &at(now), last);
        assert_eq!(moment(Share::Rest, "2026-11-22T12:01", None), Moment::Now);
        let end = at("2026-11-22T12:15").timestamp();
        assert_eq!(moment(Share::Rest, "2026-11-22T12:01", Some(last)), Moment::Held(end, Hold::Window));
        assert_eq!(moment(Share::Rest, "2026-11-22T12:15", Some(last)), Moment::Now);
        assert_eq!(moment(Share::Critical, "2026-11-22T12:01", Some(last)), Moment::Now);
        assert!(matches!(moment(Share::Critical, "2026-11-22T12:00:30", Some(last)), Moment::Held(..)));
        assert_eq!(
            moment(Share::Rest, "2026-11-22T11:00", Some(last)),
            Moment::Now,
            "the clock was set back"
        );
    }
}
