//! Against the running kernel, as root: the process table.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::core::actor::{Actor, Confidence, ExePlace};

const UID: u32 = 4242;
const GID: u32 = 2424;

/// The process table alone, which every kernel that fim knows can give.
fn start() -> Ebpf {
    assert!(nix::unistd::geteuid().is_root(), "these tests load programs into the kernel: run them as root");
    let (out, _) = crossbeam_channel::bounded(1);
    let (ebpf, _) = Ebpf::start(Tier::Tracepoint, Directories::new(), out).expect("the tracepoint tier");
    ebpf
}

/// Runs a shell as somebody who is neither root nor of a group of the same number.
fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).uid(UID).gid(GID);
    command
}

fn real_shell() -> String {
    std::fs::canonicalize("/bin/sh").expect("there").to_string_lossy().into_owned()
}

fn pidfd(child: &Child) -> std::os::fd::OwnedFd {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("positive");
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("a pidfd")
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::yield_now();
    }
}

#[test]
fn every_hook_has_its_state_in_the_tracepoint_tier() {
    let ebpf = start();
    assert_eq!(ebpf.tier(), Tier::Tracepoint);
    let table = ebpf.attach_table();
    assert_eq!(
        table.iter().map(|state| state.hook).collect::<std::collections::BTreeSet<_>>().len(),
        Hook::COUNT
    );
    for state in table {
        let expected = if state.hook.is_process() { Attachment::Attached } else { Attachment::Unused };
        assert_eq!(state.attachment, expected, "{}", state.hook.name());
    }
}

#[test]
fn a_process_that_is_gone_is_known_in_full() {
    let ebpf = start();
    let mut child = shell("exit 0; a\nb").spawn().expect("starts");
    let (pid, handle) = (child.id(), pidfd(&child));
    child.wait().expect("reaped");
    let actor = ebpf.identify().identify(pid, Some(handle.as_fd()));
    assert_eq!(actor.confidence, Confidence::Exact);
    assert_eq!((actor.pid, actor.ppid), (Some(pid), Some(std::process::id())));
    assert_eq!((actor.uid, actor.gid, actor.euid), (Some(UID), Some(GID), Some(UID)));
    assert_eq!((actor.fsuid, actor.inner_pid), (Some(UID), None));
    assert_eq!(actor.exe, Some(real_shell()));
    let shell = std::fs::metadata("/bin/sh").expect("there");
    let file = actor.exe_file.expect("known");
    assert_eq!((file.dev, file.ino, file.place), (shell.dev(), shell.ino(), ExePlace::Linked));
    let here = std::env::current_dir().expect("known");
    assert_eq!(actor.cwd.as_deref(), here.to_str());
    assert_eq!(actor.comm.as_deref(), Some("sh"));
    assert_eq!(actor.cmdline, ["/bin/sh", "-c", "exit 0; a\\x0ab"]);
    let parent = actor.ancestors.first().expect("a parent");
    assert_eq!(parent.pid, std::process::id());
    let exe = std::env::current_exe().expect("known");
    assert_eq!(parent.exe.as_deref(), exe.to_str());
    assert_eq!(actor.ancestors.last().expect("an origin").pid, 1);
}

#[test]
fn ids_changed_after_the_exec_are_known_when_the_process_is_gone() {
    let ebpf = start();
    // perl changes its ids itself, long after its exec as root.
    let script = format!("$( = {GID}; $) = '{GID} {GID}'; $< = {UID}; $> = {UID}; exit 0");
    let mut child = Command::new("perl").args(["-e", &script]).spawn().expect("perl starts");
    let (pid, handle) = (child.id(), pidfd(&child));
    child.wait().expect("reaped");
    let actor = ebpf.identify().identify(pid, Some(handle.as_fd()));
    assert_eq!((actor.uid, actor.gid, actor.euid), (Some(UID), Some(GID), Some(UID)), "{actor:?}");
}

