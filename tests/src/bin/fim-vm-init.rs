//! PID 1 of the test machines: mounts what is needed, runs what /etc/fim-vm.json says, prints one result line, powers off.
//!
//! Console lines that the host reads: `FIM-VM-BEGIN NAME`, `FIM-VM-RUN NAME: N passed, N failed in N s`,
//! `FIM-VM-NOTE …`, and as the last one `FIM-VM-RESULT passed=N failed=N`.
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::OFlags;
use rustix::mount::MountFlags;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::process::WaitOptions;
use rustix::system::RebootCommand;
use serde::Deserialize;

const CONFIG: &str = "/etc/fim-vm.json";
const DISKS: [&str; 3] = ["ext4", "xfs", "btrfs"];

#[derive(Deserialize)]
struct Config {
    /// Whether `bpf` is in the kernel's lsm= list.
    bpf_lsm: bool,
    #[serde(default)]
    shell: bool,
    /// Hand over to the system on the first disk.
    #[serde(default)]
    root: bool,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    name: String,
    argv: Vec<String>,
    timeout_s: u64,
    /// Only some cases were asked for, perhaps none of this run's.
    #[serde(default)]
    may_be_empty: bool,
}

fn main() {
    if std::env::args().any(|arg| arg == "--self-check") {
        self_check();
        return;
    }
    let (passed, failed) = match boot() {
        Ok(counts) => counts,
        Err(error) => {
            println!("FAIL machine: {error:#}");
            (0, 1)
        }
    };
    println!("FIM-VM-RESULT passed={passed} failed={failed}");
    power_off();
}

fn power_off() -> ! {
    rustix::fs::sync();
    // The serial port's last bytes leave before the power does: tcdrain on the console.
    let _ = rustix::termios::tcdrain(std::io::stdout());
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
    std::process::exit(1)
}

fn boot() -> Result<(u64, u64)> {
    mounts()?;
    let config: Config = serde_json::from_slice(&fs::read(CONFIG).context("cannot read the configuration")?)?;
    rustix::system::sethostname(b"fim-vm").context("cannot set the host name")?;
    modules()?;
    if config.root {
        hand_over()?;
    }
    file_systems()?;
    loopback_up().context("cannot bring lo up")?;
    if config.shell {
        return shell();
    }
    let (mut passed, mut failed) = (0, 0);
    for run in &config.runs {
        println!("FIM-VM-BEGIN {}", run.name);
        let started = Instant::now();
        let (p, f) = run.carry_out(config.bpf_lsm);
        println!("FIM-VM-RUN {}: {p} passed, {f} failed in {} s", run.name, started.elapsed().as_secs());
        passed += p;
        failed += f;
    }
    kernel_warnings().context("cannot read the kernel's log")?;
    Ok((passed, failed))
}

/// Becomes the init of the system on the first disk; what came with this one is put into its /opt/fim-vm.
fn hand_over() -> Result<()> {
    const ROOT: &str = "/newroot";
    wait_for(Path::new("/dev/vda"))?;
    mount("/dev/vda", ROOT, "ext4", "")?;
    let place = Path::new(ROOT).join("opt/fim-vm");
    fs::create_dir_all(&place)?;
    for file in fs::read_dir("/payload").context("there is nothing to hand over")? {
        let file = file?;
        fs::copy(file.path(), place.join(file.file_name()))?;
    }
    for name in ["dev", "proc", "sys"] {
        rustix::mount::mount_move(format!("/{name}"), format!("{ROOT}/{name}"))
            .with_context(|| format!("cannot move /{name}"))?;
    }
    std::env::set_current_dir(ROOT)?;
    rustix::mount::mount_move(ROOT, "/").context("cannot move the root")?;
    rustix::process::chroot(".").context("cannot change the root")?;
    std::env::set_current_dir("/")?;
    let failed = std::os::unix::process::CommandExt::exec(Command::new("/sbin/init").env_clear());
    Err(failed).context("/sbin/init cannot be started")
}

/// The console shows errors only; a warning that our programs provoked would go unseen.
fn kernel_warnings() -> std::io::Result<()> {
    let mut log =
        File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open("/dev/kmsg")?;
    let mut record = [0u8; 8192];
    loop {
        match log.read(&mut record) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&record[..length]);
                if text.contains("WARNING: ") {
                    println!("FIM-VM-NOTE the kernel said {}", text.lines().next().unwrap_or_default());
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            // The record was overwritten before it was read.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(error) => return Err(error),
        }
    }
}

fn mount(source: &str, target: &str, kind: &str, options: &str) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("cannot make {target}"))?;
    let data = CString::new(options)?;
    rustix::mount::mount(source, target, kind, MountFlags::empty(), Some(data.as_c_str()))
        .with_context(|| format!("cannot mount {kind} on {target}"))
}

