//! The programs that fim is compared with, as far as they are installed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::rounds::{time_command, wait_for};
use crate::setting::{PATIENCE, Setting};

pub struct Aide {
    config: PathBuf,
    database: PathBuf,
    fresh: PathBuf,
}

/// Digests, attributes and ACLs of everything below `tree`, as fim looks at them.
pub fn aide(setting: &Setting, tree: &Path) -> Result<Aide, String> {
    let home = setting.empty("aide")?;
    let aide = Aide { config: home.join("aide.conf"), database: home.join("db"), fresh: home.join("db.new") };
    let text = format!(
        "database_in=file:{}\ndatabase_out=file:{}\ngzip_dbout=no\nreport_url=file:{}\n\
         {} p+i+n+u+g+s+m+c+acl+xattrs+sha256\n",
        aide.database.display(),
        aide.fresh.display(),
        home.join("report").display(),
        tree.display()
    );
    fs::write(&aide.config, text).map_err(|e| format!("{}: {e}", aide.config.display()))?;
    Ok(aide)
}

impl Aide {
    pub fn init(&self) -> Result<f64, String> {
        let took = self.run("--init", &[0])?;
        fs::rename(&self.fresh, &self.database).map_err(|e| format!("{}: {e}", self.fresh.display()))?;
        Ok(took)
    }

    /// Exit codes 1 to 7 say that something differs.
    pub fn check(&self) -> Result<f64, String> {
        self.run("--check", &[0, 1, 2, 3, 4, 5, 6, 7])
    }

    fn run(&self, what: &str, accepted: &[i32]) -> Result<f64, String> {
        time_command(Command::new("aide").arg("--config").arg(&self.config).arg(what), accepted)
    }
}

/// A program that watches a tree in the background. Dropped, it is ended.
pub struct Watcher {
    child: Child,
    /// A rule of the kernel's audit that has to go with it.
    rule: Option<PathBuf>,
}

pub const WATCHERS: [&str; 5] = ["inotifywait", "fatrace", "watchdog", "poller", "auditd"];

const WATCHDOG: &str = r#"
import hashlib, sys, time
from watchdog.observers import Observer
from watchdog.events import FileSystemEventHandler
class Hash(FileSystemEventHandler):
    def on_any_event(self, event):
        if event.is_directory or event.event_type not in ("closed", "modified", "created"):
            return
        try:
            with open(event.src_path, "rb") as file:
                digest = hashlib.sha256(file.read()).hexdigest()
        except OSError:
            return
        if event.event_type == "closed":
            sys.stdout.write(event.src_path + " " + digest + "\n")
            sys.stdout.flush()
observer = Observer()
observer.schedule(Hash(), sys.argv[1], recursive=True)
observer.start()
print("ready", flush=True)
while True:
    time.sleep(1000)
"#;

const POLLER: &str = r#"
import os, sys, time
def look(top):
    seen = {}
    for base, dirs, files in os.walk(top):
        for name in files:
            try:
                stat = os.lstat(os.path.join(base, name))
            except OSError:
                continue
            seen[os.path.join(base, name)] = (stat.st_mtime_ns, stat.st_size)
    return seen
before = look(sys.argv[1])
print("ready", flush=True)
while True:
    time.sleep(30)
    before = look(sys.argv[1])
"#;

/// Starts one of [`WATCHERS`] and waits until it watches. What it reports is read and thrown away.
pub fn watch(name: &str, tree: &Path) -> Result<Watcher, String> {
    let (mut command, ready) = match name {
        "inotifywait" => (inotifywait(tree), Some("Watches established")),
        "fatrace" => {
            let mut command = Command::new("fatrace");
            command.arg("--current-mount").current_dir(tree);
            (command, None)
        }
        "watchdog" => (python(WATCHDOG, tree), Some("ready")),
        "poller" => (python(POLLER, tree), Some("ready")),
        "auditd" => return audit(tree),
        other => return Err(format!("{other} is no watcher")),
    };
    start(&mut command, ready)
}

fn inotifywait(tree: &Path) -> Command {
    let mut command = Command::new("inotifywait");
    command.args(["-m", "-r", "-e", "close_write,create,delete,move,attrib"]).arg(tree);
    command
}

fn python(script: &str, tree: &Path) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", script]).arg(tree);
    command
}

/// Without a line to wait for, a program that has opened its fanotify group is taken to watch.
fn start(command: &mut Command, ready: Option<&str>) -> Result<Watcher, String> {
    let name = command.get_program().display().to_string();
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|e| format!("{name} cannot be run ({e})"))?;
    let (said, lines) = std::sync::mpsc::channel();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    if let Some(out) = out {
        drain(out, said.clone());
    }
    if let Some(err) = err {
        drain(err, said);
    }
    let mut watcher = Watcher { child, rule: None };
    let begun = std::time::Instant::now();
    match ready {
        Some(ready) => loop {
            match lines.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
                Ok(line) if line.contains(ready) => break,
                Ok(_) => {}
                Err(_) => return Err(format!("{name} does not come to watch")),
            }
        },
        None => {
            let links = format!("/proc/{}/fdinfo", watcher.child.id());
            wait_for(&format!("{name} watches"), Duration::from_secs(10), || marks(Path::new(&links)))?;
        }
    }
    match watcher.child.try_wait() {
        Ok(None) => Ok(watcher),
        _ => Err(format!("{name} ended at once")),
    }
}

/// Whether a fanotify group with a mark is open (proc_pid_fdinfo(5)).
fn marks(fdinfo: &Path) -> bool {
    let entries = fs::read_dir(fdinfo).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        fs::read_to_string(entry.path()).is_ok_and(|text| {
            text.contains("fanotify mnt_id")
                || text.contains("fanotify ino")
                || text.contains("fanotify sdev")
        })
    })
}

fn drain(from: impl std::io::Read + Send + 'static, to: std::sync::mpsc::Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = to.send(line);
        }
    });
}

/// The kernel's audit with a rule for the tree, and auditd to write what it says.
fn audit(tree: &Path) -> Result<Watcher, String> {
    let mut command = Command::new("auditd");
    command.args(["-f", "-s", "nochange"]);
    let watcher = start(&mut command, Some("Init complete"));
    let mut watcher = watcher.map_err(|e| format!("auditd does not run here ({e})"))?;
    let rule = Command::new("auditctl").args(["-p", "wa", "-w"]).arg(tree).output();
    match rule {
        Ok(output) if output.status.success() => {
            watcher.rule = Some(tree.to_path_buf());
            Ok(watcher)
        }
        _ => Err("auditctl takes no rule here".into()),
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(tree) = &self.rule {
            let _ = Command::new("auditctl").args(["-p", "wa", "-W"]).arg(tree).output();
        }
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
