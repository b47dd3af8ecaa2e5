//! The central database on real servers: PostgreSQL and MariaDB from the system's packages.

mod daemon;
mod lines;
mod outages;
mod server;
mod tampering;
mod world;

use std::path::Path;
use std::time::Duration;

use fim::core::entry::{Digest, Found};
use fim::core::path::RelPath;
use fim::sink::Sink;
use fim::store::EvidenceRow;

use server::{BOTH, Certificates, Kind, PASSWORD, Server, documented};
use world::{Host, event, events};

fn both(test: impl AsyncFn(Kind)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    for kind in BOTH {
        println!("{kind:?}");
        runtime.block_on(test(kind));
    }
}

/// A regular file as it was found.
fn found(size: u64) -> Found {
    let entry = serde_json::json!({
        "kind": "regular", "sha256": Digest([7; 32]), "size": size, "mode": 0o640, "uid": 11, "gid": 12,
        "mtime_ns": 1_700_000_000_123_456_000_i64,
    });
    let identity = serde_json::json!({ "dev": 1, "ino": 2, "ctime_ns": 3, "nlink": 1 });
    serde_json::from_value(serde_json::json!({ "entry": entry, "identity": identity })).expect("sound")
}

#[test]
fn a_record_arrives_with_all_it_says() {
    both(async |kind| {
        let server = Server::start(kind);
        let host = Host::new("web-1", &server);
        let name = b"/etc/caf\xc3\xa9 '\"; DROP TABLE events; -- \n\xff\xfe $1 ? \xf0\x9f\x94\x92";
        let mut odd = event(0);
        odd.set_path(name);
        odd.old_path = Some("/etc/\\xff".into());
        odd.error = Some("no\0room".into());
        odd.muted = true;
        odd.after = Some((&found(77).entry).into());
        let mut long = event(1);
        long.set_path(format!("/{}", "é".repeat(40_000)).as_bytes());
        long.actor = None;
        long.message = Some("x".repeat(3 << 20));
        let path = RelPath::new(&name[5..]).expect("sound");
        let reason = fim::core::quarantine::Reason::Altered;
        let digest = Some(Digest([8; 32]));
        let row = EvidenceRow { watch: "/etc".into(), path, found: found(5), digest, reason };
        let records = {
            let mut store = host.store.lock().expect("unpoisoned");
            store.append_with(&[odd, long], &[], &[(0, row.clone()), (0, row)]).expect("appended")
        };
        host.central().deliver(&records).await.expect("delivered");

        let hex = |column: &str| match kind {
            Kind::Postgres => format!("encode({column}, 'hex')"),
            Kind::Mariadb => format!("lower(hex({column}))"),
        };
        let bytes: String = name.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            server.rows(&format!("SELECT {} FROM events WHERE seq = 1", hex("path_raw"))).join("/"),
            bytes
        );
        assert_eq!(
            server.rows(&format!("SELECT {} FROM events WHERE seq = 1", hex("old_path_raw"))),
            ["2f6574632fff"]
        );
        let columns = "host_id, seq, kind, verdict, response, actor_pid, actor_uid, actor_gid, actor_euid, actor_auid, \
                       actor_exe, after_size, after_mode, after_uid, after_gid, actor_session";
        let expected =
            "web-1|1|modified|unauthorised|restored|4000000001|1000|1001|0|1002|/usr/bin/dash|77|0640|11|12|";
        let null = if kind == Kind::Mariadb { "NULL" } else { "" };
        assert_eq!(
            server.rows(&format!("SELECT {columns} FROM events WHERE seq = 1")),
            [format!("{expected}{null}")]
        );
        let times = match kind {
            Kind::Postgres => {
                "SELECT time AT TIME ZONE 'UTC', after_mtime AT TIME ZONE 'UTC' FROM events WHERE seq = 1"
            }
            Kind::Mariadb => "SELECT time, after_mtime FROM events WHERE seq = 1",
        };
        assert_eq!(server.rows(times), ["2023-11-14 22:13:20.000001|2023-11-14 22:13:20.123456"]);
        let muted = if kind == Kind::Postgres { "muted" } else { "muted = 1" };
        assert_eq!(
            server.number(&format!("SELECT count(*) FROM events WHERE {muted} AND error LIKE 'no%room'")),
            1
        );
        let copies = format!(
            "SELECT number, size, reason, sha256, {} FROM backup_paths ORDER BY number",
            hex("path_raw")
        );
        let digest = "08".repeat(32);
        let copy = |n: u64| format!("{n}|5|altered|{digest}|{bytes}");
        assert_eq!(server.rows(&copies), [copy(0), copy(1)]);
        assert_eq!(
            server.number("SELECT char_length(message) FROM events WHERE seq = 2 AND actor_pid IS NULL"),
            3 << 20
        );
        assert_eq!(server.number("SELECT char_length(path) FROM events WHERE seq = 2"), 40_001);
        assert_eq!(server.number("SELECT count(*) FROM hosts WHERE host_id = 'web-1' AND name = 'host'"), 1);
        assert_eq!(server.unsound(), 0);
    });
}