#[test]
fn ids_changed_by_a_process_that_lives_are_known() {
    let ebpf = start();
    let script =
        format!("$( = {GID}; $) = '{GID} {GID}'; $< = {UID}; $> = {UID}; $| = 1; print 'x'; <STDIN>");
    let mut child = Command::new("perl")
        .args(["-e", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("perl starts");
    child.stdout.take().expect("piped").read_exact(&mut [0]).expect("ready");
    let actor = ebpf.identify().identify(child.id(), Some(pidfd(&child).as_fd()));
    drop(child.stdin.take());
    child.wait().expect("reaped");
    assert_eq!((actor.uid, actor.gid, actor.euid), (Some(UID), Some(GID), Some(UID)), "{actor:?}");
    assert!(actor.cwd.is_some() && actor.cgroup.is_some(), "{actor:?}");
}

#[test]
fn a_process_older_than_the_table_is_known_after_its_end() {
    let mut child = shell("read line; exit 0").stdin(Stdio::piped()).spawn().expect("starts");
    let (pid, handle) = (child.id(), pidfd(&child));
    // The exec is over when /proc shows its arguments.
    wait_until("the exec", || {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|args| args.starts_with(b"/bin/sh"))
    });
    let ebpf = start();
    drop(child.stdin.take());
    child.wait().expect("reaped");
    let actor = ebpf.identify().identify(pid, Some(handle.as_fd()));
    assert_eq!((actor.pid, actor.uid, actor.gid), (Some(pid), Some(UID), Some(GID)));
    assert_eq!(actor.exe, Some(real_shell()));
    assert_eq!(actor.cmdline, ["/bin/sh", "-c", "read line; exit 0"]);
    assert_eq!(actor.confidence, Confidence::Exact);
}

#[test]
fn a_forked_shell_that_never_execs_keeps_its_own_ids_and_parent() {
    let ebpf = start();
    // The inner shell is a fork alone; `exec 1>&-` tells that it is over.
    let child =
        shell("( read x < /proc/self/stat; echo ${x%% *} )").stdout(Stdio::piped()).spawn().expect("starts");
    let outer = child.id();
    let output = child.wait_with_output().expect("ends");
    let inner: u32 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a pid");
    let actor = ebpf.identify().identify(inner, None);
    assert_eq!(actor.exe, Some(real_shell()));
    assert_eq!((actor.uid, actor.gid), (Some(UID), Some(GID)));
    assert!(inner == outer || actor.ppid == Some(outer), "{actor:?}");
}

#[test]
fn an_executable_without_a_place_says_so() {
    let ebpf = start();
    let memory = rustix::fs::memfd_create("ghost", rustix::fs::MemfdFlags::empty()).expect("memfd");
    let mut file = File::from(memory);
    std::io::copy(&mut File::open("/bin/true").expect("there"), &mut file).expect("copied");
    let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&file));
    // A writable descriptor keeps the kernel from running the file: look at it through a read-only one.
    let readable = File::open(&path).expect("opens");
    drop(file);
    let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&readable));
    let mut child = Command::new(path).spawn().expect("runs");
    let (pid, handle) = (child.id(), pidfd(&child));
    child.wait().expect("reaped");
    let actor = ebpf.identify().identify(pid, Some(handle.as_fd()));
    assert_eq!(actor.exe.as_deref(), Some("/memfd:ghost (deleted)"));
    assert_eq!(actor.exe_file.map(|file| file.place), Some(ExePlace::Memfd));
}

#[test]
fn ten_thousand_processes_do_not_lose_the_last() {
    let ebpf = start();
    let mut child = shell("i=0; while [ $i -lt 10000 ]; do ( : ) ; i=$((i+1)); done; exec /bin/true end")
        .spawn()
        .expect("starts");
    let (pid, handle) = (child.id(), pidfd(&child));
    child.wait().expect("reaped");
    let actor = ebpf.identify().identify(pid, Some(handle.as_fd()));
    assert_eq!(actor.cmdline, ["/bin/true", "end"]);
    assert_eq!(actor.uid, Some(UID));
}

#[test]
fn nobody_is_named_for_an_id_that_never_was() {
    let ebpf = start();
    let free = (2..4_000_000)
        .rev()
        .find(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
        .expect("one");
    assert_eq!(ebpf.identify().identify(free, None), Actor { pid: Some(free), ..Actor::unknown() });
}

#[test]
fn a_tier_with_hooks_on_files_is_had_or_its_refusal_explained() {
    assert!(nix::unistd::geteuid().is_root(), "these tests load programs into the kernel: run them as root");
    let (out, _signals) = crossbeam_channel::bounded(16);
    let (ebpf, refused) = Ebpf::start(Tier::Lsm, Directories::new(), out).expect("some tier");
    let refused: Vec<Tier> = refused.iter().map(|r| r.tier).collect();
    let expected: Vec<Tier> =
        [Tier::Lsm, Tier::Fentry].into_iter().filter(|tier| *tier < ebpf.tier()).collect();
    assert_eq!(refused, expected);
    let _: Arc<dyn Marks> = Arc::new(ebpf);
}

#[test]
fn a_report_about_a_gone_process_is_not_laid_on_the_next_one_with_its_id() {
    let ebpf = start();
    let mut first = shell("exit 0; first").spawn().expect("starts");
    let (pid, handle) = (first.id(), pidfd(&first));
    first.wait().expect("reaped");
    // The kernel gives out the id after the last one (proc_sys_kernel(5)); other tests take ids too, so try again.
    let mut second = None;
    wait_until("the id being used again", || {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).expect("root may choose ids");
        let mut child = shell("read line; : second").stdin(Stdio::piped()).spawn().expect("starts");
        if child.id() == pid {
            second = Some(child);
            return true;
        }
        drop(child.stdin.take());
        child.wait().expect("reaped");
        false
    });
    let about_first = ebpf.identify().identify(pid, Some(handle.as_fd()));
    let mut second = second.expect("found");
    let about_second = ebpf.identify().identify(pid, Some(pidfd(&second).as_fd()));
    drop(second.stdin.take());
    second.wait().expect("reaped");
    assert_eq!(about_first.cmdline.last().map(String::as_str), Some("exit 0; first"));
    assert_eq!(about_second.cmdline.last().map(String::as_str), Some("read line; : second"));
    assert!(about_first.start_ns < about_second.start_ns);
}
