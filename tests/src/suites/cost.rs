//! What a file costs, in system calls: these can be counted exactly where seconds cannot, so that a call which is added for
//! every file fails here. Two trees of different size are looked at; the difference is what their files alone cost.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use crate::fim::{Fim, Policy, Setting};
use crate::report::{Outcome, Report};
use crate::wait;

/// What touches files. Left out is what depends on threads and on memory, and what SQLite does to its database.
const ALL: &str = "open,openat,openat2,close,read,readlinkat,stat,fstat,lstat,newfstatat,statx,fstatfs,statfs,getxattr,\
    lgetxattr,fgetxattr,listxattr,llistxattr,flistxattr,ioctl,getdents64,fadvise64";
/// Of the daemon only what it does to watched files: how often it looks into /proc depends on how soon processes end.
const LOOKS: &str =
    "openat2,statx,ioctl,getxattr,lgetxattr,fgetxattr,listxattr,llistxattr,flistxattr,name_to_handle_at";
const CHANGES: &str = "openat2,fstatfs,ioctl,getxattr,lgetxattr,fgetxattr,listxattr,llistxattr,flistxattr,linkat,renameat2,\
    unlinkat,fchownat,fchmod,fchmodat,utimensat,mkdirat";

/// Files of the smaller and of the larger tree.
const FILES: (u32, u32) = (200, 700);
const RESTORES: (u32, u32) = (30, 130);
/// Older than any clock tick of a file system that fim takes into account.
const SETTLED: Duration = Duration::from_millis(200);

/// openat2, statx, openat, flistxattr, ioctl, read, statx, and the two descriptors closed.
const READ_WHOLE: f64 = 9.0;
/// statx.
const UNCHANGED: f64 = 1.0;
/// Of these a restored file needs most for being read twice, and for its attributes and flags.
const RESTORED: f64 = 23.0;

/// One measurement: what is counted of how many files, and how many calls a file may cost.
struct Case {
    name: &'static str,
    counted: &'static str,
    files: (u32, u32),
    limit: f64,
    policy: Policy,
}

pub fn run(setting: &Setting, report: &mut Report) {
    let case = |name, counted, files, limit, policy| Case { name, counted, files, limit, policy };
    let init = case("init", ALL, FILES, READ_WHOLE, Policy::Alert);
    let check = case("check", ALL, FILES, READ_WHOLE, Policy::Alert);
    let at_start = case("start", LOOKS, FILES, UNCHANGED, Policy::Alert);
    let restored = case("restore", CHANGES, RESTORES, RESTORED, Policy::Restore);
    report.case("cost/init", || each(setting, &init, |fim, strace| ended(fim, strace, "init")));
    report.case("cost/check", || {
        each(setting, &check, |fim, strace| {
            fim.init()?;
            ended(fim, strace, "check")
        })
    });
    report.case("cost/start", || each(setting, &at_start, |fim, strace| start(setting, fim, strace)));
    report.case("cost/restore", || each(setting, &restored, |fim, strace| restore(setting, fim, strace)));
}

