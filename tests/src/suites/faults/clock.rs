//! Somebody sets the clock, hours forward and back, while the daemon works.

use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

use super::{Scene, text};
use crate::fim::Setting;
use crate::record::Record;
use crate::report::Outcome;
use crate::state;
use crate::tree::as_approved;
use crate::wait;

/// Seconds, one after the other; together they lead back.
const JUMPS: [i64; 4] = [5 * 3600, -11 * 3600, 40 * 86_400, -40 * 86_400 + 6 * 3600];

pub fn jumps(setting: &Setting) -> Outcome {
    if std::env::var_os("FIM_VM_BPF_LSM").is_none() {
        return Err("this sets the machine's clock, so it runs in `cargo xtask vm` only".into());
    }
    let mut scene = Scene::begin(Scene::fim(setting, "clock")?)?;
    let mut undone = 0;
    for jump in JUMPS {
        let now = clock_gettime(ClockId::CLOCK_REALTIME).map_err(text)?;
        let then = TimeSpec::new(now.tv_sec() + jump, now.tv_nsec());
        clock_settime(ClockId::CLOCK_REALTIME, then).map_err(text)?;
        Scene::write(setting, &scene.file)?;
        wait::until(setting.patience, || {
            let records = scene.fim.log_after(0)?;
            let restored = |r: &&Record| r.is_about(&scene.file) && r.response == "restored";
            let found = records.iter().filter(restored).count();
            if found <= undone {
                return Err(format!("after a jump of {jump} s the change is not undone"));
            }
            as_approved(&scene.fim.watched, &scene.approved)?;
            scene.fim.at_rest()?;
            undone = found;
            Ok(())
        })?;
        scene.alive()?;
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