fn mounts() -> Result<()> {
    for (kind, target, options) in [
        ("proc", "/proc", ""),
        ("sysfs", "/sys", ""),
        ("devtmpfs", "/dev", ""),
        ("tmpfs", "/tmp", "mode=1777"),
        ("tmpfs", "/run", "mode=755"),
        ("devpts", "/dev/pts", ""),
        ("tmpfs", "/dev/shm", "mode=1777"),
        ("securityfs", "/sys/kernel/security", ""),
        ("tracefs", "/sys/kernel/tracing", ""),
        ("bpf", "/sys/fs/bpf", ""),
        ("cgroup2", "/sys/fs/cgroup", ""),
    ] {
        mount(kind, target, kind, options)?;
    }
    for (link, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
    {
        let path = format!("/dev/{link}");
        if !Path::new(&path).exists() {
            std::os::unix::fs::symlink(target, &path).with_context(|| format!("cannot make {path}"))?;
        }
    }
    Ok(())
}

/// Loads the modules in the order the host worked out. One that does not load is reported; what it was for is checked
/// by the mounts.
fn modules() -> Result<()> {
    for name in fs::read_to_string("/modules/order").context("cannot read the list of modules")?.lines() {
        let file =
            File::open(format!("/modules/{name}.ko")).with_context(|| format!("module {name} is missing"))?;
        match rustix::system::finit_module(&file, c"", 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => println!("module {name}: {error}"),
        }
    }
    Ok(())
}

fn file_systems() -> Result<()> {
    wait_for(Path::new("/dev/vdc"))?;
    for (kind, device) in DISKS.into_iter().zip(["/dev/vda", "/dev/vdb", "/dev/vdc"]) {
        mount(device, &format!("/fs/{kind}"), kind, "")?;
    }
    mount("tmpfs", "/fs/tmpfs", "tmpfs", "size=256m,mode=755")?;
    for layer in ["lower", "upper", "work"] {
        fs::create_dir_all(format!("/fs/ext4/.overlay/{layer}"))?;
    }
    let layers =
        "lowerdir=/fs/ext4/.overlay/lower,upperdir=/fs/ext4/.overlay/upper,workdir=/fs/ext4/.overlay/work";
    mount("overlay", "/fs/overlay", "overlay", layers)
}

/// Disks appear a moment after their driver is loaded.
fn wait_for(path: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !path.exists() {
        if Instant::now() > deadline {
            bail!("{} did not appear: were the virtio modules loaded?", path.display());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// RTM_NEWLINK with IFF_UP for interface 1, which is lo in a fresh network namespace (rtnetlink(7)).
fn loopback_up() -> Result<()> {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, sendto, socket};
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_AND_ACK: u16 = 1 | 4;
    const IFF_UP: u32 = 1;
    let mut message = Vec::new();
    message.extend_from_slice(&32u32.to_ne_bytes());
    message.extend_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&REQUEST_AND_ACK.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    // struct ifinfomsg: family, padding, type, index, flags, change mask
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&1i32.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    message.extend_from_slice(&IFF_UP.to_ne_bytes());
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0u8; 256];
    recv(&socket, &mut answer[..], RecvFlags::empty())?;
    // struct nlmsgerr behind the 16 bytes of header: 0, or a negated errno
    let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    if error != 0 {
        return Err(std::io::Error::from_raw_os_error(-error).into());
    }
    Ok(())
}

fn shell() -> Result<(u64, u64)> {
    println!("A shell on kernel {}. `exit` powers the machine off.", release());
    // setsid -c gives it the terminal, for job control and Ctrl-C.
    let mut child = Command::new("/usr/bin/setsid")
        .args(["-c", "-w", "/usr/bin/bash", "-i"])
        .env("PATH", "/usr/bin")
        .env("HOME", "/root")
        .current_dir("/root")
        .stdin(File::options().read(true).write(true).open("/dev/ttyS0")?)
        .spawn()
        .context("no shell in the machine")?;
    child.wait()?;
    Ok((0, 0))
}

/// The counts of a run's last result line, and what went wrong with the program itself.
type Ended = (Option<(u64, u64)>, Option<String>);

impl Run {
    /// A run that counts no failure but ends badly counts one.
    fn carry_out(&self, bpf_lsm: bool) -> (u64, u64) {
        let (counts, problem) = match self.stream(bpf_lsm) {
            Ok(done) => done,
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        if self.may_be_empty && counts == Some((0, 0)) {
            return (0, 0);
        }
        let (passed, mut failed) = counts.unwrap_or((0, 0));
        let problem = problem.or_else(|| counts.is_none().then(|| "no line `N passed, N failed`".to_owned()));
        if let Some(problem) = problem {
            println!("FAIL {}: {problem}", self.name);
            failed = failed.max(1);
        }
        (passed, failed)
    }

    fn stream(&self, bpf_lsm: bool) -> Result<Ended> {
        let (program, arguments) = self.argv.split_first().context("an empty command")?;
        let mut child = Command::new(program)
            .args(arguments)
            .env("PATH", "/usr/bin")
            .env("HOME", "/root")
            .env("RUST_BACKTRACE", "1")
            .env("FIM_VM_BPF_LSM", if bpf_lsm { "1" } else { "0" })
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let pid = i32::try_from(child.id())?;
        let lines = lines(child.stdout.take().context("no standard output")?);
        let deadline = Instant::now() + Duration::from_secs(self.timeout_s);
        let mut counts = None;
        let mut status = None;
        // The program's own end counts, not its output's: something left running may hold the pipe open.
        loop {
            let line = lines.recv_timeout(Duration::from_millis(100));
            if let Ok(line) = &line {
                println!("{line}");
                counts = result(line).or(counts);
            } else if status.is_some() {
                break;
            }
            if status.is_none() {
                status = reap(pid)?;
            }
            if line == Err(RecvTimeoutError::Disconnected) && status.is_none() {
                std::thread::sleep(Duration::from_millis(50));
            }
            if status.is_none() && Instant::now() > deadline {
                // Where everything hangs is worth more than the mere fact.
                let _ = fs::write("/proc/sysrq-trigger", "w");
                kill_all();
                return Ok((counts, Some(format!("no end within {} s", self.timeout_s))));
            }
        }
        kill_all();
        let failed_silently = counts.is_none_or(|(_, failed)| failed == 0);
        let problem = status.filter(|status| failed_silently && status != "exit code 0");
        Ok((counts, problem.map(|status| format!("{program} ended with {status}"))))
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// PID 1 inherits orphans: takes every ended process, and says how `pid` ended once it has.
fn reap(pid: i32) -> Result<Option<String>> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((ended, status))) if ended.as_raw_nonzero().get() == pid => {
                return Ok(Some(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => format!("exit code {code}"),
                    (_, signal) => format!("signal {}", signal.unwrap_or_default()),
                }));
            }
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(error) => bail!("cannot wait for processes: {error}"),
        }
    }
}

