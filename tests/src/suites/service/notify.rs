//! What the daemon says to systemd (sd_notify(3)), heard on a socket of our own.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::fim::{Daemon, Fim, Policy, Setting};
use crate::report::Outcome;
use crate::wait;

struct Manager {
    socket: UnixDatagram,
    patience: Duration,
}

impl Manager {
    /// A daemon that is told of this manager; `watchdog` in microseconds.
    fn start(fim: &Fim, setting: &Setting, watchdog: Option<u64>) -> Result<(Self, Daemon), String> {
        let path = fim.home.join("notify");
        let socket = UnixDatagram::bind(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut command = fim.command(&["run"]);
        command.env("NOTIFY_SOCKET", &path);
        if let Some(usec) = watchdog {
            command.env("WATCHDOG_USEC", usec.to_string());
        }
        let daemon = fim.spawn(command)?;
        let manager = Self { socket, patience: setting.patience };
        manager.hears(|said| said.contains("READY=1"), "READY=1")?;
        Ok((manager, daemon))
    }

    /// The next message within `time`.
    fn next(&self, time: Duration) -> Option<String> {
        let mut bytes = [0; 4096];
        self.socket.set_read_timeout(Some(time.max(Duration::from_millis(1)))).ok()?;
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    fn hears(&self, wanted: impl Fn(&str) -> bool, what: &str) -> Result<String, String> {
        let start = Instant::now();
        while let Some(said) = self.next(self.patience.saturating_sub(start.elapsed())) {
            if wanted(&said) {
                return Ok(said);
            }
        }
        Err(format!("the service manager does not hear {what}"))
    }

    /// Whether it hears an answer to the watchdog within `time`.
    fn alive(&self, time: Duration) -> bool {
        let start = Instant::now();
        while let Some(left) = time.checked_sub(start.elapsed()) {
            if self.next(left).is_some_and(|said| said.contains("WATCHDOG=1")) {
                return true;
            }
        }
        false
    }
}

/// `RELOADING=1` with the time, then `READY=1`: for a new configuration, for the same, and for one that is refused.
pub fn reload_is_told(setting: &Setting) -> Outcome {
    let fim = Fim::new(setting, &setting.works[0], "notify", Policy::Restore)?;
    fim.init()?;
    let (manager, daemon) = Manager::start(&fim, setting, None)?;
    let good = std::fs::read_to_string(&fim.config).map_err(|e| e.to_string())?;
    // Of `systemctl reload` two hangups may come, one of Type=notify-reload and one of ExecReload=.
    let texts =
        [good.clone(), format!("{good}severity = \"low\"\n"), "nonsense".into(), "nonsense".into(), good];
    for text in texts {
        fim.write_config(&text).map_err(|e| e.to_string())?;
        daemon.hang_up()?;
        let said = manager.hears(|said| said.contains("RELOADING=1"), "RELOADING=1")?;
        let time = said.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse::<u64>().ok());
        time.filter(|usec| *usec > 0).ok_or_else(|| format!("no time of the reload in {said:?}"))?;
        let said = manager.hears(|said| said.contains("READY=1"), "READY=1 after the reload")?;
        if (text == "nonsense") != said.contains("refused") {
            return Err(format!("of {text:?} systemd hears {said:?}"));
        }
    }
    wait::until(setting.patience, || fim.at_rest())?;
    let told = fim.log_after(0)?.iter().filter(|r| r.kind == "trouble").count();
    if told != 1 {
        return Err(format!("{told} records of one configuration that was refused"));
    }
    daemon.stop(setting.patience)?;
    manager.hears(|said| said.contains("STOPPING=1"), "STOPPING=1")?;
    fim.remove();
    Ok(String::new())
}

/// The watchdog is answered while every loop turns. One that is held makes the answers end, and they come again after it.
pub fn watchdog(setting: &Setting) -> Outcome {
    // The loops turn each second; systemd is answered four times in this.
    const PERIOD: Duration = Duration::from_secs(12);
    let fim = Fim::new(setting, &setting.works[0], "watchdog", Policy::Restore)?;
    fim.init()?;
    let (manager, daemon) = Manager::start(&fim, setting, Some(PERIOD.as_micros() as u64))?;
    if !manager.alive(PERIOD) {
        return Err("the watchdog is not answered".into());
    }
    let mut held = Vec::new();
    for name in ["fim-reconcile", "fim-fanotify", "fim-ebpf"] {
        let Some(thread) = thread(daemon.pid(), name)? else { continue };
        let failed = |e: nix::Error| format!("{name} cannot be held: {e}");
        ptrace::seize(thread, ptrace::Options::empty()).map_err(failed)?;
        ptrace::interrupt(thread).map_err(failed)?;
        waitpid(thread, Some(WaitPidFlag::__WALL)).map_err(failed)?;
        // One answer may have been due before the next look.
        manager.alive(PERIOD / 2);
        let answered = manager.alive(PERIOD);
        ptrace::detach(thread, None).map_err(failed)?;
        if answered {
            return Err(format!("the watchdog is answered though {name} stands still"));
        }
        if !manager.alive(PERIOD) {
            return Err(format!("the watchdog is not answered though {name} turns again"));
        }
        held.push(name);
    }
    if !held.contains(&"fim-reconcile") {
        return Err("there is no thread fim-reconcile".into());
    }
    daemon.stop(setting.patience)?;
    fim.remove();
    Ok(format!("({})", held.join(", ")))
}

/// The thread of this name.
fn thread(pid: u32, name: &str) -> Result<Option<Pid>, String> {
    let tasks = format!("/proc/{pid}/task");
    for task in std::fs::read_dir(&tasks).map_err(|e| format!("{tasks}: {e}"))?.flatten() {
        let comm = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let tid = Path::new(&task.file_name()).to_str().and_then(|tid| tid.parse().ok());
        if comm.trim_end() == name {
            return Ok(tid.map(Pid::from_raw));
        }
    }
    Ok(None)
}