/// A command that ends by itself, and has to succeed.
fn ended(fim: &Fim, strace: &[String], command: &str) -> Result<(), String> {
    let output = traced(fim, strace, command).output().map_err(|e| format!("strace cannot be run: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("fim {command}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// Files are told to be unchanged by what statx(2) tells, where a change of anything moves the change time.
fn start(setting: &Setting, fim: &Fim, strace: &[String]) -> Result<(), String> {
    fim.init()?;
    let mut daemon = fim.spawn(traced(fim, strace, "run"))?;
    daemon.wait_ready(setting.patience)?;
    wait::until(setting.patience, || fim.at_rest())?;
    stop(daemon, setting)
}

fn restore(setting: &Setting, fim: &Fim, strace: &[String]) -> Result<(), String> {
    fim.init()?;
    let mut daemon = fim.spawn(traced(fim, strace, "run"))?;
    daemon.wait_ready(setting.patience)?;
    let files: Vec<PathBuf> = names(fim).collect();
    for path in files.iter().filter(|path| path.exists()) {
        let approved = fs::read(path).map_err(|e| e.to_string())?;
        fs::write(path, "altered by a test").map_err(|e| e.to_string())?;
        wait::until(setting.patience, || match fs::read(path) {
            Ok(now) if now == approved => Ok(()),
            _ => Err(format!("{} is not restored", path.display())),
        })?;
    }
    wait::until(setting.patience, || fim.at_rest())?;
    stop(daemon, setting)
}

/// strace(1) forwards no signal to what it runs; the daemon is its child.
fn stop(mut daemon: crate::fim::Daemon, setting: &Setting) -> Result<(), String> {
    let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
    let text = fs::read_to_string(&children).map_err(|e| format!("{children}: {e}"))?;
    let child = text.split_whitespace().next().and_then(|pid| pid.parse().ok());
    let child = child.and_then(rustix::process::Pid::from_raw).ok_or("strace runs nothing")?;
    rustix::process::kill_process(child, rustix::process::Signal::TERM).map_err(|e| e.to_string())?;
    wait::until(setting.patience, || match daemon.is_running() {
        true => Err("the daemon does not end after SIGTERM".into()),
        false => Ok(()),
    })
}

/// Has `look` run fim under strace on two trees, and compares what one file more costs with the limit.
fn each(setting: &Setting, case: &Case, look: impl Fn(&Fim, &[String]) -> Result<(), String>) -> Outcome {
    let count = |files: u32| -> Result<BTreeMap<String, u64>, String> {
        let work = setting.works.first().ok_or("no --work")?;
        let fim = Fim::new(setting, work, &format!("cost-{}-{files}", case.name), case.policy)?;
        let config = fs::read_to_string(&fim.config).map_err(|e| e.to_string())?;
        // fim's own tries of its sensors come at a time of their own.
        let mut config = config.replacen("[sensor]\n", "[sensor]\nself_test = \"0s\"\n", 1);
        if case.policy == Policy::Alert {
            config.push_str("keep_versions = false\n");
        }
        fim.write_config(&config).map_err(|e| e.to_string())?;
        make(&fim, files, setting)?;
        let counts = fim.home.join("counts");
        let trace = format!("trace={}", case.counted);
        let strace = ["strace", "-f", "-c", "-U", "calls,name", "-e", &trace, "-o"].map(str::to_owned);
        look(&fim, &[&strace[..], &[counts.display().to_string()]].concat())?;
        let text = fs::read_to_string(&counts).map_err(|e| format!("{}: {e}", counts.display()))?;
        fim.remove();
        Ok(parse(&text))
    };
    let (few, many) = (count(case.files.0)?, count(case.files.1)?);
    let more = f64::from(case.files.1 - case.files.0);
    let mut calls: Vec<(f64, &str)> = many
        .iter()
        .map(|(call, n)| ((*n as f64 - few.get(call).copied().unwrap_or(0) as f64) / more, call.as_str()))
        .filter(|(n, _)| n.abs() >= 0.01)
        .collect();
    calls.sort_by(|a, b| b.0.total_cmp(&a.0));
    let total: f64 = calls.iter().map(|(n, _)| n).sum();
    let told: Vec<String> = calls.iter().map(|(n, call)| format!("{call} {n:.2}")).collect();
    let told = format!("{total:.2} system calls a file: {}", told.join(", "));
    // A few calls are made once for many files.
    if total > case.limit + 0.5 {
        Err(format!("{} are known to be needed; {told}", case.limit))
    } else {
        Ok(told)
    }
}

/// All in one folder, so that the trees differ in nothing but files.
fn make(fim: &Fim, files: u32, setting: &Setting) -> Result<(), String> {
    let mut newest = UNIX_EPOCH;
    for path in names(fim).take(files as usize) {
        fs::write(&path, format!("{} is approved\n", path.display())).map_err(|e| e.to_string())?;
        let meta = fs::metadata(&path).map_err(|e| e.to_string())?;
        newest = UNIX_EPOCH + Duration::new(meta.ctime() as u64, meta.ctime_nsec() as u32);
    }
    // A baseline taken within a tick of the last change is not trusted, and files are read once more.
    wait::until(setting.patience, || match newest.elapsed() {
        Ok(age) if age > SETTLED => Ok(()),
        _ => Err("the files are too young".into()),
    })
}

fn names(fim: &Fim) -> impl Iterator<Item = PathBuf> {
    let watched = fim.watched.clone();
    (0..FILES.1).map(move |index| watched.join(format!("file-{index}")))
}

fn traced(fim: &Fim, strace: &[String], command: &str) -> Command {
    let mut words = strace.iter();
    let mut out = Command::new(words.next().map_or("strace", String::as_str));
    out.args(words).arg("--").args(fim.words(&[command]));
    out
}

/// Lines of `CALLS NAME`, below a headline and above a sum.
fn parse(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (calls, name) = (words.next()?.parse().ok()?, words.next()?);
        (name != "total").then(|| (name.to_owned(), calls))
    };
    text.lines().filter_map(line).collect()
}