/// Everything but PID 1: the next run must not meet the last one's daemon.
fn kill_all() {
    use nix::sys::signal::{Signal, kill};
    let _ = kill(nix::unistd::Pid::from_raw(-1), Signal::SIGKILL);
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Err(_) => return,
        }
    }
}

/// "N passed, N failed"
fn result(line: &str) -> Option<(u64, u64)> {
    let (passed, rest) = line.trim().split_once(" passed, ")?;
    Some((passed.parse().ok()?, rest.strip_suffix(" failed")?.parse().ok()?))
}

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// What the tests rely on in this machine, as cases of their own.
fn self_check() {
    let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let active = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let (mut passed, mut failed) = (0, 0);
    let mut case = |name: &str, good: bool, detail: &str| {
        println!("{} machine {name}: {detail}", if good { "ok  " } else { "FAIL" });
        if good {
            passed += 1
        } else {
            failed += 1
        };
    };
    for kind in ["ext4", "xfs", "btrfs", "tmpfs", "overlay"] {
        let place = format!(" /fs/{kind} ");
        let line = mounted.lines().find(|line| line.contains(&place)).unwrap_or("not mounted");
        case(kind, line.contains(&format!(" - {kind} ")) && writes(kind), line);
    }
    let btf = fs::metadata("/sys/kernel/btf/vmlinux").map(|data| data.len()).unwrap_or(0);
    case("btf", btf > 0, &format!("{btf} bytes, kernel {}", release()));
    let expected = std::env::var("FIM_VM_BPF_LSM").is_ok_and(|value| value == "1");
    case("lsm", active.split(',').any(|name| name.trim() == "bpf") == expected, active.trim());
    case(
        "tracefs",
        Path::new("/sys/kernel/tracing/events/sched/sched_process_exec/id").exists(),
        "sched_process_exec",
    );
    println!("{passed} passed, {failed} failed");
    std::process::exit(if failed == 0 { 0 } else { 1 });
}

fn writes(kind: &str) -> bool {
    let path = format!("/fs/{kind}/.self-check");
    let written = File::create(&path).and_then(|mut file| file.write_all(b"x")).is_ok();
    written && fs::read(&path).is_ok_and(|content| content == b"x") && fs::remove_file(&path).is_ok()
}