#[test]
fn what_is_delivered_twice_is_there_once() {
    both(async |kind| {
        let server = Server::start(kind);
        let host = Host::new("a", &server);
        let records = host.append(&events(0..500));
        let mut first = host.central();
        for batch in [&records[..256], &records[..256], &records[100..300]] {
            assert_eq!(first.deliver(batch).await.expect("delivered").count, batch.len());
        }
        // Another session, with the whole beginning unknown to it: the gap before what is offered is filled too.
        let mut second = host.central();
        second.deliver(&records[450..]).await.expect("delivered");
        assert_eq!(server.number("SELECT count(*) FROM events"), 500);
        assert_eq!(server.number("SELECT count(*) FROM conflicts"), 0);
        assert_eq!(server.unsound(), 0);
    });
}

#[test]
fn hosts_that_begin_at_once_make_the_tables_once() {
    both(async |kind| {
        let server = Server::start(kind);
        let hosts: Vec<Host> = (0..6).map(|n| Host::new(&format!("h{n}"), &server)).collect();
        let tasks: Vec<_> = hosts
            .iter()
            .map(|host| {
                let (records, mut central) = (host.append(&events(0..20)), host.central());
                tokio::spawn(async move { central.deliver(&records).await })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic").expect("delivered");
        }
        assert_eq!(server.number("SELECT count(*) FROM fim_schema"), 1);
        assert_eq!(server.number("SELECT count(*) FROM events"), 120);

        server.rows("INSERT INTO fim_schema (version) VALUES (99)");
        let host = Host::new("late", &server);
        let records = host.append(&events(0..1));
        let said = host.central().deliver(&records).await.expect_err("newer tables").to_string();
        assert!(said.contains("version 99") && said.contains("update fim on this host"), "{said}");
        server.rows("DELETE FROM fim_schema WHERE version = 99");
        host.central().deliver(&records).await.expect("it goes on by itself");
    });
}

/// With what docs/central.md calls the least grants, on tables that the administrator made.
#[test]
fn the_least_grants_are_enough_and_refusals_say_what_to_do() {
    both(async |kind| {
        let server = Server::start(kind);
        let maker = Host::new("maker", &server);
        maker.central().deliver(&maker.append(&events(0..1))).await.expect("delivered");
        let grants: &[&str] = match kind {
            Kind::Postgres => &[
                "REASSIGN OWNED BY fim TO root",
                "GRANT SELECT, INSERT ON events, backup_paths, conflicts, differences, event_comparisons TO fim",
                "GRANT SELECT, INSERT, UPDATE ON hosts, ledgers, comparisons TO fim",
                "GRANT SELECT ON fim_schema TO fim",
            ],
            Kind::Mariadb => &[
                "REVOKE ALL ON fim.* FROM fim@localhost",
                "GRANT SELECT, INSERT ON fim.events TO fim@localhost",
                "GRANT SELECT, INSERT ON fim.backup_paths TO fim@localhost",
                "GRANT SELECT, INSERT, UPDATE ON fim.conflicts TO fim@localhost",
                "GRANT SELECT, INSERT, UPDATE ON fim.hosts TO fim@localhost",
                "GRANT SELECT, INSERT, UPDATE ON fim.comparisons TO fim@localhost",
                "GRANT SELECT, INSERT, UPDATE ON fim.differences TO fim@localhost",
                "GRANT SELECT, INSERT, UPDATE ON fim.event_comparisons TO fim@localhost",
                "GRANT SELECT, INSERT, UPDATE ON fim.ledgers TO fim@localhost",
                "GRANT SELECT ON fim.fim_schema TO fim@localhost",
            ],
        };
        grants.iter().for_each(|grant| drop(server.rows(grant)));
        let host = Host::new("least", &server);
        host.central().deliver(&host.append(&events(0..5))).await.expect("delivered");
        assert_eq!(server.number("SELECT count(*) FROM events WHERE host_id = 'least'"), 5);

        let revoke = match kind {
            Kind::Postgres => "REVOKE INSERT ON events FROM fim",
            Kind::Mariadb => "REVOKE INSERT ON fim.events FROM fim@localhost",
        };
        server.rows(revoke);
        let said =
            host.central().deliver(&host.append(&events(5..6))).await.expect_err("no grant").to_string();
        assert!(said.contains("lacks a grant") && said.contains("events"), "{said}");
    });
}

#[test]
fn a_wrong_password_is_told_without_it() {
    both(async |kind| {
        let server = Server::start(kind);
        let host = Host::new("a", &server);
        std::fs::write(host.dir.path().join("password"), "wrong-4417").expect("written");
        let records = host.append(&events(0..1));
        let said = host.central().deliver(&records).await.expect_err("refused").to_string();
        assert!(
            said.contains("does not let the user \"fim\" in") && said.contains("check user, password"),
            "{said}"
        );
        assert!(!said.contains("wrong-4417") && !said.contains(PASSWORD), "{said}");
    });
}

#[test]
fn tls_believes_the_chosen_authority_and_no_other() {
    both(async |kind| {
        let (good, other) = (Certificates::make(), Certificates::make());
        let server = Server::start_with_tls(kind, &good);
        let dir = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("written");
            format!("tls_ca_file = {path:?}")
        };
        let right = Host::with("a", &server.tls_url("localhost"), &file("good.pem", &good.authority));
        right.central().deliver(&right.append(&events(0..3))).await.expect("delivered");
        assert_eq!(server.number("SELECT count(*) FROM events"), 3);

        let refused = async |url: String, line: String| {
            let host = Host::with("b", &url, &line);
            host.central().deliver(&host.append(&events(0..1))).await.expect_err("refused").to_string()
        };
        let wrong = refused(server.tls_url("localhost"), file("other.pem", &other.authority)).await;
        assert!(wrong.contains("certificate") && wrong.contains("cannot reach"), "{wrong}");
        // The certificate is for the name, not for the address.
        let name = refused(server.tls_url("127.0.0.1"), file("good.pem", &good.authority)).await;
        assert!(name.to_lowercase().contains("name") || name.contains("certificate"), "{name}");
        let plain = refused(server.tls_url("localhost"), String::new()).await;
        assert!(plain.contains("localhost"), "{plain}");
        assert_eq!(server.number("SELECT count(*) FROM events"), 3);
    });
}

