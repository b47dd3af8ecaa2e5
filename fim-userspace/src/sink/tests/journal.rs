//! Against a real journald, or none.

use std::process::Command;

use super::*;

/// Runs journald in a mount namespace of its own, has the test below send a record, and asks journalctl for it.
const JOURNAL: &str = r#"
set -e
mount -t tmpfs none /run
if [ -d /var/log/journal ]; then mount -t tmpfs none /var/log/journal; fi
mkdir -p /run/systemd/journal /run/log/journal /run/systemd/journald.conf.d
if [ ! -s /etc/machine-id ]; then
    echo 0123456789abcdef0123456789abcdef >/run/machine-id
    mount --bind /run/machine-id /etc/machine-id
fi
printf '[Journal]\nStorage=volatile\nAudit=no\nReadKMsg=no\n' >/run/systemd/journald.conf.d/test.conf
"$JOURNALD" 2>/run/journald.log &
journald=$!
trap 'kill $journald' EXIT
patience() { tries=0; until "$@"; do tries=$((tries + 1)); [ $tries -lt 200 ] || { cat /run/journald.log >&2; exit 9; }; sleep 0.05; done; }
patience test -S /run/systemd/journal/socket
"$SENDER" --exact sink::tests::journal::inside_the_journal_namespace --ignored >&2
arrived() { journalctl -q -D /run/log/journal -o json FIM_KIND=modified FIM_ACTOR_AUID=1002 >/run/found && [ -s /run/found ]; }
patience arrived
cat /run/found
"#;

#[test]
fn journalctl_finds_records_by_their_fields() {
    let places = ["/lib/systemd/systemd-journald", "/usr/lib/systemd/systemd-journald"];
    let Some(journald) = places.iter().find(|p| Path::new(p).exists()) else {
        eprintln!("skipped: there is no systemd-journald here");
        return;
    };
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: a mount namespace needs root");
        return;
    }
    let out = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", JOURNAL])
        .env("JOURNALD", journald)
        .env("SENDER", std::env::current_exe().expect("this test"))
        .output()
        .expect("unshare runs");
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{:?}: {told}", out.status);
    let entry: serde_json::Value = serde_json::from_slice(&out.stdout).expect("one entry");
    let expected = [
        (
            "MESSAGE",
            "modified /etc/a\\x0ab by uid 1000, logged in as uid 1002, /usr/bin/dash, pid 123; restored in 1.2 ms",
        ),
        ("PRIORITY", "3"),
        ("MESSAGE_ID", journald::MESSAGE_ID),
        ("SYSLOG_IDENTIFIER", "fim"),
        ("FIM_SEQ", "42"),
        ("FIM_EVENT_ID", "abababababababababababababababab"),
        ("FIM_PATH", "/etc/a\\x0ab"),
        ("FIM_PATH_RAW", "L2V0Yy9hCmI="),
        ("FIM_WATCH", "/etc"),
        ("FIM_ACTOR_EXE", "/usr/bin/dash"),
        ("FIM_ACTOR_COMM", "sh"),
        ("FIM_ACTOR_PID", "123"),
        ("FIM_ACTOR_UID", "1000"),
        ("FIM_ACTOR_GID", "1001"),
        ("FIM_ACTOR_EUID", "0"),
        ("FIM_ACTOR_AUID", "1002"),
        ("FIM_RESPONSE", "restored"),
        ("FIM_VERDICT", "unauthorised"),
        ("FIM_SEVERITY", "high"),
    ];
    for (field, value) in expected {
        assert_eq!(entry[field], value, "{field} of {entry}");
    }
    assert!(
        entry.get("FIM_OLD_PATH").is_none() && entry.get("FIM_ACTOR_PPID").is_none(),
        "unknown is left out"
    );
}

#[tokio::test]
#[ignore = "started by the test above, in the namespace of its journald"]
async fn inside_the_journal_namespace() {
    if std::env::var_os("JOURNALD").is_none() {
        return;
    }
    let delivered = Journald::new().deliver(&[attributed()]).await.expect("sent");
    assert_eq!(delivered.count, 1);
}

#[tokio::test]
async fn without_a_journal_the_sink_rests() {
    if Path::new("/run/systemd/journal/socket").exists() {
        eprintln!("skipped: there is a journald here");
        return;
    }
    let error = Journald::new().deliver(&[attributed()]).await.expect_err("nobody there");
    assert!(matches!(&error, SinkError::Idle(reason) if reason.contains("no journald")), "{error:?}");
    let dir = state();
    let mut store = Store::open(dir.path()).expect("a store");
    let sink = run(Journald::new(), dir.path());
    sink.append(&mut store, &events(0..1));
    until(|| sink_state(&store, "journald").error.is_some(), || "a word".into()).await;
    sink.finish().await;
    assert_eq!(sink_state(&store, "journald").cursor, 0, "delivered once there is a journal");
}
