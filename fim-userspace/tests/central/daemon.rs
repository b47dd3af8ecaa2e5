//! The real daemon with `[central]`: a change on disk becomes a row.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::server::{Kind, PASSWORD, Server};
use crate::world::until;

fn fim(config: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fim"));
    command.arg("--config").arg(config).args(args).env("FIM_TEST_PASSWORD", PASSWORD).stdin(Stdio::null());
    command
}

#[test]
fn a_change_arrives_in_the_table() {
    if !rustix::process::geteuid().is_root() {
        println!("NOT TESTED: the daemon watches only as root");
        return;
    }
    let server = Server::start(Kind::Postgres);
    let home = tempfile::tempdir().expect("a folder");
    let (tree, config) = (home.path().join("tree"), home.path().join("fim.toml"));
    std::fs::create_dir(&tree).expect("made");
    std::fs::write(tree.join("passwd"), "root").expect("written");
    let text = format!(
        "[state]\ndir = {:?}\n[sensor]\ntier = \"fanotify\"\n[[watch]]\npath = {tree:?}\n\
         [central]\nurl = {:?}\npassword_env = \"FIM_TEST_PASSWORD\"\nhost_id = \"real\"\n",
        home.path().join("state"),
        server.url()
    );
    std::fs::write(&config, text).expect("written");
    let taken = fim(&config, &["init"]).output().expect("runs");
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let mut child =
        fim(&config, &["run"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(lines.by_ref().any(|line| line.expect("text") == "ready"), "it ended before it was ready");
    std::thread::spawn(move || lines.for_each(drop));

    std::fs::write(tree.join("passwd"), "evil").expect("written");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let path = tree.join("passwd").display().to_string();
    let count = |what: &str| -> u64 {
        let (good, said) = server.client(&format!("SELECT count(*) FROM {what} AND path = '{path}'"));
        if good { said.parse().unwrap_or(0) } else { 0 }
    };
    let there =
        || count("events WHERE host_id = 'real' AND kind = 'modified' AND response = 'restored'") == 1;
    runtime
        .block_on(until(Duration::from_secs(30), there, || server.client("SELECT kind, path FROM events").1));
    assert_eq!(
        count("backup_paths WHERE size = 4"),
        1,
        "the altered version is in the vault, and this table says so"
    );
    let lines = "SELECT operation, old_line, new_line, old_text, new_text FROM differences JOIN event_comparisons \
                 USING (host_id, generation, comparison) WHERE since = 'approved'";
    let update = || server.client(lines).1.contains("update|1|1|root|evil");
    runtime.block_on(until(Duration::from_secs(30), update, || server.client(lines).1));
    assert_eq!(std::fs::read(tree.join("passwd")).expect("readable"), b"root");
    let status = fim(&config, &["status"]).output().expect("runs");
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.status.success() && said.contains("central  0 behind"), "{said}");

    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("asked to end");
    assert!(child.wait().expect("ended").success());
    assert_eq!(server.unsound(), 0);
}