#[test]
fn a_quiet_host_shows_that_it_is_there() {
    both(async |kind| {
        let server = Server::start(kind);
        let host = Host::new("quiet", &server);
        let mut central = host.central();
        assert_eq!(central.pulse_period(), Some(Duration::from_secs(300)));
        central.pulse().await.expect("greeted before its first record");
        assert_eq!(server.rows("SELECT host_id FROM hosts"), ["quiet"]);
        central.deliver(&host.append(&events(0..2))).await.expect("delivered");
        let seen = || server.rows("SELECT last_seen FROM hosts");
        let before = seen();
        central.pulse().await.expect("greeted");
        assert_ne!(seen(), before);
        assert_eq!(server.number("SELECT count(*) FROM ledgers WHERE last_seq = 2"), 1);
    });
}

#[test]
fn the_documented_questions_are_answered() {
    both(async |kind| {
        let server = Server::start(kind);
        for name in ["a", "b"] {
            let host = Host::new(name, &server);
            let mut event = event(0);
            event.set_path(b"/etc/passwd");
            event.after = Some((&found(3).entry).into());
            host.central().deliver(&host.append(&[event])).await.expect("delivered");
        }
        server.rows("UPDATE hosts SET last_seen = last_seen - INTERVAL '25' HOUR WHERE host_id = 'b'");
        // In the order of the page: the chain, /etc/passwd, silent hosts, one content on many hosts, copies, lines, conflicts.
        let counts: Vec<usize> = documented(kind).iter().map(|query| server.rows(query).len()).collect();
        assert_eq!(counts, [0, 2, 1, 1, 0, 0, 0]);
    });
}

#[test]
fn a_secret_that_others_can_read_is_refused_before_anything_is_tried() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a folder");
    let config = world::config(dir.path(), "a", "postgres://fim@db.invalid/fim", "");
    fim::sink::sql::check(&config).expect("sound, and no server is asked");
    let secret = dir.path().join("password");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let said = fim::sink::sql::check(&config).expect_err("open to others").to_string();
    assert!(said.contains("central database") && said.contains("chmod 600"), "{said}");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let config =
        world::config(dir.path(), "a", "postgres://fim@db.invalid/fim", "tls_ca_file = \"/etc/hosts\"");
    let said = fim::sink::sql::check(&config).expect_err("no certificate").to_string();
    assert!(said.contains("/etc/hosts holds no certificate"), "{said}");
    assert!(Path::new("/etc/hosts").exists());
}
