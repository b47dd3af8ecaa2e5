//! Somebody sets the clock, hours, days and years forward and back, while the daemon works and while changes wait for it.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use nix::unistd::Pid;

use super::{Scene, text};
use crate::actor::spawn;
use crate::fim::Setting;
use crate::record::Record;
use crate::report::Outcome;
use crate::state;
use crate::tree::as_approved;
use crate::wait;

/// Seconds, one after the other; together they lead back.
const JUMPS: [i64; 7] = [
    5 * 3600,
    -11 * 3600,
    40 * 86_400,
    -40 * 86_400 + 6 * 3600,
    -9 * 86_400,
    3 * 365 * 86_400,
    -3 * 365 * 86_400 + 9 * 86_400,
];

/// How long the daemon is watched at rest, and how much processor time it may take then.
const REST: Duration = Duration::from_secs(3);
/// USER_HZ, the same on every architecture that fim runs on.
const TICKS_PER_SECOND: u64 = 100;
const IDLE: Duration = Duration::from_millis(600);

pub fn jumps(setting: &Setting) -> Outcome {
    if std::env::var_os("FIM_VM_BPF_LSM").is_none() {
        return Err("this sets the machine's clock, so it runs in `cargo xtask vm` only".into());
    }
    let mut scene = Scene::begin(Scene::fim(setting, "clock")?)?;
    let mut undone = 0;
    for jump in JUMPS {
        let pid = Pid::from_raw(i32::try_from(scene.daemon.pid()).map_err(text)?);
        // One change is seen and not answered when the clock jumps, and one comes after.
        let waiting = scene.fim.watched.join(format!("waiting-{jump}"));
        kill(pid, Signal::SIGSTOP).map_err(text)?;
        let jumped = spawn::start(&setting.actor, &["create".into(), waiting.display().to_string()], false)
            .and_then(|actor| actor.finish())
            .and_then(|()| set_clock(jump))
            .and_then(|()| Scene::write(setting, &scene.file));
        kill(pid, Signal::SIGCONT).map_err(text)?;
        jumped?;
        wait::until(setting.patience, || {
            let records = scene.fim.log_after(0)?;
            let restored = |r: &&Record| r.is_about(&scene.file) && r.response == "restored";
            let found = records.iter().filter(restored).count();
            if found <= undone {
                return Err(format!("after a jump of {jump} s the change is not undone"));
            }
            let quarantined = |r: &Record| r.is_about(&waiting) && r.response == "quarantined";
            let Some(record) = records.iter().find(|r| quarantined(r)) else {
                return Err(format!("what waited during a jump of {jump} s is not quarantined"));
            };
            as_the_clock_says(record)?;
            as_approved(&scene.fim.watched, &scene.approved)?;
            scene.fim.at_rest()?;
            undone = found;
            Ok(())
        })?;
        scene.alive()?;
        let before = processor_time(pid)?;
        std::thread::sleep(REST);
        let spent = processor_time(pid)?.saturating_sub(before);
        if spent > IDLE {
            return Err(format!("after a jump of {jump} s the daemon takes {spent:?} of {REST:?} at rest"));
        }
    }
    state::sound(&scene.fim.state)?;
    let longest = state::count(
        &scene.fim.state,
        "SELECT coalesce(max(body ->> '$.latency_us.detected'), 0) FROM ledger",
    )?;
    if Duration::from_micros(longest) > setting.patience {
        return Err(format!("a latency of {longest} us is a jump of the clock, not a latency"));
    }
    scene.end(setting)?;
    Ok(format!("({undone} changes undone, none took longer than {longest} us to be seen)"))
}

fn set_clock(jump: i64) -> Result<(), String> {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).map_err(text)?;
    let then = TimeSpec::new(now.tv_sec() + jump, now.tv_nsec());
    clock_settime(ClockId::CLOCK_REALTIME, then).map_err(text)
}

/// The ledger has the time that the machine had when the record was made.
fn as_the_clock_says(record: &Record) -> Result<(), String> {
    let told: jiff::Timestamp = record.time.parse().map_err(text)?;
    let now = clock_gettime(ClockId::CLOCK_REALTIME).map_err(text)?;
    match (told.as_second() - now.tv_sec()).abs() {
        0..120 => Ok(()),
        off => Err(format!("a record's time is {off} s off the clock: {}", record.time)),
    }
}

/// proc(5): the 14th and 15th field of `stat`, in clock ticks, the name in the second may hold anything.
fn processor_time(pid: Pid) -> Result<Duration, String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(text)?;
    let rest = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks: u64 = rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}
